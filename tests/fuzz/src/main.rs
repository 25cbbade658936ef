//! `busway-fuzz --seconds N [--seed N]`: shares the time among the targets; a failing input is written to a file.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use busway_fuzz::ALL;
use busway_types::{Clock as _, SystemClock};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: u64| match arguments.iter().position(|word| word == name) {
        Some(at) => arguments.get(at + 1).and_then(|value| value.parse().ok()),
        None => Some(default),
    };
    let (Some(seconds), Some(seed)) = (number("--seconds", 60), number("--seed", 1)) else {
        say("usage: busway-fuzz [--seconds N] [--seed N]");
        return ExitCode::from(2);
    };
    std::panic::set_hook(Box::new(|_| {}));
    let clock = SystemClock::new();
    let share = Duration::from_secs(seconds) / ALL.len() as u32;
    for target in ALL {
        let began = clock.now();
        let (mut round, mut inputs, mut accepted) = (seed, 0, 0);
        while clock.now().since(began) < share {
            // A tenth of a brief run at a time, so that the time is kept.
            let count = (target.brief / 10).max(1);
            match busway_fuzz::run(target, round, count) {
                Ok(taken) => accepted += taken,
                Err((input, panic)) => return failed(target.name, &input, &panic),
            }
            inputs += count;
            round = round.wrapping_add(1);
        }
        say(&format!("{}: {inputs} inputs, {accepted} accepted, none made it panic", target.name));
    }
    ExitCode::SUCCESS
}

fn failed(target: &str, input: &[u8], panic: &str) -> ExitCode {
    let text = String::from_utf8_lossy(input);
    let hex = input.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let file = PathBuf::from(format!("fuzz-{target}.hex"));
    let written = std::fs::write(&file, hex);
    say(&format!("{target} panicked: {panic}\ninput: {text:?}"));
    match written {
        Ok(()) => say(&format!("it is in {}; put it into tests/fuzz/corpus/{target}/", file.display())),
        Err(error) => say(&format!("it cannot be written to {}: {error}", file.display())),
    }
    ExitCode::FAILURE
}

fn say(text: &str) {
    drop(writeln!(std::io::stdout(), "{text}"));
}

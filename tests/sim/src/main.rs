//! `busway-sim --seeds N`: runs seeds and says what they exercised; exit code 1 names the seed that failed.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use busway_sim::{Coverage, STEPS};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: u64| match arguments.iter().position(|word| word == name) {
        Some(at) => arguments.get(at + 1).and_then(|value| value.parse().ok()),
        None => Some(default),
    };
    let (Some(seeds), Some(first), Some(steps)) =
        (number("--seeds", 100), number("--first", 0), number("--steps", STEPS as u64))
    else {
        say("usage: busway-sim [--seeds N] [--first N] [--steps N]");
        return ExitCode::from(2);
    };
    // The message is printed once, with its seed; the seed says more than a backtrace.
    let told = Arc::new(Mutex::new(String::new()));
    let heard = told.clone();
    std::panic::set_hook(Box::new(move |info| {
        *heard.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string();
    }));
    let mut coverage = Coverage::default();
    for seed in first..first + seeds {
        let ran = catch_unwind(AssertUnwindSafe(|| busway_sim::run(seed, steps as usize, &mut coverage)));
        if ran.is_err() {
            let told = told.lock().unwrap_or_else(PoisonError::into_inner);
            say(&format!(
                "seed {seed} failed: {told}\nagain: cargo xtask sim --first {seed} --seeds 1 --steps {steps}"
            ));
            return ExitCode::FAILURE;
        }
    }
    say(&coverage.to_string());
    ExitCode::SUCCESS
}

fn say(text: &str) {
    drop(writeln!(std::io::stdout(), "{text}"));
}

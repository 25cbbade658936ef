//! `busway log`.

use std::path::PathBuf;

use anyhow::Result;
use busway_log::{IndexState, LogError, Problem, RealFs, RecoveryReport, SegmentReport, Verified, ViewReport};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::failure::Told;
use crate::format::{bytes, count, counted};
use crate::output::{Output, note, shown};
use crate::table::{Align, Table};

/// Look at the log of a bus that is not running
#[derive(Debug, Args)]
#[command(
    long_about = "Looks at the log in a data folder that no node is using.",
    after_help = "Example: busway log verify ./data"
)]
pub(crate) struct LogArgs {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Check every record of a log
    #[command(
        long_about = "Reads the whole log in a data folder and says what is damaged, in which file and at which byte, whether it \
            had been safely stored, what a start would do, and whether the view can be read and fits the log. Changes \
            nothing of the log; the view is opened as a start opens it. Exit code 1 when something that had been \
            safely stored, an index or the view is damaged; writes that a crash interrupted are no damage.\n\n\
            With --json: {\"ok\", \"transactions\", \"events\", \"proven\", \"segments\": [{\"file\", \"transactions\", \"events\", \
            \"bytes\", \"index\", \"intact\"}], \"problems\": [{\"file\", \"at\", \"what\", \"stored\"}], \"view\": \
            {\"folder\", \"ok\", \"applied\" and \"entries\" or \"error\", \"log_is_whole\"}, \"start\": {\"opens\", \"error\" or \
            \"checkpoint\", \"replayed\", \"cut\"}}.",
        after_help = "Example: busway log verify ./data --json"
    )]
    Verify {
        /// The data folder
        dir: PathBuf,
    },
}

pub(crate) fn run(args: &LogArgs, output: &mut Output) -> Result<()> {
    let LogCommand::Verify { dir } = &args.command;
    let verified = busway_log::verify(&RealFs, dir)?;
    if output.is_json() {
        output.json(&as_json(&verified))?;
    } else {
        print(&verified, output)?;
    }
    if verified.is_damaged() {
        output.flush()?;
        return Err(Told.into());
    }
    Ok(())
}

fn index(state: &IndexState) -> &'static str {
    match state {
        IndexState::Good => "good",
        IndexState::Missing => "none",
        IndexState::Damaged => "damaged",
    }
}

fn print(verified: &Verified, output: &mut Output) -> Result<()> {
    let mut table = Table::new(&[
        ("SEGMENT", Align::Left),
        ("TRANSACTIONS", Align::Right),
        ("EVENTS", Align::Right),
        ("SIZE", Align::Right),
        ("INDEX", Align::Left),
        ("RECORDS", Align::Left),
    ]);
    for segment in &verified.segments {
        let SegmentReport { file, seqs, offsets, bytes: size, index: state, intact } = segment;
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let records = if *intact { "ok" } else { "DAMAGED" };
        table.row(vec![
            shown(&name),
            count(seqs.1 - seqs.0),
            count(offsets.1 - offsets.0),
            bytes(*size),
            index(state).to_owned(),
            records.to_owned(),
        ]);
    }
    table.lines().into_iter().try_for_each(|line| output.line(line))?;
    for Problem { file, at, what, stored } in &verified.problems {
        let is_index = file.extension().is_some_and(|extension| extension == "idx");
        let file = shown(&file.display().to_string());
        let meaning = match (stored, is_index) {
            (_, true) => "only an index: it is built again at the next start",
            (true, _) => "this had been safely stored",
            (false, _) => "this had not been safely stored: an interrupted write",
        };
        output.line(format!("{file}, byte {at}: {}; {meaning}", shown(what)))?;
    }
    if let Some(view) = &verified.view {
        output.line(in_view(view))?;
    }
    output.line(start(verified))?;
    if !verified.is_damaged() {
        note(format!(
            "nothing is damaged: {} with {}",
            counted(verified.transactions(), "transaction"),
            counted(verified.events(), "event")
        ));
    }
    Ok(())
}

/// What the view is, in a sentence.
fn in_view(view: &ViewReport) -> String {
    let ViewReport { dir, found, log_is_whole } = view;
    match found {
        Ok(Some((applied, entries))) => {
            format!("view: ok, {} up to transaction {}", counted(*entries, "value"), count(*applied))
        }
        Ok(None) => "view: none; a start makes it from the log".to_owned(),
        Err(error) if *log_is_whole => format!(
            "{}; the log has everything since its beginning: without {} a start makes it again",
            shown(&error.to_string()),
            shown(&dir.display().to_string())
        ),
        Err(error) => {
            format!("{}; the log no longer has everything since its beginning", shown(&error.to_string()))
        }
    }
}

/// What a start would do, in a sentence.
fn start(verified: &Verified) -> String {
    let RecoveryReport { checkpoint, replayed, truncated, .. } = match &verified.start {
        Err(error) => return format!("a start would be refused: {}", shown(&error.to_string())),
        Ok(report) => report,
    };
    let from = checkpoint
        .map_or_else(|| "from the beginning".to_owned(), |covers| format!("from a checkpoint at {}", count(covers)));
    let cut = truncated.as_ref().map_or_else(String::new, |cut| {
        format!(
            ", after cutting {} off {} from byte {}",
            bytes(cut.bytes),
            shown(&cut.file.display().to_string()),
            cut.at
        )
    });
    let read = if verified.problems.iter().any(|p| p.stored) {
        "; reading what is damaged would stop the node with its file and byte"
    } else {
        ""
    };
    format!("a start would go on {from} with {}{cut}{read}", counted(*replayed, "transaction"))
}

fn as_json(verified: &Verified) -> Value {
    let segment = |s: &SegmentReport| {
        json!({
            "file": s.file, "transactions": s.seqs.1 - s.seqs.0, "events": s.offsets.1 - s.offsets.0,
            "bytes": s.bytes, "index": index(&s.index), "intact": s.intact,
        })
    };
    let problem = |p: &Problem| json!({ "file": p.file, "at": p.at, "what": p.what, "stored": p.stored });
    let start = match &verified.start {
        Err(error) => json!({ "opens": false, "error": LogError::to_string(error) }),
        Ok(report) => json!({
            "opens": true,
            "checkpoint": report.checkpoint,
            "replayed": report.replayed,
            "cut": report.truncated.as_ref().map(|cut| json!({ "file": cut.file, "at": cut.at, "bytes": cut.bytes })),
        }),
    };
    let view = verified.view.as_ref().map(|ViewReport { dir, found, log_is_whole }| match found {
        Ok(found) => json!({
            "folder": dir, "ok": true, "applied": found.map(|found| found.0), "entries": found.map(|found| found.1),
            "log_is_whole": log_is_whole,
        }),
        Err(error) => {
            json!({ "folder": dir, "ok": false, "error": LogError::to_string(error), "log_is_whole": log_is_whole })
        }
    });
    json!({
        "ok": !verified.is_damaged(),
        "transactions": verified.transactions(),
        "events": verified.events(),
        "proven": verified.proven,
        "segments": verified.segments.iter().map(segment).collect::<Vec<_>>(),
        "problems": verified.problems.iter().map(problem).collect::<Vec<_>>(),
        "view": view,
        "start": start,
    })
}

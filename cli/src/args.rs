// SPDX-License-Identifier: Apache-2.0
//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Capture every change of a database as a stream of events.
///
/// A pipeline is a file: what is captured, and where it goes. Start with
///
///     highwater demo              see it work, on a Postgres of its own
///     highwater check FILE        what is wrong with a file or its database, and how to mend it
///     highwater run FILE          capture until Ctrl-C
///     highwater tail TOPIC        look at events as they come
///
/// Exit codes: 0 done; 2 change something (settings, privileges, a schema); 75 try again later; 70 a bug.
#[derive(Debug, Parser)]
#[command(name = "highwater", version, verbatim_doc_comment, max_term_width = 100)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Capture until SIGTERM or Ctrl-C, then commit what was captured and end.
    ///
    /// Tables are copied while their log keeps flowing, without a lock. Whatever fails for a while is tried again from the
    /// last checkpoint. SIGHUP reads the file again and captures tables that it now names. A second copy of the same
    /// pipeline stands by and takes over when the first one goes.
    Run(RunArgs),
    /// Go on over a lost position: every table is made right again.
    ///
    /// When `run` ends with a lost position (exit code 2: its slot was dropped, advanced or
    /// invalidated, or the server is of another history), see why, end the stand-by as well, then:
    ///
    ///     highwater renew pipeline.yaml
    ///     highwater run pipeline.yaml
    ///
    /// `renew` makes the slot anew, commits where the log begins from now on and where each topic ends,
    /// and sends nothing. The next run copies every table that has a key into the same topics, one read
    /// event for each row, changed or not; compares the keys; and sends a delete for each row that a
    /// topic has and its table does not. Then the last event of every key is what the table has. What
    /// changed in between does not come one by one, and what a table without a key missed does not come
    /// at all.
    ///
    /// Refused, and nothing is changed (exit code 2): while the pipeline runs, without a checkpoint,
    /// and where the log can be opened at the checkpoint (but see --force).
    #[command(verbatim_doc_comment)]
    Renew(RenewArgs),
    /// Check a pipeline file and its database; changes nothing.
    ///
    /// Each finding says what is the matter, why it matters and the exact SQL that mends it.
    Check(CheckArgs),
    /// Print decoded events of a topic as they come.
    Tail(TailArgs),
    /// List the topics.
    Topics(ReachArgs),
    /// Copy tables, ranges, keys or rows that meet a condition, while the log keeps flowing; steer copies that run.
    Snapshot(SnapshotArgs),
    /// Show what a running pipeline is doing.
    Status(ReachArgs),
    /// Read the pipeline file again and capture tables that it now names, without a restart.
    Reload(ReachArgs),
    /// See it work: a Postgres of its own, three tables, a writer that keeps changing them, and the proof at the end.
    #[cfg(feature = "demo")]
    Demo(DemoArgs),
    /// Print completions for a shell.
    Completions(CompletionsArgs),
}

/// How log lines look.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogForm {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// The pipeline file.
    pub file: PathBuf,
    /// How log lines look; HIGHWATER_LOG chooses which are shown (`debug`, `warn,highwater_runtime=debug`).
    #[arg(long, value_enum, default_value = "text", env = "HIGHWATER_LOG_FORMAT")]
    pub log: LogForm,
}

#[derive(Debug, clap::Args)]
pub struct RenewArgs {
    /// The pipeline file.
    pub file: PathBuf,
    /// Give the position up although the log can be opened there: what follows it comes by the copy, not change by change.
    ///
    /// For a run that finds only while it reads that its position is lost, and for a renewal that has to begin again.
    #[arg(long)]
    pub force: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The pipeline file.
    pub file: PathBuf,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

/// Which pipeline is meant.
#[derive(Debug, Clone, clap::Args)]
pub struct ReachArgs {
    /// The pipeline file.
    #[arg(short, long, default_value = "pipeline.yaml", env = "HIGHWATER_FILE")]
    pub file: PathBuf,
    /// The local socket of the running pipeline, instead of the one that the file names.
    #[arg(short, long, env = "HIGHWATER_SOCKET")]
    pub socket: Option<PathBuf>,
    /// Print JSON, one object a line, instead of text.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct TailArgs {
    /// The topic: `<prefix>.<schema>.<table>`.
    pub topic: String,
    /// Begin with the oldest event held, instead of the next one.
    #[arg(long)]
    pub from_beginning: bool,
    /// End after this many events.
    #[arg(long)]
    pub max: Option<u64>,
    /// End at the present end of the topic, instead of waiting for more.
    #[arg(long)]
    pub until_end: bool,
    #[command(flatten)]
    pub reach: ReachArgs,
}

#[derive(Debug, clap::Args)]
pub struct SnapshotArgs {
    #[command(subcommand)]
    pub command: SnapshotCommand,
}

/// What to do about copies.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Copy tables, or some of their rows.
    ///
    ///     highwater snapshot start public.movies public.people
    ///     highwater snapshot start public.movies --key 17 --key 42
    ///     highwater snapshot start public.cast --key 17,3            (a key of two columns)
    ///     highwater snapshot start public.movies --after 1000 --through 2000
    ///     highwater snapshot start public.movies --where "year >= 2020"
    #[command(verbatim_doc_comment)]
    Start(StartArgs),
    /// List copies: those that run, then those that ended last.
    List(ReachArgs),
    /// Read no further chunks of a copy.
    Pause(OneArgs),
    /// Go on with a copy that was paused.
    Resume(OneArgs),
    /// Give up what is left of a copy; rows that were copied stay.
    Cancel(OneArgs),
    /// Limit how many windows are open at once, over all copies; 0 holds back every chunk.
    Throttle(ThrottleArgs),
    /// Show the evidence that finished chunks left: scope, low and high position, rows read, dropped, emitted.
    Certificates(CertificatesArgs),
}

#[derive(Debug, clap::Args)]
pub struct StartArgs {
    /// Captured tables as `schema.table`.
    #[arg(required = true)]
    pub tables: Vec<String>,
    /// Rows with this key; columns of a key are separated by commas (`\,` is a comma). May be repeated.
    #[arg(long = "key", conflicts_with_all = ["after", "through", "condition"])]
    pub keys: Vec<String>,
    /// Rows behind this key.
    #[arg(long, conflicts_with = "condition")]
    pub after: Option<String>,
    /// Rows up to and including this key.
    #[arg(long, conflicts_with = "condition")]
    pub through: Option<String>,
    /// Rows that meet this condition, in the database's own SQL.
    #[arg(long = "where", value_name = "SQL")]
    pub condition: Option<String>,
    #[command(flatten)]
    pub reach: ReachArgs,
}

#[derive(Debug, clap::Args)]
pub struct OneArgs {
    /// The copy's number, as `highwater snapshot list` shows it.
    pub snapshot: u64,
    #[command(flatten)]
    pub reach: ReachArgs,
}

#[derive(Debug, clap::Args)]
pub struct ThrottleArgs {
    /// The new maximum.
    pub windows_max: u32,
    #[command(flatten)]
    pub reach: ReachArgs,
}

#[derive(Debug, clap::Args)]
pub struct CertificatesArgs {
    /// Of this table only (`schema.table`).
    pub table: Option<String>,
    #[command(flatten)]
    pub reach: ReachArgs,
}

/// Where the demo's events go.
#[cfg(feature = "demo")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DemoTransport {
    /// A folder of this machine.
    Embedded,
    /// A Kafka and a schema registry of its own.
    Kafka,
}

#[cfg(feature = "demo")]
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Where events go.
    #[arg(long, value_enum, default_value = "embedded")]
    pub transport: DemoTransport,
    /// End after the first proof; the exit code is not 0 when anything differs. Without it: until Ctrl-C.
    #[arg(long, env = "DEMO_ONCE", value_parser = clap::builder::FalseyValueParser::new())]
    pub once: bool,
    /// Rows over the three tables, about.
    #[arg(long, default_value_t = 41_250)]
    pub rows: u64,
}

#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell.
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn help_is_worth_reading() {
        let mut command = Args::command().term_width(100);
        insta::assert_snapshot!("help", command.render_long_help());
        for name in ["run", "renew", "check", "tail", "snapshot", "demo"] {
            let sub = command.find_subcommand_mut(name).expect("a command");
            let help = sub.clone().term_width(100).render_long_help();
            insta::assert_snapshot!(format!("help_{name}"), help);
        }
    }
}

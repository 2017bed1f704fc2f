// SPDX-License-Identifier: Apache-2.0
//! The capturing process, from outside: one process per case, so that its CPU and memory are its own.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::failure::{Failure, Result};
use crate::tally::Status;
use crate::topics::Topics;

/// The longest that the process may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// The longest that nothing may move before a case fails. Of a huge transaction nothing is seen until its end was read.
const STALL_MAX: Duration = Duration::from_secs(300);
/// How often it is asked how far it is: rarely enough not to show in what it uses.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// What is captured, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Task {
    /// The pipeline file.
    pub(crate) pipeline: String,
    /// The table, as `schema.table`.
    pub(crate) table: String,
    /// The topics whose records count.
    pub(crate) topics: Topics,
    /// The largest id that the table will have.
    pub(crate) id_max: u64,
    /// Whether the time of each arrival is kept.
    pub(crate) keeps_arrivals: bool,
}

/// What the process is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Question {
    /// How far are you?
    Status,
    /// Copy the table now.
    Snapshot,
    /// Commit what you have and end.
    Stop,
}

/// A capturing process.
#[derive(Debug)]
pub(crate) struct CaptureProcess {
    child: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl CaptureProcess {
    /// Starts this very program as the capture of `task`, which is written to `file`.
    pub(crate) async fn start(task: &Task, file: &Path) -> Result<Self> {
        let text = serde_json::to_string(task).map_err(|error| Failure::during("cannot write a task", error))?;
        std::fs::write(file, text)
            .map_err(|error| Failure::during(format!("cannot write {}", file.display()), error))?;
        let program = std::env::current_exe().map_err(|error| Failure::during("cannot find this program", error))?;
        let mut child = Command::new(program)
            .arg("capture")
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::during("cannot start the capture", error))?;
        let (Some(questions), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::new("the capture has no standard input or output"));
        };
        Ok(Self {
            child,
            questions,
            answers: BufReader::new(answers).lines(),
        })
    }

    /// Asks something and waits for the answer: where the capture stands.
    pub(crate) async fn ask(&mut self, question: Question) -> Result<Status> {
        let asked = async {
            let mut line = serde_json::to_vec(&question).map_err(|error| Failure::during("cannot ask", error))?;
            line.push(b'\n');
            // A process that has ended is noticed by its missing answer.
            let _ = self.questions.write_all(&line).await;
            let answer = self.answers.next_line().await;
            answer.map_err(|error| Failure::during("cannot read the capture's answer", error))
        };
        let answer = timeout(ANSWER_MAX, asked)
            .await
            .map_err(|_| Failure::new(format!("the capture did not answer for {ANSWER_MAX:?}")))??;
        let Some(line) = answer else {
            let status = self.child.wait().await;
            let ended = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            return Err(Failure::new(format!("the capture ended by itself: {ended}")));
        };
        serde_json::from_str(&line).map_err(|error| Failure::during("the capture's answer", error))
    }

    /// Waits until the capture stands as `reached` says. Fails when it stands still for a minute.
    pub(crate) async fn wait_until(&mut self, what: &str, reached: impl Fn(&Status) -> bool) -> Result<Status> {
        let mut moved = (Instant::now(), 0);
        loop {
            let status = self.ask(Question::Status).await?;
            if reached(&status) {
                return Ok(status);
            }
            if status.events != moved.1 {
                moved = (Instant::now(), status.events);
            }
            if moved.0.elapsed() > STALL_MAX {
                return Err(Failure::new(format!(
                    "waiting for {what}: the capture stands still at {} events, {} keys",
                    status.events, status.keys
                )));
            }
            sleep(ASK_EVERY).await;
        }
    }

    /// Lets the capture commit what it has and end; where it stood then.
    pub(crate) async fn stop(mut self) -> Result<Status> {
        let status = self.ask(Question::Stop).await?;
        let ended = timeout(ANSWER_MAX, self.child.wait())
            .await
            .map_err(|_| Failure::new(format!("the capture did not end within {ANSWER_MAX:?}")))?
            .map_err(|error| Failure::during("waiting for the capture's end", error))?;
        if !ended.success() {
            return Err(Failure::new(format!("the capture failed: {ended}")));
        }
        Ok(status)
    }
}

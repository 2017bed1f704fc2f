// SPDX-License-Identifier: Apache-2.0
//! An engine on a stage: lines of a transcript in, lines out. One table `public.t` of columns id, a, b.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use highwater_core::change::{Capture, Change, ChangeVersion, ChunkId, LogItem, Op};
use highwater_core::checkpoint::{Checkpoint, CheckpointId};
use highwater_core::connector::{ChunkRows, ChunkScope, Reconcile};
use highwater_core::dblog::action::Action;
use highwater_core::dblog::input::{Control, Input, SnapshotId, SnapshotRows, SnapshotScope};
use highwater_core::dblog::{AsOfFallback, Engine, EngineSettings, Renewal};
use highwater_core::error::Class;
use highwater_core::image::{Cell, CellRef, RowImage, RowImageBuilder};
use highwater_core::position::{
    MarkId, MarkPlace, Position, ReadView, ResumePoint, TransactionId, TransactionSnapshot,
};
use highwater_core::schema::{Column, Key, TableId, TableName, TableSchema};
use highwater_core::spill::{SpillEntry, SpillRun};
use highwater_core::value::{ColumnDecoder, ValueError, ValueType, ValueWriter};

/// A position that is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At(pub u64);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Position for At {
    fn encode(&self) -> Vec<u8> {
        self.0.to_be_bytes().to_vec()
    }

    fn decode(bytes: &[u8]) -> highwater_core::Result<Self> {
        let bytes = bytes
            .try_into()
            .map_err(|_| highwater_core::Error::bug("a position has 8 bytes"))?;
        Ok(At(u64::from_be_bytes(bytes)))
    }
}

#[derive(Debug)]
struct TextDecoder;

impl ColumnDecoder for TextDecoder {
    fn decode(&self, bytes: &[u8], out: &mut dyn ValueWriter) -> Result<(), ValueError> {
        out.string(std::str::from_utf8(bytes).map_err(|_| ValueError::new("not text"))?);
        Ok(())
    }
}

pub fn shape(number: u64) -> Arc<TableSchema> {
    let column = |name: &str| Column {
        name: name.to_owned(),
        // The key stays what it is.
        database_type: if name == "id" {
            "text".to_owned()
        } else {
            format!("text{number}")
        },
        value_type: ValueType::String,
        nullable: true,
        decoder: Arc::new(TextDecoder),
    };
    let columns = vec![column("id"), column("a"), column("b")];
    Arc::new(TableSchema::new(
        TableId(1),
        TableName::new("public", "t"),
        columns,
        vec![0],
    ))
}

pub fn key(id: &str) -> Key {
    Key::from_columns(&[Some(id)])
}

fn id_of(key: &Key) -> String {
    let column = key
        .columns()
        .and_then(|columns| columns.first().copied().flatten().map(<[u8]>::to_vec));
    String::from_utf8(column.unwrap_or_default()).unwrap_or_default()
}

/// `~` unchanged, `-` not there, `null`, or the value.
pub fn image(cells: &[&str]) -> RowImage {
    let mut builder = RowImageBuilder::default();
    for cell in cells {
        match *cell {
            "~" => builder.cell(Cell::UNCHANGED),
            "-" => builder.cell(Cell::ABSENT),
            "null" => builder.cell(Cell::NULL),
            value => builder.value(value.as_bytes()),
        }
    }
    builder.build()
}

fn cells(image: &RowImage) -> String {
    let text = |cell| match cell {
        CellRef::Value(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        CellRef::Null => "null".to_owned(),
        CellRef::Unchanged => "~".to_owned(),
        CellRef::Absent => "-".to_owned(),
    };
    image.iter().map(text).collect::<Vec<_>>().join(" ")
}

pub struct Stage {
    pub engine: Engine<At>,
    way: Reconcile,
    settings: EngineSettings,
    /// The table's name and number.
    name: String,
    table: u64,
    keyless: bool,
    shape: Arc<TableSchema>,
    open: (u64, u64, u64),
    saved: Option<Checkpoint>,
    runs: BTreeMap<SpillRun, Vec<SpillEntry>>,
    recalls: BTreeMap<ChunkId, Vec<SpillEntry>>,
}

impl Default for Stage {
    fn default() -> Self {
        let settings = EngineSettings {
            chunk_rows_start: 10,
            reads_repeated_max: 2,
            ..EngineSettings::default()
        };
        Stage {
            engine: Engine::new(settings.clone(), "stage", Reconcile::Window, ResumePoint::at(At(0))),
            way: Reconcile::Window,
            settings,
            name: "t".to_owned(),
            table: 1,
            keyless: false,
            shape: shape(1),
            open: (0, 0, 0),
            saved: None,
            runs: BTreeMap::new(),
            recalls: BTreeMap::new(),
        }
    }
}

type Answer = Result<Vec<String>, String>;

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("`{word}` is no number"))
}

/// The word behind `name`.
fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    let at = words.iter().position(|word| *word == name)?;
    words.get(at + 1).copied()
}

impl Stage {
    pub fn perform(&mut self, line: &str) -> Answer {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["way", way] => self.restage(way),
            ["limit", name, value] => self.limit(name, number(value)?),
            ["name", name] => {
                (*name).clone_into(&mut self.name);
                Ok(Vec::new())
            }
            ["table", id] => {
                self.table = number(id)?;
                Ok(Vec::new())
            }
            ["keyless"] => {
                self.keyless = true;
                Ok(Vec::new())
            }
            ["shape", shape_number] => {
                self.shape = self.shape_of(number(shape_number)?);
                self.log(LogItem::Schema(self.shape.clone()))
            }
            ["begin", transaction, "at", commit] => {
                self.open = (number(transaction)?, number(commit)?, 0);
                self.log(LogItem::Begin {
                    transaction: TransactionId(self.open.0),
                    commit: At(self.open.1),
                })
            }
            ["commit"] => self.log(LogItem::Commit {
                transaction: TransactionId(self.open.0),
                position: At(self.open.1),
            }),
            ["progress", at] => self.log(LogItem::Progress(At(number(at)?))),
            ["seen", mark, "at", at] => self.log(LogItem::Watermark {
                mark: MarkId(number(mark)?),
                position: At(number(at)?),
            }),
            ["insert" | "update" | "delete" | "truncate", ..] => self.change(&words),
            ["snapshot", rest @ ..] => self.snapshot(rest, Input::Snapshot),
            ["first", "copy", rest @ ..] => self.snapshot(rest, Input::FirstCopies),
            ["snapshot-gone"] => self.step(Input::SnapshotGone {
                why: "it was let go".into(),
            }),
            ["written", mark, rest @ ..] => {
                let mark = MarkId(number(mark)?);
                let place = match option(rest, "at") {
                    Some(at) => MarkPlace::AtPosition(At(number(at)?)),
                    None => MarkPlace::InLog(mark),
                };
                self.step(Input::MarkWritten { mark, place })
            }
            ["rows", chunk, rest @ ..] => self.rows(number(chunk)?, rest),
            ["failed", chunk, class] => {
                let class = if *class == "retryable" {
                    Class::Retryable
                } else {
                    Class::User
                };
                let chunk = ChunkId(number(chunk)?);
                self.step(Input::ChunkFailed {
                    chunk,
                    class,
                    message: "it failed".into(),
                })
            }
            ["spilled", run] => self.step(Input::Spilled(SpillRun(number(run)?))),
            ["recalled", chunk] => {
                let chunk = ChunkId(number(chunk)?);
                let entries = self.recalls.remove(&chunk).ok_or("nothing was asked")?;
                self.step(Input::Recalled { chunk, entries })
            }
            ["spill", "failed"] => self.step(Input::SpillFailed {
                message: "no room".into(),
            }),
            ["retry"] => self.step(Input::Retry),
            ["horizon", horizon] => self.step(Input::VisibilityHorizon(number(horizon)?)),
            ["checkpoint"] => self.step(Input::CheckpointDue),
            ["saved", id] => self.step(Input::CheckpointSaved(CheckpointId(number(id)?))),
            ["pause", id] => self.step(Input::Control(Control::Pause(SnapshotId(number(id)?)))),
            ["resume", id] => self.step(Input::Control(Control::Resume(SnapshotId(number(id)?)))),
            ["cancel", id] => self.step(Input::Control(Control::Cancel(SnapshotId(number(id)?)))),
            ["spare", spared] => self.step(Input::Control(Control::Spare(spared == &"on"))),
            ["throttle", max] => self.step(Input::Control(Control::Throttle {
                windows_max: number(max)? as u32,
            })),
            ["crash"] => self.crash(),
            ["lost", start, ends @ ..] => self.lose_the_log(number(start)?, ends),
            ["compared"] => self.compared(false),
            ["compared", "last"] => self.compared(true),
            ["compare", "again"] => self.step(Input::CompareAgain(TableName::new("public", &self.name))),
            ["compare", "failed"] => self.step(Input::CompareFailed(TableName::new("public", &self.name))),
            _ => Err("an unknown line".to_owned()),
        }
    }

    /// The table's shape of this number, under the name that it has now.
    fn shape_of(&self, number: u64) -> Arc<TableSchema> {
        let shape = shape(number);
        let name = TableName::new("public", &self.name);
        let columns = shape.columns.clone();
        let key = if self.keyless { Vec::new() } else { vec![0] };
        Arc::new(TableSchema::new(TableId(self.table), name, columns, key))
    }

    fn restage(&mut self, way: &str) -> Answer {
        self.way = match way {
            "window" => Reconcile::Window,
            "as_of" => Reconcile::AsOf,
            "version" => Reconcile::Version,
            _ => return Err("an unknown way".to_owned()),
        };
        self.engine = Engine::new(self.settings.clone(), "stage", self.way, ResumePoint::at(At(0)));
        Ok(Vec::new())
    }

    fn limit(&mut self, name: &str, value: u64) -> Answer {
        let value = value as u32;
        match name {
            "touched_keys" => self.settings.touched_keys_max = value,
            "touched_bytes" => self.settings.touched_bytes_max = value.into(),
            "windows" => self.settings.windows_max = value,
            "reads" => self.settings.reads_max = value,
            "remembered_keys" => self.settings.remembered_keys_max = value,
            "fallback_to_windows" => self.settings.as_of_fallback = AsOfFallback::Windows,
            "repair_queue" => self.settings.repair_queue_max = value,
            _ => return Err("an unknown limit".to_owned()),
        }
        self.engine = Engine::new(self.settings.clone(), "stage", self.way, ResumePoint::at(At(0)));
        Ok(Vec::new())
    }

    fn crash(&mut self) -> Answer {
        let saved = self.saved.as_ref().ok_or("nothing was saved")?;
        self.engine =
            Engine::restore(self.settings.clone(), self.way, "stage", saved).map_err(|error| error.to_string())?;
        let resume = self.engine.resume_point().clone();
        let inside = resume.inside.map_or(String::new(), |inside| {
            format!(", {} changes into transaction {}", inside.ordinal, inside.transaction)
        });
        Ok(vec![format!("resumes after {}{inside}", resume.position)])
    }

    /// The process begins anew with a log that starts elsewhere.
    fn lose_the_log(&mut self, start: u64, ends: &[&str]) -> Answer {
        self.crash()?;
        let ends = ends.iter().map(|end| number(end)).collect::<Result<_, _>>()?;
        let renewal = Renewal::new(TableName::new("public", &self.name), ends);
        self.engine.begin_anew(ResumePoint::at(At(start)), vec![renewal]);
        Ok(vec![format!("resumes after {}", self.engine.resume_point().position)])
    }

    fn compared(&mut self, last: bool) -> Answer {
        let table = TableName::new("public", &self.name);
        self.step(Input::Compared { table, last })
    }

    fn change(&mut self, words: &[&str]) -> Answer {
        self.open.2 += 1;
        let version = match (option(words, "time"), option(words, "version")) {
            (Some(time), _) if words[0] == "delete" => ChangeVersion::Deletion {
                scope: Box::new(highwater_core::change::DeletionScope::Row),
                at: number(time)? as i64,
            },
            (Some(time), _) => {
                let time = number(time)? as i64;
                let written = |cell: &&str| (*cell != "~").then_some(time);
                ChangeVersion::Cells(words[1..4].iter().map(written).collect())
            }
            (_, Some(version)) => ChangeVersion::At(u128::from(number(version)?)),
            _ => ChangeVersion::InOrder,
        };
        let from = option(words, "from").map(|from| image(&[from, "-", "-"]));
        let (op, before, after) = match words {
            ["insert", cells @ ..] => (Op::Create, None, Some(image(&cells[..3]))),
            ["update", cells @ ..] => (Op::Update, from, Some(image(&cells[..3]))),
            ["delete", cells @ ..] if self.keyless => (Op::Delete, Some(image(&cells[..3])), None),
            ["delete", id, ..] => (Op::Delete, Some(image(&[id, "-", "-"])), None),
            _ => (Op::Truncate, None, None),
        };
        let commit = option(words, "version").map_or(Ok(self.open.1), number)?;
        self.log(LogItem::Change(Change {
            schema: self.shape.clone(),
            op,
            before,
            after,
            position: At(commit),
            commit: At(commit),
            transaction: TransactionId(self.open.0),
            ordinal: self.open.2,
            source_time_us: 0,
            version,
            capture: Capture::Log,
            origin: None,
        }))
    }

    fn snapshot(&mut self, words: &[&str], input: fn(Vec<SnapshotScope>) -> Input<At>) -> Answer {
        let rows = match words {
            ["all", starts @ ..] => SnapshotRows::All {
                starts: starts.iter().map(|id| key(id)).collect(),
            },
            ["keys", ids @ ..] => SnapshotRows::Keys(ids.iter().map(|id| key(id)).collect()),
            ["range", after, through] => SnapshotRows::Range {
                after: Some(key(after)),
                through: Some(key(through)),
            },
            ["where", condition] => SnapshotRows::Condition((*condition).to_owned()),
            _ => return Err("an unknown scope".to_owned()),
        };
        self.step(input(vec![SnapshotScope {
            table: TableName::new("public", &self.name),
            rows,
        }]))
    }

    /// `rows 1 1,x,y 2,x,y [more] [view xmin:xmax[:ids]] [at n] [shape n] [times a,b]`
    fn rows(&mut self, chunk: u64, words: &[&str]) -> Answer {
        let rows: Vec<RowImage> = words
            .iter()
            .take_while(|word| word.contains(',') && !word.contains(':'))
            .map(|word| image(&word.split(',').collect::<Vec<_>>()))
            .collect();
        let view = match (option(words, "view"), option(words, "at")) {
            (Some(view), _) => ReadView::Transactions(view_of(view)?),
            (_, Some(at)) => ReadView::At(At(number(at)?)),
            _ => ReadView::Ordered,
        };
        let schema =
            option(words, "shape").map_or(Ok(self.shape.clone()), |text| number(text).map(|n| self.shape_of(n)))?;
        let versions = option(words, "times").map(|times| {
            let times: Arc<[Option<i64>]> = times.split(',').map(|time| time.parse().ok()).collect();
            rows.iter().map(|_| times.clone()).collect()
        });
        let last_key = match self.keyless {
            // How far the read came is a place then.
            true => Some(key("end")),
            false => rows.last().and_then(|row| schema.key_of(row)),
        };
        let rows = ChunkRows {
            schema,
            rows,
            versions,
            last_key,
            exhausted: !words.contains(&"more"),
            view,
            read_time_us: 0,
            took_us: self.settings.chunk_time_target_us,
        };
        self.step(Input::ChunkRead {
            chunk: ChunkId(chunk),
            rows,
        })
    }

    fn log(&mut self, item: LogItem<At>) -> Answer {
        self.step(Input::Log(vec![item]))
    }

    fn step(&mut self, input: Input<At>) -> Answer {
        let mut actions = Vec::new();
        self.engine
            .step(input, &mut actions)
            .map_err(|error| error.to_string())?;
        Ok(actions.into_iter().map(|action| self.tell(action)).collect())
    }

    fn tell(&mut self, action: Action<At>) -> String {
        match action {
            Action::Emit(change) => tell_change(&change),
            Action::Schema(schema) => format!("shape {}", schema.columns[1].database_type.trim_start_matches("text")),
            Action::WriteMark { mark, chunk } => format!("write mark {} for chunk {}", mark.0, chunk.0),
            Action::ReadChunk(request) => {
                let place = if request.at_start { " at the start" } else { "" };
                format!("read chunk {}{place}: {}", request.chunk.0, tell_scope(&request.scope))
            }
            Action::Spill { run, entries } => {
                let told = format!("spill run {}: {} keys", run.0, entries.len());
                self.runs.insert(run, entries);
                told
            }
            Action::Recall { chunk, runs, digests } => {
                let told = format!(
                    "recall for chunk {}: {} keys of {} runs",
                    chunk.0,
                    digests.len(),
                    runs.len()
                );
                let entries = runs.iter().filter_map(|run| self.runs.get(run)).flatten();
                let found = entries.filter(|entry| digests.contains(&entry.digest)).cloned();
                self.recalls.insert(chunk, found.collect());
                told
            }
            Action::Forget(run) => {
                self.runs.remove(&run);
                format!("forget run {}", run.0)
            }
            Action::SaveCheckpoint { id, checkpoint } => {
                self.saved = Some(checkpoint);
                format!("save checkpoint {}", id.0)
            }
            Action::Acknowledge(position) => format!("acknowledge {position}"),
            Action::Started { snapshot, .. } => format!("snapshot {} started", snapshot.0),
            Action::Certificate(proof) => format!(
                "certificate of chunk {}: {} from {} to {}, {} read, {} dropped, {} emitted",
                proof.chunk.0,
                tell_scope(&proof.scope),
                proof.low,
                proof.high,
                proof.rows_read,
                proof.rows_dropped,
                proof.rows_emitted
            ),
            Action::Done { snapshot, outcome } => format!("snapshot {} done: {outcome:?}", snapshot.0),
            Action::Report(report) => format!("report {}", report.code),
            Action::Watch(_) => "watch what leaves".to_owned(),
            Action::Compare { ends, .. } => format!("compare keys before {ends:?} with those since"),
            Action::Remove { position, last, .. } => {
                let last = if last { ", the last" } else { "" };
                format!("remove the keys that are gone at {position}{last}")
            }
        }
    }
}

fn view_of(text: &str) -> Result<TransactionSnapshot, String> {
    let mut parts = text.split(':');
    let mut next = || number(parts.next().unwrap_or_default());
    let (xmin, xmax) = (next()?, next()?);
    let ids = parts.next().filter(|ids| !ids.is_empty());
    let in_progress = ids.map_or(Ok(Vec::new()), |ids| ids.split(',').map(number).collect())?;
    Ok(TransactionSnapshot {
        xmin,
        xmax,
        in_progress,
    })
}

fn tell_scope(scope: &ChunkScope) -> String {
    match scope {
        ChunkScope::Keys(keys) => format!("keys {}", keys.iter().map(id_of).collect::<Vec<_>>().join(" ")),
        ChunkScope::Range {
            after,
            through,
            condition,
        } => {
            let after = after.as_ref().map_or("start".to_owned(), id_of);
            let through = through.as_ref().map_or("end".to_owned(), id_of);
            let condition = condition
                .as_ref()
                .map_or(String::new(), |condition| format!(" where {condition}"));
            format!("({after}, {through}]{condition}")
        }
    }
}

fn tell_change(change: &Change<At>) -> String {
    let row = change.after.as_ref().map(cells);
    match (change.op, change.capture) {
        (Op::Truncate, _) => "emit truncate".to_owned(),
        (Op::Delete, _) => format!("emit delete {}", change.key().as_ref().map(id_of).unwrap_or_default()),
        (_, Capture::Chunk(_)) => format!("emit row {}", row.unwrap_or_default()),
        (_, Capture::Renewal) => "emit nothing: deletes are the driver's".to_owned(),
        (_, Capture::Repair(_)) => format!("emit repaired row {}", row.unwrap_or_default()),
        (op, Capture::Log) => {
            let verb = if op == Op::Create { "insert" } else { "update" };
            let from = change
                .old_key()
                .map_or(String::new(), |old| format!(" from {}", id_of(&old)));
            format!("emit {verb} {}{from}", row.unwrap_or_default())
        }
    }
}

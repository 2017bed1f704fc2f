// SPDX-License-Identifier: Apache-2.0
//! The one thread that changes the store. Commits that wait at the same time share their forcing to the disk:
//! blocks of all of them are written, the files forced, one write of entries to the journal, that forced, then all of them
//! are published. What fails is taken back; nothing is half-visible.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_core::transport::{Offsets, TopicSpec, WriterId};
use highwater_core::{Class, Error, ErrorKind, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::entry::{Commit, Entry};
use super::journal::Journal;
use super::lock::Lock;
use super::settings::Fsync;
use super::state::partition_folder;
use super::store::{REQUESTS_MAX, Store};
use super::tails::{Part, Tails, Undo};

/// A transaction to commit.
pub(super) struct Transaction {
    pub(super) writer: WriterId,
    pub(super) epoch: u64,
    pub(super) parts: Vec<Part>,
    pub(super) checkpoint: Option<Bytes>,
    pub(super) groups: Vec<(String, Offsets)>,
}

type Reply<T> = oneshot::Sender<Result<T>>;

/// What the thread is asked to do.
pub(super) enum Request {
    /// Commit all of it.
    Commit(Box<Transaction>, Reply<()>),
    /// Raise a writer's epoch and say which it is.
    OpenWriter(WriterId, Reply<u64>),
    /// Make the topics that are missing.
    EnsureTopics(Vec<TopicSpec>, Reply<()>),
    /// Note what retention or compaction did; its files are there.
    Replace(Entry, Reply<()>),
    /// Close a partition's last segment.
    Roll(String, u32, Reply<()>),
}

pub(super) struct Committer {
    store: Arc<Store>,
    journal: Journal,
    lock: Arc<Lock>,
    tails: Tails,
    /// Why nothing more may be written.
    failed: Option<Error>,
    sync_at: Option<Instant>,
}

/// The same error for one more who waits for it.
fn again(error: &Error) -> Error {
    let copy = Error::new(error.kind(), error.message())
        .with_class(error.class())
        .with_scope(error.scope());
    let copy = error
        .context()
        .iter()
        .fold(copy, |copy, (name, value)| copy.with(name, value));
    match error.fix() {
        Some(fix) => copy.with_fix(fix),
        None => copy,
    }
}

fn answer<T>(reply: Reply<T>, result: Result<T>) {
    // Nobody waits any more: what was done stays done.
    let _ = reply.send(result);
}

struct Staged {
    entry: Entry,
    undo: Undo,
    reply: Reply<()>,
}

impl Committer {
    pub(super) fn new(store: Arc<Store>, journal: Journal, lock: Arc<Lock>) -> Self {
        let tails = Tails::new(Arc::clone(&store));
        Committer {
            store,
            journal,
            lock,
            tails,
            failed: None,
            sync_at: None,
        }
    }

    /// Serves requests until nobody can send any.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut waiting = Vec::with_capacity(REQUESTS_MAX);
        loop {
            let due = self.sync_at;
            tokio::select! {
                count = requests.recv_many(&mut waiting, REQUESTS_MAX) => {
                    if count == 0 {
                        break;
                    }
                    self.serve(&mut waiting);
                }
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.sync_all(),
            }
        }
        self.sync_all();
    }

    fn serve(&mut self, waiting: &mut Vec<Request>) {
        let mut commits = Vec::new();
        for request in waiting.drain(..) {
            if let Request::Commit(transaction, reply) = request {
                commits.push((transaction, reply));
                continue;
            }
            self.commit_all(std::mem::take(&mut commits));
            match request {
                Request::Commit(..) => {}
                Request::OpenWriter(id, reply) => answer(reply, self.open_writer(id)),
                Request::EnsureTopics(specs, reply) => answer(reply, self.ensure_topics(specs)),
                Request::Replace(entry, reply) => answer(reply, self.replace(entry)),
                Request::Roll(topic, partition, reply) => answer(reply, self.roll(topic, partition)),
            }
        }
        self.commit_all(commits);
        self.tails.trim();
        if self.tails.is_dirty()
            && let Fsync::IntervalMs(interval_ms) = self.store.settings.fsync
        {
            self.sync_at
                .get_or_insert_with(|| Instant::now() + Duration::from_millis(interval_ms));
        }
        if self.journal.is_long() && self.check_usable().is_ok() {
            self.renew_journal();
        }
    }

    fn check_usable(&self) -> Result<()> {
        self.failed.as_ref().map_or(Ok(()), |error| Err(again(error)))?;
        self.lock.check()
    }

    fn fail(&mut self, error: &Error) {
        tracing::error!(path = %self.store.path.display(), %error, "the store takes no more writes");
        let message = format!(
            "the store \"{}\" failed and takes no more writes: {}",
            self.store.path.display(),
            error.message()
        );
        self.failed.get_or_insert_with(|| {
            Error::new(ErrorKind::Storage, message)
                .with_class(Class::User)
                .with_fix(
                    "check the disk and its file system, then start again; the work goes on from the last checkpoint",
                )
        });
    }

    fn open_writer(&mut self, id: WriterId) -> Result<u64> {
        self.check_usable()?;
        let mut state = self.store.state();
        let epoch = state.epochs.entry(id.0).or_insert(0);
        *epoch += 1;
        Ok(*epoch)
    }

    fn ensure_topics(&mut self, mut specs: Vec<TopicSpec>) -> Result<()> {
        specs.retain(|spec| !self.store.state().topics.contains_key(&spec.name));
        for spec in specs {
            self.check_usable()?;
            for partition in 0..spec.partitions {
                self.store
                    .disk
                    .make_folder(&partition_folder(&self.store.path, &spec.name, partition))?;
            }
            let topics = self.store.path.join("topics");
            self.store.disk.sync_folder(&topics.join(&spec.name))?;
            self.store.disk.sync_folder(&topics)?;
            self.note(Entry::Topic(spec))?;
        }
        Ok(())
    }

    fn roll(&mut self, topic: String, partition: u32) -> Result<()> {
        self.check_usable()?;
        let base = self.tails.roll(&topic, partition)?;
        self.note(Entry::Rolled { topic, partition, base })
    }

    /// Notes that files went or were rewritten. All data before that is on the disk first, whatever the fsync setting: a
    /// start must not look into files that are gone for what the commits before wrote.
    fn replace(&mut self, entry: Entry) -> Result<()> {
        self.check_usable()?;
        self.tails.sync().inspect_err(|error| self.fail(error))?;
        let entries = [Entry::Synced, entry];
        self.append(&entries, true)?;
        self.publish(&entries)
    }

    /// Writes an entry and makes it true.
    fn note(&mut self, entry: Entry) -> Result<()> {
        self.check_usable()?;
        let sync = self.store.settings.fsync == Fsync::Commit;
        self.append(std::slice::from_ref(&entry), sync)?;
        self.publish(&[entry])
    }

    fn append(&mut self, entries: &[Entry], sync: bool) -> Result<()> {
        // The lock may be gone since the data was written: that took the disk's time, and a process can be stopped meanwhile.
        self.lock.check()?;
        self.journal
            .append(entries, sync)
            .map_err(|failure| self.unwritten(failure))
    }

    fn unwritten(&mut self, (error, second): (Error, Option<Error>)) -> Error {
        if let Some(second) = second {
            self.fail(&second);
        }
        error
    }

    fn publish(&mut self, entries: &[Entry]) -> Result<()> {
        let applied = {
            let mut state = self.store.state();
            entries.iter().try_for_each(|entry| state.apply(entry))
        };
        self.store.commits.send_modify(|commits| *commits += 1);
        applied.ok_or_else(|| {
            let error = Error::bug("the journal took an entry that the state cannot follow");
            self.fail(&error);
            error
        })
    }

    fn stage(&mut self, transaction: Transaction, undo: &mut Undo) -> Result<Entry> {
        self.check_usable()?;
        self.store.check_epoch(&transaction.writer, transaction.epoch)?;
        let growth = transaction
            .parts
            .into_iter()
            .map(|part| self.tails.write(part, undo))
            .collect::<Result<_>>()?;
        Ok(Entry::Commit(Commit {
            writer: transaction.writer.0,
            growth,
            checkpoint: transaction.checkpoint,
            groups: transaction.groups,
            synced: self.store.settings.fsync == Fsync::Commit,
        }))
    }

    fn undo(&mut self, undo: Undo) {
        // The files are another's by now, who has put aside what no commit names.
        if self.lock.check().is_err() {
            return;
        }
        if let Err(error) = self.tails.undo(undo) {
            self.fail(&error);
        }
    }

    fn commit_all(&mut self, commits: Vec<(Box<Transaction>, Reply<()>)>) {
        let mut staged = Vec::with_capacity(commits.len());
        for (transaction, reply) in commits {
            let mut undo = Undo::default();
            match self.stage(*transaction, &mut undo) {
                Ok(entry) => staged.push(Staged { entry, undo, reply }),
                Err(error) => {
                    self.undo(undo);
                    answer(reply, Err(error));
                }
            }
        }
        if staged.is_empty() {
            return;
        }
        let entries: Vec<Entry> = staged.iter().map(|staged| staged.entry.clone()).collect();
        let sync = self.store.settings.fsync == Fsync::Commit;
        let synced = if sync { self.tails.sync() } else { Ok(()) };
        match synced.and_then(|()| self.append(&entries, sync)) {
            Ok(()) => {
                let published = self.publish(&entries);
                for staged in staged {
                    answer(staged.reply, published.as_ref().copied().map_err(again));
                }
            }
            Err(error) => {
                for staged in staged.into_iter().rev() {
                    self.undo(staged.undo);
                    answer(staged.reply, Err(again(&error)));
                }
            }
        }
    }

    fn sync_all(&mut self) {
        self.sync_at = None;
        if self.store.settings.fsync == Fsync::Never || !self.tails.is_dirty() || self.check_usable().is_err() {
            return;
        }
        if let Err(error) = self.tails.sync() {
            self.fail(&error);
            return;
        }
        if self.lock.check().is_err() {
            return;
        }
        match self.journal.append(&[Entry::Synced], true) {
            Ok(()) => {}
            Err((_, Some(second))) => self.fail(&second),
            // The data is safe; the next start only checks more of it.
            Err((error, None)) => tracing::warn!(%error, "could not mark the store as forced to disk"),
        }
    }

    fn renew_journal(&mut self) {
        if let Err(error) = self.tails.sync() {
            self.fail(&error);
            return;
        }
        if self.lock.check().is_err() {
            return;
        }
        let entries = self.store.state().entries();
        if let Err(error) = self.journal.renew(&entries) {
            tracing::warn!(%error, "the journal could not begin a new file and goes on in the old one");
        }
    }
}

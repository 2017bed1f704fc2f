// SPDX-License-Identifier: Apache-2.0
//! What a seed decides before a life begins: which source, how large, how unkind.

use highwater_core::connector::Reconcile;
use highwater_core::dblog::{AsOfFallback, EngineSettings};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// A repair queue so short that it runs over.
pub const REPAIR_QUEUE_TINY: u32 = 2;

/// A source to simulate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Marks in the log, commit order apart from visibility order: Postgres.
    MarksInLog,
    /// Marks at positions, the two orders apart: a Postgres without messages, or a standby.
    MarksAtPositions,
    /// Marks in the log, one order: MySQL.
    OneOrder,
    /// One exported snapshot that all chunks are read from, then windows.
    ExportedSnapshot,
    /// No marks, an ordered log; chunks are read at moments.
    OrderedMoments,
    /// No marks; the log repeats and does not order; chunks are read at moments: CockroachDB.
    Moments,
    /// No marks; the log repeats and does not order; cells carry their write times, one column does not: Cassandra.
    WriteTimes,
}

impl Source {
    /// Every source.
    pub const ALL: [Source; 7] = [
        Source::MarksInLog,
        Source::MarksAtPositions,
        Source::OneOrder,
        Source::ExportedSnapshot,
        Source::OrderedMoments,
        Source::Moments,
        Source::WriteTimes,
    ];

    /// How the engine reconciles it.
    pub fn reconcile(self) -> Reconcile {
        match self {
            Source::MarksInLog | Source::MarksAtPositions | Source::OneOrder => Reconcile::Window,
            Source::ExportedSnapshot | Source::OrderedMoments | Source::Moments => Reconcile::AsOf,
            Source::WriteTimes => Reconcile::Version,
        }
    }

    /// Whether the log comes in any order, with repeats.
    pub fn is_unordered(self) -> bool {
        matches!(self, Source::Moments | Source::WriteTimes)
    }

    /// Whether a commit can be in the log and invisible to reads.
    pub fn delays_visibility(self) -> bool {
        matches!(
            self,
            Source::MarksInLog | Source::MarksAtPositions | Source::ExportedSnapshot
        )
    }
}

/// A life's frame, drawn from its seed.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The source.
    pub source: Source,
    /// Number of tables.
    pub tables: usize,
    /// Row numbers go from 0 up to here.
    pub ids: u64,
    /// Steps with writes and faults; afterwards everything comes to rest.
    pub steps: u32,
    /// Of 100 commits, how many stay invisible for a while.
    pub invisible_percent: u32,
    /// One in how many looks at invisible commits makes one of them visible.
    pub reveals_one_in: u32,
    /// Of 1,000 steps, how many crash.
    pub crash_permille: u32,
    /// Of 100 marks and reads, how many fail.
    pub fault_percent: u32,
    /// Of 100 writes of a row, how many leave the large column alone.
    pub partial_percent: u32,
    /// After how many steps the source forgets its log, if it does.
    pub loses_after: Option<u32>,
    /// The engine's limits.
    pub settings: EngineSettings,
}

impl Scenario {
    /// Draws a scenario.
    pub fn draw(seed: u64) -> (Scenario, SmallRng) {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x9e37_79b9_7f4a_7c15);
        let source = match rng.random_range(0..14) {
            0..4 => Source::MarksInLog,
            4..6 => Source::MarksAtPositions,
            6 => Source::OneOrder,
            7..9 => Source::ExportedSnapshot,
            9..11 => Source::WriteTimes,
            11 => Source::OrderedMoments,
            _ => Source::Moments,
        };
        let settings = limits(source, &mut rng);
        let loses = source.reconcile() == Reconcile::Window && seed.is_multiple_of(3);
        let mut scenario = Scenario {
            source,
            tables: rng.random_range(1..=2),
            ids: rng.random_range(3..=9),
            steps: pick(&mut rng, &[40, 90, 160]),
            loses_after: None,
            invisible_percent: if source.delays_visibility() {
                pick(&mut rng, &[0, 30, 60])
            } else {
                0
            },
            reveals_one_in: pick(&mut rng, &[1, 1, 12]),
            crash_permille: pick(&mut rng, &[0, 10, 40]),
            fault_percent: pick(&mut rng, &[0, 0, 10]),
            partial_percent: if source == Source::Moments {
                0
            } else {
                pick(&mut rng, &[0, 40, 70])
            },
            settings,
        };
        scenario.loses_after = loses.then_some(scenario.steps / 2);
        (scenario, rng)
    }
}

fn pick(rng: &mut SmallRng, choices: &[u32]) -> u32 {
    choices[rng.random_range(0..choices.len())]
}

/// Limits so tight that they are reached, or not.
fn limits(source: Source, rng: &mut SmallRng) -> EngineSettings {
    EngineSettings {
        windows_max: pick(rng, &[1, 2, 4, 8]),
        reads_max: pick(rng, &[1, 2, 4]),
        chunk_rows_start: pick(rng, &[1, 2, 3, 5]),
        chunk_rows_min: 1,
        chunk_rows_max: pick(rng, &[1, 3, 8]),
        chunk_bytes_max: 1 << 20,
        chunk_time_target_us: 2_000,
        touched_keys_max: pick(rng, &[2, 100, 100]),
        touched_bytes_max: 1 << 20,
        reads_repeated_max: 3,
        forwarded_runs_max: pick(rng, &[2, 64, 64]),
        remembered_keys_max: pick(rng, &[3, 6, 1_000]),
        // A run of a few keys has about 60 bytes.
        spill_bytes_max: pick(rng, &[0, 150, 1 << 20, 1 << 20]).into(),
        repair_keys_max: pick(rng, &[1, 4]),
        repair_queue_max: pick(rng, &[REPAIR_QUEUE_TINY, 100, 100]),
        as_of_fallback: match source {
            Source::ExportedSnapshot => AsOfFallback::Windows,
            _ => AsOfFallback::ReadAgain,
        },
    }
}

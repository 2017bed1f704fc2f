// SPDX-License-Identifier: Apache-2.0
//! Fetches and starts the servers of the test-bed by hand: what `make` does before the tests, so that a missing
//! server is told once and in full, and no test waits for a download.

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use highwater_testbed::versions::{
    DEBEZIUM, KAFKA, MYSQL, MysqlLine, MysqlSource, POSTGRES, POSTGRES_MAJORS, REGISTRY,
};
use highwater_testbed::{
    Connect, Error, Kafka, KafkaOptions, Mysql, MysqlOptions, PgOptions, Postgres, Registry, Result, cache, doctor,
    mysql, postgres,
};

/// Real servers for tests and demos.
#[derive(Parser)]
#[command(name = "highwater-testbed", version)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Download and prepare servers; all of them when none is named.
    Fetch {
        /// Servers to fetch.
        servers: Vec<Server>,
    },
    /// Start a server, print how to reach it as KEY=VALUE lines, and run until Ctrl-C.
    Up {
        /// The server.
        server: Server,
        /// The major version of Postgres, MySQL (9, 8) or MariaDB (10, 11).
        major: Option<u16>,
    },
    /// Print the pinned versions.
    Versions,
    /// Say what this machine has and lacks; fails if a server cannot be had.
    Doctor,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Server {
    Postgres,
    Mysql,
    Mariadb,
    Kafka,
    Registry,
    /// Debezium on Kafka Connect; fetched only when it is named.
    Debezium,
}

impl Server {
    fn of_line(line: MysqlLine) -> Self {
        match line.is_mariadb() {
            true => Self::Mariadb,
            false => Self::Mysql,
        }
    }
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Verb::Fetch { servers } => fetch(&servers),
        Verb::Up { server, major } => tokio::runtime::Runtime::new()
            .map_err(|e| Error::during("cannot make a runtime", e))
            .and_then(|runtime| runtime.block_on(up(server, major))),
        Verb::Versions => {
            versions();
            Ok(())
        }
        Verb::Doctor => examine(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("testbed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn fetch(servers: &[Server]) -> Result<()> {
    let mut missing = Vec::new();
    fetch_each(servers, |name, fetched, is_needed| match fetched {
        Ok(version) => println!("{name} {version}"),
        Err(error) => {
            eprintln!("testbed: {error}");
            if is_needed {
                missing.push(name);
            }
        }
    });
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!(
        "missing: {}; see above for why, `highwater-testbed doctor` for what this machine lacks, and {} for what is cached",
        missing.join(", "),
        cache::root().display()
    )))
}

/// Fetches and tells of each server its name, its version, and whether the suite cannot do without it. The tests of one
/// that it can do without are counted as skipped.
fn fetch_each(servers: &[Server], mut note: impl FnMut(String, Result<String>, bool)) {
    let wants = |server| servers.is_empty() || servers.contains(&server);
    if wants(Server::Postgres) {
        for pin in POSTGRES {
            let is_needed = POSTGRES_MAJORS.contains(&pin.major);
            note(format!("postgres-{}", pin.major), Postgres::fetch(pin.major), is_needed);
        }
    }
    for pin in MYSQL.iter().filter(|pin| wants(Server::of_line(pin.line))) {
        note(pin.name.into(), Mysql::fetch(pin.line), Mysql::is_needed(pin.line));
    }
    if wants(Server::Kafka) {
        note("kafka".into(), Kafka::fetch(), true);
    }
    if wants(Server::Registry) {
        note("registry".into(), Registry::fetch(), true);
    }
    if servers.contains(&Server::Debezium) {
        note("debezium".into(), Connect::fetch(), true);
    }
}

async fn up(server: Server, major: Option<u16>) -> Result<()> {
    match server {
        Server::Postgres => postgres(major).await,
        Server::Mysql | Server::Mariadb => mysql(line(server, major)?).await,
        Server::Kafka => {
            let server = Kafka::start(KafkaOptions::default()).await?;
            println!("KAFKA_VERSION={}", server.version());
            println!("KAFKA_PID={}", server.pid().unwrap_or_default());
            println!("KAFKA_BOOTSTRAP={}", server.bootstrap());
            until_told().await?;
            server.stop().await
        }
        Server::Registry => {
            let server = Registry::start().await?;
            println!("REGISTRY_VERSION={}", server.version());
            println!("REGISTRY_PID={}", server.pid().unwrap_or_default());
            println!("REGISTRY_URL={}", server.url());
            until_told().await?;
            server.stop().await
        }
        Server::Debezium => debezium().await,
    }
}

async fn postgres(major: Option<u16>) -> Result<()> {
    let server = Postgres::start(PgOptions::major(major.unwrap_or(0))).await?;
    println!("POSTGRES_VERSION={}", server.version());
    println!("POSTGRES_PID={}", server.pid().unwrap_or_default());
    println!("POSTGRES_DATA_DIR={}", server.data_dir().display());
    println!(
        "POSTGRES_SUPERUSER_URL={}",
        server.url(postgres::SUPERUSER, "", "postgres")
    );
    println!(
        "POSTGRES_URL={}",
        server.url(postgres::ROLE, postgres::ROLE_PASSWORD, "postgres")
    );
    until_told().await?;
    server.stop().await
}

/// The line of a major version; the one that everything runs on where none is given.
fn line(server: Server, major: Option<u16>) -> Result<MysqlLine> {
    let lines = MYSQL.iter().filter(|pin| Server::of_line(pin.line) == server);
    let of_major = |name: &str| major.is_some_and(|major| name.ends_with(&format!("-{major}")));
    let mut found = lines.filter(|pin| of_major(pin.name) || (major.is_none() && pin.is_needed));
    found.next().map(|pin| pin.line).ok_or_else(|| {
        let names = MYSQL.map(|pin| pin.name.replace('-', " ")).join(", ");
        Error::new(format!("no such major version is pinned: the test-bed has {names}"))
    })
}

async fn mysql(line: MysqlLine) -> Result<()> {
    let server = Mysql::start(MysqlOptions::line(line)).await?;
    println!("MYSQL_VERSION={}", server.version());
    println!("MYSQL_PID={}", server.pid().unwrap_or_default());
    println!("MYSQL_DATA_DIR={}", server.data_dir().display());
    println!("MYSQL_SOCKET={}", server.socket_path().display());
    println!("MYSQL_SUPERUSER_URL={}", server.url(mysql::SUPERUSER, "", ""));
    println!("MYSQL_URL={}", server.url(mysql::ROLE, mysql::ROLE_PASSWORD, ""));
    until_told().await?;
    server.stop().await
}

async fn debezium() -> Result<()> {
    let kafka = Kafka::start(KafkaOptions::default()).await?;
    let server = Connect::start(&kafka.bootstrap()).await?;
    println!("DEBEZIUM_VERSION={}", server.version());
    println!("DEBEZIUM_PID={}", server.pid().unwrap_or_default());
    println!("KAFKA_BOOTSTRAP={}", kafka.bootstrap());
    until_told().await?;
    server.stop().await
}

async fn until_told() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |e: std::io::Error| Error::during("cannot listen for signals", e);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    // Whoever reads this may tell it to end at once.
    println!("READY=1");
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

fn versions() {
    for pin in POSTGRES {
        println!(
            "postgres-{} debian={} npm={} image={}",
            pin.major,
            pin.suite.unwrap_or("-"),
            pin.npm.unwrap_or("-"),
            pin.image
        );
    }
    for pin in MYSQL {
        let source = match pin.source {
            MysqlSource::Debian(suite, _) => format!("debian={suite}"),
            MysqlSource::Maven(version, suite, _) => format!("maven={version} libraries={suite}"),
        };
        println!("{} {}… {source}", pin.name, pin.version);
    }
    println!("kafka {KAFKA}");
    println!("registry {REGISTRY}");
    println!("debezium {DEBEZIUM}");
}

fn examine() -> Result<()> {
    let findings = doctor::examine();
    for finding in &findings {
        println!("{finding}");
    }
    match findings.iter().filter(|finding| !finding.is_fine()).count() {
        0 => Ok(()),
        lacking => Err(Error::new(format!(
            "this machine lacks {lacking} of the above: run `make setup`"
        ))),
    }
}

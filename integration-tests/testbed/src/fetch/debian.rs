// SPDX-License-Identifier: Apache-2.0
//! A server of any Debian suite, unpacked into a private folder with the libraries it needs, libc included.
//!
//! Apt runs against a state of its own with an empty package database, so that it resolves the whole closure;
//! nothing of the machine's package state changes and no root is needed. The mirrors are those of the machine's own
//! sources. Each program is hidden behind a script that starts it through the folder's own loader: the age of the
//! machine's libc does not matter, and a program finds its siblings in its own directory as usual.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::cache;
use crate::command;
use crate::error::{Error, Result};

/// Package lists are read again after this time.
const LISTS_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Libraries of the closure that only maintainer scripts, the JIT or an init system want.
const UNWANTED: [&str; 8] = [
    "libperl",
    "libllvm",
    "libsystemd-shared",
    "libz3-",
    "libpam-",
    "libdebconf",
    "libfile-",
    "libjson-perl",
];
/// The suites that move on and have no security suite beside them.
const UNSTABLE: &str = "sid";
const EXPERIMENTAL: &str = "experimental";
/// Names of the keyring of Debian's archive.
const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];

/// The Debian mirrors of this machine's apt sources.
#[derive(Debug, Clone)]
pub(crate) struct Mirrors {
    main: String,
    security: Option<String>,
    keyring: &'static str,
}

impl Mirrors {
    /// Reads the machine's apt sources; `None` on a machine without Debian's archive (Ubuntu, say).
    pub(crate) fn of_this_machine() -> Option<Self> {
        let targets = command::output(Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(LABEL)|$(RELEASE)|$(REPO_URI)",
            "Created-By: Packages",
        ]))
        .ok()?;
        let find = |label: &str| {
            targets.lines().find_map(|line| {
                let mut parts = line.splitn(3, '|');
                let (found, release, uri) = (parts.next()?, parts.next()?, parts.next()?);
                let is_base = !release.ends_with("-updates") && !release.ends_with("-backports");
                (found == label && is_base).then(|| uri.trim_end_matches('/').to_owned())
            })
        };
        let keyring = KEYRINGS.into_iter().find(|path| Path::new(path).is_file())?;
        Some(Self {
            main: find("Debian")?,
            security: find("Debian-Security"),
            keyring,
        })
    }

    /// The main archive's address, as the machine's sources give it.
    pub(crate) fn main(&self) -> &str {
        &self.main
    }

    fn sources(&self, suite: &str) -> String {
        let of = |suite: &str| format!("deb [signed-by={}] {} {suite} main\n", self.keyring, self.main);
        let mut sources = of(suite);
        if suite == EXPERIMENTAL {
            // It is no whole suite.
            sources += &of(UNSTABLE);
        }
        if let Some(security) = self
            .security
            .as_ref()
            .filter(|_| ![UNSTABLE, EXPERIMENTAL].contains(&suite))
        {
            sources += &format!("deb [signed-by={}] {security} {suite}-security main\n", self.keyring);
        }
        sources
    }
}

/// Apt against one suite, with a private state.
struct Suite {
    dir: PathBuf,
}

impl Suite {
    fn open(suite: &str) -> Result<Self> {
        let mirrors = Mirrors::of_this_machine()
            .ok_or_else(|| Error::new("no Debian mirror in this machine's apt sources: run `apt-get update`"))?;
        let dir = cache::root().join("apt").join(suite);
        for part in ["state/lists/partial", "cache/archives/partial", "empty", "debs"] {
            cache::create_dir(&dir.join(part))?;
        }
        cache::write(&dir.join("state/status"), "")?;
        cache::write(&dir.join("sources.list"), mirrors.sources(suite))?;
        cache::write(&dir.join("preferences"), preferences(suite))?;
        let this = Self { dir };
        this.update()?;
        Ok(this)
    }

    fn update(&self) -> Result<()> {
        let stamp = self.dir.join("updated");
        let age = fs::metadata(&stamp)
            .and_then(|meta| meta.modified())
            .ok()
            .and_then(|time| SystemTime::now().duration_since(time).ok());
        if age.is_some_and(|age| age < LISTS_AGE_MAX) {
            return Ok(());
        }
        command::output(self.apt_get().arg("update"))?;
        cache::write(&stamp, "")
    }

    fn apt_get(&self) -> Command {
        let mut apt = Command::new("apt-get");
        let at = |part: &str| self.dir.join(part).display().to_string();
        apt.current_dir(self.dir.join("debs")).arg("-q").env("LC_ALL", "C");
        for (key, value) in [
            ("Dir::State", at("state")),
            ("Dir::State::status", at("state/status")),
            ("Dir::State::lists", at("state/lists")),
            ("Dir::Cache", at("cache")),
            ("Dir::Etc::sourcelist", at("sources.list")),
            ("Dir::Etc::sourceparts", at("empty")),
            ("Dir::Etc::preferences", at("preferences")),
            ("Dir::Etc::preferencesparts", at("empty")),
            ("APT::Install-Recommends", "false".into()),
            ("APT::Sandbox::User", "root".into()),
            ("Acquire::Languages", "none".into()),
            ("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false".into()),
            ("Acquire::Retries", "3".into()),
        ] {
            apt.arg("-o").arg(format!("{key}={value}"));
        }
        apt
    }

    /// Names of the packages wanted of the closure of `packages`.
    fn closure(&self, packages: &[String]) -> Result<Vec<String>> {
        let plan = command::output(self.apt_get().args(["install", "--simulate"]).args(packages))?;
        let mut names: Vec<String> = plan
            .lines()
            .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
            .map(|name| name.split(':').next().unwrap_or(name).to_owned())
            .filter(|name| is_wanted(name, packages))
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Downloads packages and returns their files, in the order of `names`.
    fn download(&self, names: &[String]) -> Result<Vec<PathBuf>> {
        let debs = self.dir.join("debs");
        cache::remove_dir(&debs)?;
        cache::create_dir(&debs)?;
        command::output(self.apt_get().arg("download").args(names))?;
        let mut files: Vec<PathBuf> = fs::read_dir(&debs)
            .map_err(|e| Error::during(format!("cannot list {}", debs.display()), e))?
            .flatten()
            .map(|entry| entry.path())
            .collect();
        files.sort();
        if files.len() < names.len() {
            return Err(Error::new(format!(
                "apt downloaded {} of {} packages",
                files.len(),
                names.len()
            )));
        }
        Ok(files)
    }
}

/// What is taken of a suite that stands on another.
fn preferences(suite: &str) -> String {
    let pin = |packages: &str, priority: u32| {
        format!("Package: {packages}\nPin: release n=rc-buggy\nPin-Priority: {priority}\n\n")
    };
    match suite {
        EXPERIMENTAL => pin("*", 1) + &pin("postgresql-* libpq*", 990),
        _ => String::new(),
    }
}

fn is_wanted(name: &str, packages: &[String]) -> bool {
    let is_library = name.starts_with("lib") && !name.ends_with("-perl");
    packages.iter().any(|package| package == name)
        || (is_library && !UNWANTED.iter().any(|prefix| name.starts_with(prefix)))
}

/// Unpacks `packages` of `suite` and their libraries into `root`, whose final path is `place`; the programs in
/// `programs` (directories below the root) are made to run through the folder's own loader.
pub(crate) fn unpack(suite: &str, packages: &[String], root: &Path, place: &Path, programs: &[&str]) -> Result<()> {
    let _lock = cache::lock(&format!("apt-{suite}"))?;
    let apt = Suite::open(suite)?;
    let names = apt.closure(packages)?;
    let debs = apt.download(&names)?;
    for dir in ["bin", "sbin", "lib", "lib64"] {
        // Old packages still ship /lib; with these links everything lands below /usr.
        cache::create_dir(&root.join("usr").join(dir))?;
        std::os::unix::fs::symlink(format!("usr/{dir}"), root.join(dir))
            .map_err(|e| Error::during(format!("cannot link {dir} in {}", root.display()), e))?;
    }
    for deb in &debs {
        unpack_one(deb, root)?;
        let _ = fs::remove_file(deb);
    }
    programs
        .iter()
        .try_for_each(|dir| wrap_programs(&root.join(dir), root, place))
}

fn unpack_one(deb: &Path, root: &Path) -> Result<()> {
    let script = "dpkg-deb --fsys-tarfile \"$1\" | tar -x --no-same-owner --keep-directory-symlink -C \"$2\" \
                  --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' --exclude='./usr/share/locale/*'";
    command::output(
        Command::new("bash")
            .args(["-euo", "pipefail", "-c", script, "unpack"])
            .arg(deb)
            .arg(root),
    )
    .map(drop)
    .map_err(|e| Error::during(format!("cannot unpack {}", deb.display()), e))
}

fn wrap_programs(dir: &Path, root: &Path, place: &Path) -> Result<()> {
    let (loader, libraries) = loader(root)?;
    let moved = |path: &Path| {
        place
            .join(path.strip_prefix(root).unwrap_or(path))
            .display()
            .to_string()
    };
    let entries = fs::read_dir(dir).map_err(|e| Error::during(format!("cannot list {}", dir.display()), e))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        // A library may lie beside the programs that load it.
        let is_library = path.to_string_lossy().contains(".so");
        let is_program = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file()) && is_elf(&path);
        if is_library || !is_program {
            continue;
        }
        let real = path.with_extension("elf");
        fs::rename(&path, &real).map_err(|e| Error::during(format!("cannot rename {}", path.display()), e))?;
        let paths: Vec<String> = libraries.iter().map(|dir| moved(dir)).collect();
        let script = format!(
            "#!/bin/sh\nexec '{}' --library-path '{}' '{}' \"$@\"\n",
            moved(&loader),
            paths.join(":"),
            moved(&real)
        );
        cache::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .map_err(|e| Error::during(format!("cannot make {} a program", path.display()), e))?;
    }
    Ok(())
}

fn is_elf(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut magic))
        .is_ok()
        && &magic == b"\x7fELF"
}

/// The folder's own dynamic loader and its library directories.
fn loader(root: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    let lib = root.join("usr/lib");
    let missing = || Error::new(format!("no dynamic loader unpacked in {}", lib.display()));
    let entries = fs::read_dir(&lib).map_err(|_| missing())?;
    for dir in entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().ends_with("-linux-gnu"))
    {
        let loader = fs::read_dir(&dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .find(|path| {
                path.file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with("ld-linux-"))
            });
        if let Some(loader) = loader {
            return Ok((loader, vec![dir]));
        }
    }
    Err(missing())
}

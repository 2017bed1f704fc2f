// SPDX-License-Identifier: Apache-2.0
//! Running Postgres, which refuses to be root, on a machine where we are root.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::command;
use crate::error::Result;

/// The user that owns nothing: `nobody`, and its group.
const NOBODY: u32 = 65_534;

/// How a program stops being root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// We are not root.
    AsWeAre,
    /// A user namespace in which we are an ordinary user: files stay root's outside, nothing changes owner.
    Namespace,
    /// Another user, who may pass through directories that only root may: where namespaces are forbidden, as they
    /// are in most containers.
    OtherUser,
}

impl Way {
    /// `HIGHWATER_POSTGRES_AS=namespace|nobody`, else a namespace where the machine allows one.
    fn choose() -> Self {
        static NAMESPACES: OnceLock<bool> = OnceLock::new();
        // SAFETY: geteuid has no preconditions.
        if unsafe { libc::geteuid() } != 0 {
            return Self::AsWeAre;
        }
        let may = || {
            *NAMESPACES.get_or_init(|| {
                let mut probe = namespaced(Path::new("true"));
                probe
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()
                    .is_ok_and(|status| status.success())
            })
        };
        match std::env::var("HIGHWATER_POSTGRES_AS").as_deref() {
            Ok("namespace") => Self::Namespace,
            Ok("nobody") => Self::OtherUser,
            _ if may() => Self::Namespace,
            _ => Self::OtherUser,
        }
    }
}

/// The command that starts `program` as a user that Postgres accepts. The process id is the same: nothing forks.
pub(crate) fn command_for(program: &Path) -> Command {
    match Way::choose() {
        Way::AsWeAre => Command::new(program),
        Way::Namespace => namespaced(program),
        Way::OtherUser => {
            let mut command = Command::new("setpriv");
            command
                .arg(format!("--reuid={NOBODY}"))
                .arg(format!("--regid={NOBODY}"))
                .arg("--clear-groups");
            // Without the secure bit access(2), by which Postgres looks for its own program, ignores capabilities.
            command.args(["--securebits=+no_setuid_fixup"]);
            command.args(["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]);
            // The change of user takes the parent-death signal away.
            command.args(["--pdeathsig", "QUIT"]).arg(program);
            command
        }
    }
}

/// Gives a directory to the user that Postgres will run as; root's own files serve a namespace as they are.
pub(crate) fn give(dir: &Path) -> Result<()> {
    if Way::choose() != Way::OtherUser {
        return Ok(());
    }
    command::output(
        Command::new("chown")
            .arg("-R")
            .arg(format!("{NOBODY}:{NOBODY}"))
            .arg(dir),
    )
    .map(drop)
}

fn namespaced(program: &Path) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-user=1000", "--map-group=1000"])
        .arg(program);
    command
}

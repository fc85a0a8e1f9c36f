//! How does git start ssh?
//!
//! In such a way that it never asks, and gives up a host that says nothing. What a command line says counts before all
//! configurations, so the latter is for those only who have said nothing of it themselves: ssh is asked (`ssh -G`) before
//! it is started.

use std::fmt::Write as _;

/// What `ssh -G` says where nobody has said anything, and what we say then. A host is given up after a minute, and after
/// two before it has said what it is: up to there `ServerAlive…` does not count, and two minutes are what a connection
/// takes at most without a limit of ssh's own (`tcp_syn_retries`).
const DEFAULTS: &[(&str, &str)] = &[
    ("connecttimeout none", "ConnectTimeout=130"),
    ("serveraliveinterval 0", "ServerAliveInterval=15"),
    ("serveralivecountmax 3", "ServerAliveCountMax=4"),
];

/// The value of `GIT_SSH_COMMAND`: a script for the shell, whose end git puts the arguments behind. Git cannot tell from
/// it that it is OpenSSH that is started, and has to be told.
pub(super) fn command(home: &str) -> String {
    // On git's pipe there is what the server sends and gets.
    let mut script = "more= said=\"\n$(ssh -G \"$@\" 2>/dev/null </dev/null)\n\"\n".to_owned();
    let mut default = |pattern: &str, option: &str| {
        writeln!(script, "case $said in *'\n'{pattern}'\n'*) more=\"$more -o {option}\" ;; esac")
            .expect("a text grows");
    };
    for (line, option) in DEFAULTS {
        default(&format!("'{line}'"), option);
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if !home.is_empty() && home.chars().all(is_plain) {
        // In a user namespace ssh takes itself for root, and looks in root's home directory.
        let usual = "'userknownhostsfile /'*'/.ssh/known_hosts /'*'/.ssh/known_hosts2'";
        default(usual, &format!("UserKnownHostsFile={home}/.ssh/known_hosts"));
    }
    script + "exec ssh -o BatchMode=yes $more"
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use rbuild_testkit::{Need, needs};

    use super::*;

    #[test]
    fn what_the_user_says_of_ssh_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let script = "#!/bin/sh\nif [ \"$1\" = -G ]; then echo \"$*\" >${0%/*}/asked; cat ${0%/*}/config; cat; exit; fi\n\
                      printf '%s ' \"$@\"; cat\n";
        std::fs::write(path("ssh"), script).unwrap();
        std::fs::set_permissions(path("ssh"), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::write(path("input"), "input").unwrap();
        let known = "userknownhostsfile /root/.ssh/known_hosts /root/.ssh/known_hosts2";
        let ours = "-o UserKnownHostsFile=/home/ada/.ssh/known_hosts ";
        let time = "-o ConnectTimeout=130 ";
        let alive = "-o ServerAliveInterval=15 -o ServerAliveCountMax=4 ";
        let lines = |lines: &[&str]| format!("host h\n{}\nlast yes\n", lines.join("\n"));
        for (home, config, expected) in [
            (
                "/home/ada",
                lines(&["connecttimeout none", "serveraliveinterval 0", "serveralivecountmax 3", known]),
                format!("{time}{alive}{ours}"),
            ),
            (
                "/home/ada",
                lines(&["serveraliveinterval 0", known, "serveralivecountmax 3", "connecttimeout 5"]),
                format!("{alive}{ours}"),
            ),
            (
                "",
                lines(&["connecttimeout none", "serveraliveinterval 60", "serveralivecountmax 2", known]),
                time.into(),
            ),
            ("/$(id)", lines(&["connecttimeout 0", "serveraliveinterval 05", known]), String::new()),
            ("/home/ada", lines(&["userknownhostsfile /etc/ssh/mine", "connecttimeout none"]), time.into()),
            // One that is too old to be asked.
            ("/home/ada", String::new(), String::new()),
        ] {
            std::fs::write(path("config"), &config).unwrap();
            let mut git = Command::new("sh");
            // As git does.
            git.arg("-c").arg(format!("{} \"$@\"", command(home))).args([
                "git",
                "-p",
                "7",
                "h",
                "git-upload-pack '/x'",
            ]);
            git.env("PATH", format!("{}:/usr/bin:/bin", directory.path().display()));
            git.stdin(std::fs::File::open(path("input")).unwrap());
            let output = git.output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            assert_eq!(said, format!("-o BatchMode=yes {expected}-p 7 h git-upload-pack '/x' input"), "{config}");
            assert_eq!(std::fs::read_to_string(path("asked")).unwrap(), "-G -p 7 h git-upload-pack '/x'\n");
        }
    }

    #[test]
    fn ssh_says_what_nobody_has_said() {
        needs!(Need::Command("ssh"));
        let output = Command::new("ssh").args(["-F", "/dev/null", "-G", "h"]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        for (line, option) in DEFAULTS {
            assert!(said.lines().any(|said| said == *line), "{line}: {said}");
            let output = Command::new("ssh").args(["-F", "/dev/null", "-G", "-o", option, "h"]).output().unwrap();
            let (name, value) = option.split_once('=').unwrap();
            let line = format!("{} {value}", name.to_lowercase());
            assert!(String::from_utf8(output.stdout).unwrap().lines().any(|said| said == line), "{line}");
        }
        assert!(said.lines().any(|line| {
            line.starts_with("userknownhostsfile /")
                && line.ends_with("/.ssh/known_hosts2")
                && line.contains("/.ssh/known_hosts /")
        }));
    }
}

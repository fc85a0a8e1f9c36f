//! How does a test become an ordinary user with subordinate ids on any machine?
//!
//! In a mount namespace of its own, where other files lie over `/etc/passwd`, `/etc/subuid` and `/etc/subgid`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::bench;

const SCRIPT: &str = r#"
set -e
cd "$1"
for file in passwd group subuid subgid; do
    [ -e /etc/$file ] || : > /etc/$file
    mount --bind $file /etc/$file
done
shift
exec setpriv --reuid 4242 --regid 4242 --clear-groups --inh-caps=-all env HOME=/ "$@"
"#;

/// Runs the list again, with and without subordinate ids.
pub(crate) fn run(filter: &[String]) -> i32 {
    if let Some(why) = missing() {
        println!("skipped: the rootless half: {why}");
        return 0;
    }
    let with_ids = again("__rootless", "tester:200000:65536\n", filter);
    let without = again("__single", "", filter);
    with_ids | without
}

fn missing() -> Option<String> {
    if rustix::process::geteuid().as_raw() != 0 {
        return Some("only root can become somebody else".to_owned());
    }
    ["unshare", "setpriv", "newuidmap", "newgidmap"]
        .iter()
        .find(|program| bench::find(program).is_none())
        .map(|program| format!("`{program}` is not installed"))
}

fn again(mode: &str, subordinate: &str, filter: &[String]) -> i32 {
    let etc = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(etc.path().join(name), text).unwrap();
    let line = "tester:x:4242:4242::/:/bin/sh\n";
    write("passwd", &format!("{}{line}", fs::read_to_string("/etc/passwd").unwrap_or_default()));
    write("group", &format!("{}tester:x:4242:\n", fs::read_to_string("/etc/group").unwrap_or_default()));
    write("subuid", subordinate);
    write("subgid", subordinate);
    // The binary may lie where the user cannot go.
    let program = etc.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    open(etc.path());
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT, "sh"])
        .arg(etc.path())
        .arg(&program)
        .arg(mode)
        .args(filter)
        .current_dir("/")
        .status()
        .unwrap();
    status.code().unwrap_or(1)
}

fn open(directory: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
}

//! Credential helpers, found in `PATH` as Docker finds them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rbuild_registry::{Credential, CredentialError, CredentialStore};

const DIRECTORY: &str = "RBUILD_TEST_HELPER_DIRECTORY";

/// Keeps what it is told in files beside it, named after the server.
const HELPER: &str = r#"#!/bin/sh
dir=$(dirname "$0")
input=$(cat)
name() { echo "$1" | tr -c 'a-zA-Z0-9\n' _; }
case $1 in
  get)
    case $input in broken) echo "the keyring is locked" >&2; exit 1;; garbage) echo "no JSON"; exit 0;; esac
    cat "$dir/$(name "$input").json" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; };;
  store)
    server=$(echo "$input" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/')
    echo "$input" > "$dir/$(name "$server").json";;
  erase) rm "$dir/$(name "$input").json";;
esac
"#;

/// The environment of a test program is shared by its threads, so this one runs itself with another `PATH`.
#[test]
fn helpers_get_store_and_erase() {
    let directory = tempfile::tempdir().unwrap();
    let helper = directory.path().join("docker-credential-test");
    std::fs::write(&helper, HELPER).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "inside", "--ignored", "--nocapture"])
        .env("PATH", path)
        .env(DIRECTORY, directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("all of it ran"));
}

#[tokio::test]
#[ignore = "run by `helpers_get_store_and_erase`"]
async fn inside() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let path = Path::new(&directory).join("config.json");
    let config = r#"{"credsStore":"test","credHelpers":{"gone.io":"gone","plain.io":""},
        "auths":{"file.io":{"auth":"eDp5"},"plain.io":{"auth":"eDp5"}}}"#;
    std::fs::write(&path, config).unwrap();
    let store = CredentialStore::at(&path);
    let password = Credential::Password { username: "u".into(), password: "p\"q".into() };

    assert_eq!(store.find("a.io").await.unwrap(), None);
    store.store("a.io", &password).await.unwrap();
    store.store("docker.io", &Credential::Identity("t".into())).await.unwrap();
    assert_eq!(store.find("a.io").await.unwrap(), Some(password.clone()));
    assert_eq!(store.find("docker.io").await.unwrap(), Some(Credential::Identity("t".into())));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("p\\\"q") && text.contains("https://index.docker.io/v1/"), "{text}");

    // What the helper does not know may still be in the file.
    let from_file = Credential::Password { username: "x".into(), password: "y".into() };
    assert_eq!(store.find("file.io").await.unwrap(), Some(from_file.clone()));
    assert_eq!(store.find("plain.io").await.unwrap(), Some(from_file));

    assert!(store.erase("a.io").await.unwrap());
    assert_eq!(store.find("a.io").await.unwrap(), None);

    for (registry, expected) in [
        ("broken", "`docker-credential-test get` failed: the keyring is locked"),
        ("garbage", "`docker-credential-test get` failed: its answer is malformed"),
        ("gone.io", "cannot run `docker-credential-gone`"),
    ] {
        let error: CredentialError = store.find(registry).await.unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    println!("all of it ran");
}

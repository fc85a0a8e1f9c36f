//! Do images look the way BuildKit makes them?

use std::path::{Path, PathBuf};
use std::process::Command;

use rbuild_testkit::{Need, needs};

#[test]
fn visible_cases() {
    all_pass("visible");
}

#[test]
fn own_cases() {
    all_pass("own");
}

fn all_pass(set: &str) {
    needs!(
        Need::Root,
        Need::Overlay,
        Need::Prepared("RBUILD_TEST_STORE"),
        Need::Command("docker-registry"),
        Need::Command("python3")
    );
    let top: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let cases = top.join("testdata/conformance").join(set);
    let output = Command::new(top.join("scripts/conformance.sh"))
        .arg("--cases")
        .arg(cases)
        .env("RBUILD", crate::PROGRAM)
        .output()
        .unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}\n{errors}");
}

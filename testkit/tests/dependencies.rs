//! Do the crates depend on each other only in the direction of the design?
//!
//! ```text
//! cli ──► engine ──► frontend ──► solver ──► image ──► core
//!  │        ├──► registry ──────────────────► image ────┤
//!  │        ├──► cache ─────────────────────► image ────┤
//!  │        └──► executor ──────────────────────────────┘
//!  └──► executor (for `rbuild __init`), frontend (to draw its diagnostics)
//! ```

#![expect(clippy::unwrap_used, reason = "a test fails where its reading of `cargo metadata` is wrong")]

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// Who may use whom. A crate of the workspace that is not here is a mistake too.
const EDGES: &[(&str, &[&str])] = &[
    ("rbuild", &["rbuild-core", "rbuild-engine", "rbuild-executor", "rbuild-frontend", "rbuild-image"]),
    (
        "rbuild-engine",
        &[
            "rbuild-cache",
            "rbuild-core",
            "rbuild-executor",
            "rbuild-frontend",
            "rbuild-image",
            "rbuild-registry",
            "rbuild-solver",
        ],
    ),
    ("rbuild-frontend", &["rbuild-core", "rbuild-image", "rbuild-solver"]),
    ("rbuild-solver", &["rbuild-core", "rbuild-image"]),
    ("rbuild-registry", &["rbuild-core", "rbuild-image"]),
    ("rbuild-cache", &["rbuild-core", "rbuild-image"]),
    ("rbuild-executor", &["rbuild-core"]),
    ("rbuild-image", &["rbuild-core"]),
    ("rbuild-core", &[]),
    ("rbuild-testkit", &[]),
];

/// Measures the others, so it may use any of them; nobody may use it.
const BENCHES: &str = "rbuild-benches";

/// The workspace as `cargo metadata` tells it.
fn metadata() -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Every edge that is not allowed, as a line.
fn forbidden(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().unwrap();
    let name = |package: &Value| package["name"].as_str().unwrap().to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    let mut lines = Vec::new();
    for package in packages {
        let from = name(package);
        if from == BENCHES {
            continue;
        }
        let Some((_, allowed)) = EDGES.iter().find(|(crate_, _)| *crate_ == from) else {
            lines.push(format!("{from} is not part of the design"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = name(dependency);
            let kind = dependency["kind"].as_str().unwrap_or("normal");
            let fine = allowed.contains(&to.as_str()) || kind == "dev" && to == "rbuild-testkit";
            if ours.contains(&to) && !fine {
                lines.push(format!("{from} → {to} ({kind})"));
            }
        }
    }
    lines
}

#[test]
fn no_forbidden_edge() {
    assert_eq!(forbidden(&metadata()), [""; 0]);
}

#[test]
fn a_forbidden_edge_is_found() {
    let dependency = |name: &str, kind: Value| serde_json::json!({"name": name, "kind": kind});
    let metadata = serde_json::json!({"packages": [
        {"name": "rbuild-core", "dependencies": [dependency("serde", Value::Null)]},
        {"name": "rbuild-image", "dependencies": [dependency("rbuild-core", Value::Null)]},
        {"name": "rbuild-solver", "dependencies": [
            dependency("rbuild-cache", Value::Null), dependency("rbuild-testkit", "dev".into()),
        ]},
        {"name": "rbuild-cache", "dependencies": [dependency("rbuild-testkit", Value::Null)]},
        {"name": "rbuild-testkit", "dependencies": []},
        {"name": "rbuild-extra", "dependencies": []},
    ]});
    assert_eq!(
        forbidden(&metadata),
        [
            "rbuild-solver → rbuild-cache (normal)",
            "rbuild-cache → rbuild-testkit (normal)",
            "rbuild-extra is not part of the design",
        ]
    );
}

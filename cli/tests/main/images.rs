//! How are images named, listed, explained and deleted?

use std::fs;

use rbuild_testkit::Bench;
use serde_json::Value;

#[test]
fn images_are_tagged_listed_and_removed() {
    let bench = busybox_bench!();
    assert_eq!(bench.images(), ["busybox:latest"]);
    bench.run(&["tag", "busybox", "UPPER"]).fails(1).says(&["UPPER"]);
    bench.run(&["tag", "busybox", "localhost:5000/some/name:1.2"]).ok();
    assert_eq!(bench.images().len(), 2);
    let rows = bench.run(&["images", "--format", "json"]).ok().stdout;
    let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows[0]["ID"], rows[1]["ID"]);
    bench.run(&["rmi", "busybox"]).ok().says(&["Untagged: busybox:latest"]).never_says(&["Deleted"]);
    bench.run(&["rmi", "localhost:5000/some/name:1.2"]).ok().says(&["Deleted: sha256:"]);
    assert_eq!(bench.images(), [""; 0]);
    bench.run(&["rmi", "busybox"]).fails(1).says(&["busybox"]);
    bench.run(&["tag", "busybox", "other"]).fails(1).says(&["busybox"]);
}

#[test]
fn inspect_and_history_explain() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\nENV A=b\nRUN echo x > /x\nCMD [\"cat\", \"/x\"]\n");
    bench.build(&["-t", "made", "app"]).ok();
    let shown: Value = serde_json::from_str(&bench.run(&["inspect", "made"]).ok().stdout).unwrap();
    assert_eq!(shown[0]["Config"]["Cmd"], serde_json::json!(["cat", "/x"]));
    assert_eq!(shown[0]["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    assert_eq!(bench.run(&["inspect", "-f", "{{.Os}}", "made"]).ok().stdout, "linux\n");
    let history = bench.run(&["history", "made"]).ok().says(&["RUN", "echo x", "ENV A=b", "CMD"]);
    assert_eq!(history.stdout.lines().count(), 1 + 4, "{}", history.stdout);
    bench.run(&["inspect", "nothing"]).fails(1).says(&["nothing"]);
}

#[test]
fn prune_deletes_what_nothing_needs() {
    let bench = busybox_bench!();
    let build = |text: &str| {
        bench.file("app/big", vec![text.as_bytes()[0]; 3_000_000]).file("app/Dockerfile", "FROM busybox\nCOPY big /\n");
        bench.build(&["-t", "pruned", "app"]).ok();
    };
    build("a");
    build("b");
    let size = || {
        let output = std::process::Command::new("du").arg("-sk").arg(bench.state()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let before = size();
    bench.run(&["prune", "-f"]).ok();
    assert!(size() + 2500 < before, "{before} KiB before, {} KiB after", size());
    bench.run(&["run", "--rm", "pruned", "grep", "-q", "b", "/big"]).ok();
    bench.run(&["rmi", "pruned"]).ok();
    bench.run(&["prune", "-af"]).ok();
    assert!(size() < 8000, "{} KiB", size());
}

#[test]
fn doctor_and_version_tell_about_the_machine() {
    let bench = busybox_bench!();
    bench.run(&["doctor"]).ok().says(&["overlay", bench.state().to_str().unwrap()]);
    bench.run(&["version"]).ok().says(&[env!("CARGO_PKG_VERSION")]);
}

#[test]
fn doctor_tells_which_form_layers_take_and_why() {
    let bench = bare_bench!();
    let absent = bench.path("absent");
    let said = bench.run(&["--root", absent.to_str().unwrap(), "doctor"]).ok().says(&["ok       layers: "]).stdout;
    assert!(said.contains("the state directory, which is not there yet") && !absent.exists(), "{said}");
    bench.run(&["images"]).ok();
    bench.run(&["--layers", "directory", "doctor"]).ok().says(&["ok       layers: directories, as `--layers`"]);
    let said = bench.run(&["doctor"]).ok().stdout;
    let form = said.lines().find(|line| line.contains("  layers: ")).unwrap_or_else(|| panic!("{said}"));
    let files = bench.run(&["--layers", "erofs", "doctor"]).ok().stdout;
    match form.starts_with("ok") {
        true => assert!(form.contains("layers: files, which the kernel mounts") && files.contains(form), "{files}"),
        false => {
            assert!(form.contains("layers: directories") && said.contains("hint: files take root"), "{said}");
            assert!(files.contains("layers: layers cannot be erofs files here: "), "{files}");
        }
    }
}

/// Makes the row of a container one that nobody understands: it is JSON, of which one key is another one now.
fn damage(bench: &Bench<'_>, container: &str, key: &str) {
    let path = bench.state().join("meta-v1/data.mdb");
    let mut bytes = fs::read(&path).unwrap();
    let start = format!("\"id\":\"{container}\"").into_bytes();
    // Older states of the row are in the file, too.
    let starts: Vec<_> = (0..bytes.len() - start.len()).filter(|at| bytes[*at..].starts_with(&start)).collect();
    for at in starts {
        let place = bytes[at..].windows(key.len()).take(4000).position(|window| window == key.as_bytes());
        if let Some(place) = place {
            bytes[at + place + 1] = b'X';
        }
    }
    fs::write(&path, bytes).unwrap();
}

#[test]
fn a_build_says_what_keeps_the_store_from_being_cleaned_up() {
    let bench = bare_bench!();
    bench.file("app/Dockerfile", "FROM scratch\nCOPY file /\n").file("app/file", "1");
    bench.build(&["--gc", "off", "-t", "one", "app"]).ok();
    let container = bench.run(&["create", "one", "/file"]).ok().stdout.trim().to_owned();
    damage(&bench, &container, "\"layers\"");
    bench.file("app/file", "2");
    let says = ["the store was not cleaned up: ", "cannot be read", "; `rbuild rm ", &container[..12]];
    bench.build(&["-t", "two", "app"]).ok().says(&says);
    bench.run(&["rm", &container]).ok();
    bench.file("app/file", "3");
    bench.build(&["app"]).ok().never_says(&["cleaned up"]);
}

#[test]
fn one_container_that_cannot_be_understood_hides_no_other() {
    let bench = busybox_bench!();
    let create = |name: &str| bench.run(&["create", "--name", name, "busybox", "true"]).ok().stdout.trim().to_owned();
    let broken = create("broken");
    let sound = create("sound");
    damage(&bench, &broken, "\"hostname\"");
    let listed =
        bench.run(&["ps", "-a"]).ok().says(&["sound", &format!("note: container `{}` is left out", &broken[..12])]);
    assert!(listed.stderr.contains("; `rbuild rm "), "{}", listed.stderr);
    assert!(!listed.stdout.contains(&broken[..12]) && listed.stdout.contains(&sound[..12]), "{}", listed.stdout);
    bench.run(&["info"]).ok().says(&["Containers: 2"]);
    bench.run(&["inspect", "sound"]).ok();
    let refused = bench.run(&["start", "broken"]).fails(1);
    assert!(
        refused.stderr.contains("cannot be understood") && refused.stderr.contains("hint: `rbuild rm"),
        "{refused:?}"
    );
    bench.run(&["rm", "broken"]).ok();
    bench.run(&["ps", "-a"]).ok().never_says(&["left out"]);
    create("broken");
}

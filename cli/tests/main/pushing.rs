//! Is a large layer sent right while it is compressed, whatever happens to the connection, the registry or rbuild?

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rbuild_testkit::{Access, Bench, Need, Registry, needs};
use serde_json::Value;

const DOCKERFILE: &str = "\
FROM busybox
RUN head -c 30000000 /dev/urandom > /noise && seq 1000000 > /numbers && sha256sum /noise > /sum
RUN echo small > /small
";

fn build(bench: &Bench<'_>, name: &str) {
    bench.file("app/Dockerfile", DOCKERFILE).build(&["-q", "-t", name, "app"]).ok();
}

/// Pulls and looks.
fn assert_right(name: &str) {
    let other = Bench::new(crate::PROGRAM);
    let said = other.run(&["run", "--rm", name, "sh", "-c", "sha256sum -c /sum && tail -n 1 /numbers"]).ok();
    assert_eq!(said.stdout, "/noise: OK\n1000000\n");
}

/// `1: digest: sha256:… size: …`
fn told(output: &str) -> String {
    output.lines().last().unwrap().to_owned()
}

/// Takes the layers' blobs out of a store, as if they had never been compressed.
fn forget_blobs(bench: &Bench<'_>) {
    for blob in fs::read_dir(bench.state().join("blobs/sha256")).unwrap() {
        let path = blob.unwrap().path();
        if fs::metadata(&path).unwrap().len() > 1_000_000 {
            fs::remove_file(path).unwrap();
        }
    }
}

/// What happens on the way to a registry, once, when so many bytes have gone there.
#[derive(Clone, Copy, Debug)]
enum Accident {
    Never,
    Cut(u64),
    Stall(u64),
}

/// The way to a registry.
struct Line {
    address: String,
    carried: Arc<AtomicU64>,
    /// Uploads of what was not complete yet.
    streamed: Arc<AtomicUsize>,
}

impl Line {
    fn to(registry: &Registry, accident: Accident) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let line = Self { address, carried: Arc::default(), streamed: Arc::default() };
        let (carried, streamed, to) = (line.carried.clone(), line.streamed.clone(), registry.address().to_owned());
        let spent = Arc::new(AtomicUsize::new(0));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(mut client), Ok(mut server)) = (client, TcpStream::connect(&to)) else { return };
                let (mut back, mut from) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || {
                    drop(std::io::copy(&mut from, &mut back));
                    drop(back.shutdown(Shutdown::Both));
                });
                let (carried, streamed, spent) = (carried.clone(), streamed.clone(), spent.clone());
                thread::spawn(move || {
                    let mut buffer = vec![0; 64 << 10];
                    while let Ok(count @ 1..) = client.read(&mut buffer) {
                        // A request begins a segment.
                        streamed.fetch_add(usize::from(buffer.starts_with(b"PATCH ")), Ordering::Relaxed);
                        let now = carried.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
                        let first = |limit: u64| now > limit && spent.fetch_add(1, Ordering::Relaxed) == 0;
                        match accident {
                            Accident::Cut(limit) if first(limit) => break,
                            Accident::Stall(limit) if first(limit) => thread::sleep(Duration::from_secs(60)),
                            _ if server.write_all(&buffer[..count]).is_err() => break,
                            _ => {}
                        }
                    }
                    drop(server.shutdown(Shutdown::Both));
                    drop(client.shutdown(Shutdown::Both));
                });
            }
        });
        line
    }

    fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address)
    }

    fn streamed(&self) -> usize {
        self.streamed.load(Ordering::Relaxed)
    }
}

#[test]
fn a_layer_is_sent_while_it_is_compressed_and_is_what_the_store_has() {
    needs!(Need::Command("docker-registry"), Need::Command("skopeo"));
    let bench = busybox_bench!();
    let registries = [Registry::start(Access::Anonymous).unwrap(), Registry::start(Access::Anonymous).unwrap()];
    let lines = registries.each_ref().map(|registry| Line::to(registry, Accident::Never));
    let names = lines.each_ref().map(|line| line.name("app:1"));
    build(&bench, &names[0]);
    bench.run(&["tag", &names[0], &names[1]]).ok();
    let first = bench.run(&["push", &names[0]]).ok();
    assert_eq!(first.stdout.matches(": Pushed").count(), 3, "{}", first.stdout);
    // The other layers are complete before anything could be sent.
    assert_eq!(lines[0].streamed(), 1);
    bench.run(&["push", &names[0]]).ok().never_says(&[": Pushed"]);

    // From the store to another registry, then compressed once more: always the same.
    let whole = bench.run(&["push", &names[1]]).ok();
    assert_eq!((told(&whole.stdout), lines[1].streamed()), (told(&first.stdout), 0));
    forget_blobs(&bench);
    let third = Registry::start(Access::Anonymous).unwrap();
    let line = Line::to(&third, Accident::Never);
    bench.run(&["tag", &names[0], &line.name("app:1")]).ok();
    let again = bench.run(&["push", &line.name("app:1")]).ok();
    assert_eq!((told(&again.stdout), line.streamed()), (told(&first.stdout), 1));
    forget_blobs(&bench);
    bench.run(&["save", "-o", "saved.tar", &names[0]]).ok();
    let digest = first.stdout.split("digest: sha256:").nth(1).unwrap()[..64].to_owned();
    let listed = Command::new("tar").args(["tf", &bench.argument("saved.tar")]).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains(&digest), "{digest}");

    for name in [&names[0], &line.name("app:1")] {
        assert_right(name);
        assert_others_read(&bench, name);
    }
}

/// `skopeo` compares the digests of what travels, decompresses it, and says the same of the tars as the configuration.
fn assert_others_read(bench: &Bench<'_>, name: &str) {
    let skopeo = |arguments: &[&str]| {
        let output = Command::new("skopeo").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let remote = format!("docker://{name}");
    skopeo(&["inspect", "--tls-verify=false", &remote]);
    let directory = bench.argument("copied");
    drop(fs::remove_dir_all(&directory));
    skopeo(&["copy", "-q", "--src-tls-verify=false", "--dest-decompress", &remote, &format!("dir:{directory}")]);
    let read =
        |path: &str| -> Value { serde_json::from_slice(&fs::read(Path::new(&directory).join(path)).unwrap()).unwrap() };
    let manifest = read("manifest.json");
    let config = read(&manifest["config"]["digest"].as_str().unwrap()["sha256:".len()..]);
    let layers: Vec<_> = manifest["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].clone()).collect();
    assert_eq!(Value::from(layers), config["rootfs"]["diff_ids"]);
}

#[test]
fn a_zstd_layer_is_sent_while_it_is_compressed() {
    needs!(Need::Command("docker-registry"), Need::Command("skopeo"));
    let bench = busybox_bench!();
    let registry = Registry::start(Access::Anonymous).unwrap();
    let line = Line::to(&registry, Accident::Never);
    let name = line.name("app");
    let output = format!("type=image,name={name},push=true,compression=zstd");
    bench.file("app/Dockerfile", DOCKERFILE).build(&["-q", "-o", &output, "app"]).ok();
    assert_eq!(line.streamed(), 1);
    assert_right(&name);
    assert_others_read(&bench, &name);
    // It travels like that from now on.
    bench.run(&["push", &name]).ok().never_says(&[": Pushed"]);
}

#[test]
fn a_connection_that_breaks_in_the_middle_costs_only_time() {
    needs!(Need::Command("docker-registry"));
    let bench = busybox_bench!();
    for (number, limit) in [100_000, 6_000_000, 25_000_000].into_iter().enumerate() {
        let registry = Registry::start(Access::Anonymous).unwrap();
        let line = Line::to(&registry, Accident::Cut(limit));
        let name = line.name(&format!("app:{number}"));
        build(&bench, &name);
        forget_blobs(&bench);
        bench.run(&["push", &name]).ok();
        assert!(line.carried.load(Ordering::Relaxed) > 30_000_000 + limit / 2, "{limit}");
        assert_right(&name);
    }
}

#[test]
fn a_killed_push_leaves_a_whole_store() {
    needs!(Need::Command("docker-registry"));
    let bench = busybox_bench!();
    let registry = Registry::start(Access::Anonymous).unwrap();
    let name = registry.name("app");
    build(&bench, &name);
    for limit in [1, 2_000_000, 20_000_000] {
        let line = Line::to(&registry, Accident::Stall(limit));
        bench.run(&["tag", &name, &line.name("app")]).ok();
        forget_blobs(&bench);
        let mut command = bench.command(&["push", &line.name("app")]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while line.carried.load(Ordering::Relaxed) <= limit && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        bench.assert_nothing_is_left();
        bench.run(&["prune", "-f"]).ok();
        let left: Vec<_> = fs::read_dir(bench.state().join("ingest")).unwrap().collect();
        assert!(left.is_empty(), "{limit}: {left:?}");
    }
    bench.run(&["push", &name]).ok();
    assert_right(&name);
}

#[test]
fn two_pushes_of_one_image_at_once_agree() {
    needs!(Need::Command("docker-registry"));
    let bench = busybox_bench!();
    let registry = Registry::start(Access::Anonymous).unwrap();
    let names = ["one", "other"].map(|repository| registry.name(repository));
    build(&bench, &names[0]);
    bench.run(&["tag", &names[0], &names[1]]).ok();
    // Into one repository and into two.
    for pair in [[&names[0], &names[0]], [&names[0], &names[1]]] {
        forget_blobs(&bench);
        let start = |name: &&String| bench.command(&["push", name]).stdout(Stdio::piped()).spawn().unwrap();
        let ended = pair.each_ref().map(start).map(|child| child.wait_with_output().unwrap());
        assert!(ended.iter().all(|output| output.status.success()), "{ended:?}");
        let [one, other] = ended.map(|output| told(&String::from_utf8(output.stdout).unwrap()));
        assert_eq!(one, other);
    }
    names.iter().for_each(|name| assert_right(name));
}

#[test]
fn a_layer_that_an_image_has_twice_is_sent_once() {
    needs!(Need::Command("docker-registry"));
    let bench = busybox_bench!();
    let registry = Registry::start(Access::Anonymous).unwrap();
    let name = registry.name("twice:1");
    bench.file("app/Dockerfile", "FROM busybox\nRUN true\nRUN echo here >/x\nRUN true 2\nRUN true 3\n");
    bench.build(&["-q", "-t", &name, "app"]).ok();
    let said = bench.run(&["push", &name]).ok();
    let count = |text: &str| said.stdout.matches(text).count();
    assert_eq!((count(": Pushed"), count(": Layer already exists")), (3, 2), "{}", said.stdout);
    let other = Bench::new(crate::PROGRAM);
    assert_eq!(other.run(&["run", "--rm", &name, "cat", "/x"]).ok().stdout, "here\n");
}

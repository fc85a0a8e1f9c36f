//! Do images survive a registry?

use std::process::Command;

use rbuild_testkit::registry::{PASSWORD, USER};
use rbuild_testkit::{Access, Bench, Need, Registry, needs};

const DOCKERFILE: &str = "FROM busybox\nRUN mkdir /d && echo pushed > /d/x && chown -R 7:8 /d\nCMD cat /d/x\n";

/// Builds, pushes with one store, pulls with another, and runs.
fn round_trip(bench: &Bench<'_>, other: &Bench<'_>, name: &str) {
    bench.file("app/Dockerfile", DOCKERFILE).build(&["-t", name, "app"]).ok();
    let pushed = bench.run(&["push", name]).ok();
    let again = bench.run(&["push", name]).ok();
    assert!(again.stdout.contains("already exists") && !again.stdout.contains(": Pushed"), "{}", again.stdout);
    assert_eq!(pushed.stdout.lines().last(), again.stdout.lines().last());
    other.run(&["pull", name]).ok().says(&["Digest: sha256:", "Downloaded newer image"]);
    other.run(&["pull", name]).ok().says(&["up to date"]);
    assert_eq!(other.run(&["run", "--rm", name]).ok().stdout, "pushed\n");
    assert_eq!(other.run(&["run", "--rm", name, "stat", "-c", "%u:%g", "/d/x"]).ok().stdout, "7:8\n");
    let id = |bench: &Bench<'_>| bench.run(&["images", "-q", "--no-trunc", name]).ok().stdout;
    assert_eq!(id(bench), id(other));
}

#[test]
fn anonymous_registry() {
    needs!(Need::Command("docker-registry"), Need::Command("skopeo"));
    let bench = busybox_bench!();
    let registry = Registry::start(Access::Anonymous).unwrap();
    let name = registry.name("some/koa:1");
    round_trip(&bench, &Bench::new(crate::PROGRAM), &name);
    let output =
        Command::new("skopeo").args(["inspect", "--tls-verify=false", &format!("docker://{name}")]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // A base that is only in the registry is pulled by the build that needs it.
    let third = Bench::new(crate::PROGRAM);
    third.file("app/Dockerfile", format!("FROM {name}\nRUN test \"$(cat /d/x)\" = pushed\n")).build(&["app"]).ok();
    // A second tag needs no layer.
    bench.run(&["tag", &name, &registry.name("another/name")]).ok();
    bench.run(&["push", &registry.name("another/name")]).ok().never_says(&[": Pushed"]);
    bench.run(&["pull", &registry.name("no/such")]).fails(1).says(&["no/such"]);
}

#[test]
fn build_can_push() {
    needs!(Need::Command("docker-registry"));
    let bench = busybox_bench!();
    let registry = Registry::start(Access::Anonymous).unwrap();
    let name = registry.name("built");
    bench.file("app/Dockerfile", DOCKERFILE).build(&["--push", "-t", &name, "app"]).ok();
    let other = Bench::new(crate::PROGRAM);
    assert_eq!(other.run(&["run", "--rm", &name]).ok().stdout, "pushed\n");
}

#[test]
fn build_can_push_zstd() {
    needs!(Need::Command("docker-registry"), Need::Command("skopeo"));
    let bench = busybox_bench!();
    let registry = Registry::start(Access::Anonymous).unwrap();
    let (gzip, zstd) = (registry.name("gzip"), registry.name("zstd"));
    bench.file("app/Dockerfile", DOCKERFILE).build(&["--push", "-t", &gzip, "app"]).ok();
    let output = format!("type=image,name={zstd},push=true,compression=zstd,compression-level=1");
    bench.build(&["-o", &output, "app"]).ok();
    let layers = |name: &str| {
        let arguments = ["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")];
        let output = Command::new("skopeo").args(arguments).output().unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let layers = manifest["layers"].as_array().unwrap().clone();
        layers.iter().map(|layer| layer["mediaType"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // Those of the base stay as they came.
    assert_eq!(layers(&gzip).last().unwrap(), "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(layers(&zstd).last().unwrap(), "application/vnd.oci.image.layer.v1.tar+zstd");
    let other = Bench::new(crate::PROGRAM);
    assert_eq!(other.run(&["run", "--rm", &zstd]).ok().stdout, "pushed\n");
}

#[test]
fn registry_with_password() {
    needs!(Need::Command("docker-registry"), Need::Command("htpasswd"));
    let bench = busybox_bench!();
    let registry = Registry::start(Access::Password).unwrap();
    let name = registry.name("private");
    bench.file("app/Dockerfile", DOCKERFILE).build(&["-t", &name, "app"]).ok();
    bench.run(&["push", &name]).fails(1).says(&["login"]);
    let login = |bench: &Bench<'_>, password: &str| {
        bench.run_with_input(&["login", "-u", USER, "--password-stdin", registry.address()], password)
    };
    login(&bench, "wrong").fails(1);
    login(&bench, PASSWORD).ok().never_says(&[PASSWORD]);
    let other = Bench::new(crate::PROGRAM);
    login(&other, PASSWORD).ok();
    round_trip(&bench, &other, &name);
    other.run(&["logout", registry.address()]).ok();
    other.run(&["rmi", &name]).ok();
    other.run(&["pull", &name]).fails(1);
}

#[test]
fn registry_with_tls() {
    needs!(Need::Command("docker-registry"), Need::Command("openssl"));
    let registry = Registry::start(Access::Tls).unwrap();
    let name = registry.name("secure");
    let authority = registry.authority().display().to_string();
    let bench = busybox_bench!().with_variable("SSL_CERT_FILE", &authority);
    let other = Bench::new(crate::PROGRAM).with_variable("SSL_CERT_FILE", &authority);
    round_trip(&bench, &other, &name);
    let stranger = Bench::new(crate::PROGRAM).with_variable("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt");
    stranger.run(&["pull", &name]).fails(1).says(&["certificate"]);
    stranger.run(&["--insecure-registry", registry.address(), "pull", &name]).ok();
}

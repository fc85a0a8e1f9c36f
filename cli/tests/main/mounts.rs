//! What does a RUN see that its image does not have?

#[test]
fn a120_cache_mounts_are_kept_between_builds_and_out_of_images() {
    let bench = busybox_bench!();
    bench.file(
        "app/Dockerfile",
        "FROM busybox\nARG ROUND\nRUN --mount=type=cache,target=/cache,id=e2e echo $ROUND >> /cache/rounds && cp /cache/rounds /seen\nCMD cat /seen\n",
    );
    for round in ["one", "two"] {
        bench.build(&["--build-arg", &format!("ROUND={round}"), "-t", "cached", "app"]).ok();
    }
    assert_eq!(bench.run(&["run", "--rm", "cached"]).ok().stdout, "one\ntwo\n");
    let tree = bench.image(&["--build-arg", "ROUND=two", "app"]).tree();
    assert!(!tree.contains_key("cache/rounds"), "the cache is in the image");
}

#[test]
fn a122_secrets_are_seen_by_their_step_only() {
    let bench = busybox_bench!();
    bench.file("token", "s3cr3t-value");
    bench.file(
        "app/Dockerfile",
        "FROM busybox\nRUN --mount=type=secret,id=token sha256sum /run/secrets/token | grep -q ^1f3fa74b1208842a\n\
         RUN --mount=type=secret,id=name,target=/name,mode=0444 grep -q of-alice /name\n\
         RUN --mount=type=secret,id=variable,env=TOKEN test \"$TOKEN\" = from-environment\n\
         RUN test ! -e /run/secrets/token && test ! -e /name\n",
    );
    let secrets =
        ["--secret", "id=token,src=token", "--secret", "id=name,env=NAME", "--secret", "id=variable,env=VARIABLE"];
    let mut command =
        bench.command(&[&["build", "--progress", "plain"], &secrets[..], &["-t", "secret", "app"]].concat());
    command.env("NAME", "of-alice").env("VARIABLE", "from-environment");
    rbuild_testkit::bench::finish(command, b"").ok();
    bench.run(&["save", "-o", "secret.tar", "secret"]).ok();
    let bytes = std::fs::read(bench.path("secret.tar")).unwrap();
    assert!(!bytes.windows(6).any(|window| window == b"s3cr3t"), "the secret is in the image");
}

#[test]
fn a122_a_missing_secret_is_empty_unless_required() {
    let bench = busybox_bench!();
    bench.file("app/Dockerfile", "FROM busybox\nRUN --mount=type=secret,id=nobody test ! -e /run/secrets/nobody\n");
    bench.build(&["app"]).ok();
    bench.file("app/Dockerfile", "FROM busybox\nRUN --mount=type=secret,id=nobody,required true\n");
    bench.build(&["app"]).fails(1).says(&["nobody", "Dockerfile:2"]);
}

#[test]
fn a112_a113_bind_mounts_show_the_context_and_stages() {
    let bench = busybox_bench!();
    bench.file("app/data/x", "from the context\n");
    bench.file(
        "app/Dockerfile",
        "FROM busybox AS other\nRUN echo 'from a stage' > /y\nFROM busybox\n\
         RUN --mount=type=bind,source=data,target=/data --mount=type=bind,from=other,source=/y,target=/y cat /data/x /y > /seen && ! touch /data/new 2>/dev/null\n\
         RUN --mount=type=bind,source=data,target=/data,rw touch /data/new\n\
         RUN test ! -e /data/x\nCMD cat /seen\n",
    );
    bench.build(&["-t", "bound", "app"]).ok();
    assert_eq!(bench.run(&["run", "--rm", "bound"]).ok().stdout, "from the context\nfrom a stage\n");
    assert!(!bench.path("app/data/new").exists(), "the context was written to");
}

#[test]
fn a121_tmpfs_mounts_leave_nothing() {
    let bench = busybox_bench!();
    bench.file(
        "app/Dockerfile",
        "FROM busybox\nRUN mkdir /scratch && echo kept > /scratch/kept\n\
         RUN --mount=type=tmpfs,target=/scratch,size=1m test ! -e /scratch/kept && echo gone > /scratch/gone && grep -q ' /scratch tmpfs ' /proc/mounts\n",
    );
    let tree = bench.image(&["app"]).tree();
    assert!(tree.contains_key("scratch/kept") && !tree.contains_key("scratch/gone"));
}

#[test]
fn certificates_of_the_host_are_seen_and_not_kept() {
    let bench = busybox_bench!();
    bench.file("ca.pem", "-----BEGIN CERTIFICATE-----\nnot really\n-----END CERTIFICATE-----\n");
    bench.file(
        "app/Dockerfile",
        "FROM busybox\nRUN if [ -n \"$SSL_CERT_FILE\" ]; then cat \"$SSL_CERT_FILE\"; else echo without; fi > /tmp/seen; echo ran\n",
    );
    let build = |arguments: &[&str]| {
        let archive = "ca.tar";
        let output = format!("type=oci,dest={archive}");
        let mut command =
            bench.command(&[&["build", "--progress", "plain", "-o", &output], arguments, &["app"]].concat());
        command.env("SSL_CERT_FILE", bench.path("ca.pem"));
        rbuild_testkit::bench::finish(command, b"").ok()
    };
    build(&["--host-ca"]);
    let image = rbuild_testkit::Image::read(&bench.path("ca.tar")).unwrap();
    assert!(!image.setting("Env").to_string().contains("SSL_CERT_FILE"), "{}", image.config);
    let extra: Vec<_> = image.layers.last().unwrap().iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(extra, ["tmp", "tmp/seen"], "more than the step's own files is in its layer");
    // No part of a key: the same step without the certificates is the same step.
    let again = build(&[]);
    assert!(again.cached().iter().any(|title| title.contains("RUN if")), "{}", again.stderr);
}

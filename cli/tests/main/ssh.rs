//! Can a RUN use an SSH agent, and nobody else's keys?
//!
//! The other side is OpenSSH: its agent on the host, its `ssh-add` and `ssh-keygen` in the image, with their libraries.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rbuild_testkit::{Bench, Need, needs, probe};

/// A bench with busybox and OpenSSH's client at `app/client`, ready to be copied to `/`.
macro_rules! ssh_bench {
    () => {{
        needs!(Need::Command("ssh-agent"), Need::Command("ssh-add"), Need::Command("ssh-keygen"), Need::Command("ldd"));
        let bench = busybox_bench!();
        client(&bench);
        bench
    }};
}

/// An agent of the test's own.
struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(bench: &Bench<'_>, name: &str) -> Self {
        let socket = bench.path(name);
        let child = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begin = Instant::now();
        while !socket.exists() {
            assert!(begin.elapsed() < Duration::from_secs(30), "ssh-agent does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { child, socket }
    }

    fn add(&self, arguments: &[&str]) -> String {
        let output = Command::new("ssh-add").args(arguments).env("SSH_AUTH_SOCK", &self.socket).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn client(bench: &Bench<'_>) {
    for program in ["ssh-add", "ssh-keygen"].map(|name| probe::find(name).unwrap()) {
        let listed = Command::new("ldd").arg(&program).output().unwrap().stdout;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let libraries = listed.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new);
        for path in libraries.chain([program.as_path()]) {
            bench.script(&format!("app/client{}", path.display()), std::fs::read(path).unwrap());
        }
    }
}

/// Makes a key pair on the bench and puts its public half into the context.
pub(crate) fn key(bench: &Bench<'_>, name: &str, arguments: &[&str]) -> String {
    let path = bench.argument(name);
    let made = Command::new("ssh-keygen")
        .args(["-q", "-N", "", "-C", &format!("comment-{name}"), "-f", &path])
        .args(arguments)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    bench.file(&format!("app/{name}.pub"), bench.read(&format!("{name}.pub")));
    path
}

#[test]
fn a125_an_agent_signs_for_steps_and_does_nothing_else() {
    let bench = ssh_bench!();
    let agent = Agent::start(&bench, "agent");
    let path = key(&bench, "one", &["-t", "ed25519"]);
    agent.add(&["-q", &path]);
    bench.file(
        "app/Dockerfile",
        "FROM busybox\nCOPY client/ /\nCOPY one.pub /\n\
         RUN --mount=type=ssh ssh-add -l | grep comment-one && ssh-add -T /one.pub\n\
         RUN --mount=type=ssh test $SSH_AUTH_SOCK = /run/buildkit/ssh_agent.0 && test \"$(stat -c '%a %u %g' $SSH_AUTH_SOCK)\" = '600 0 0'\n\
         RUN --mount=type=ssh ! ssh-add -D && ! ssh-add -d /one.pub && ssh-add -l\n\
         USER 1000:1000\n\
         RUN --mount=type=ssh ! ssh-add -l\n\
         RUN --mount=type=ssh,uid=1000,gid=1000,target=/tmp/agent test $SSH_AUTH_SOCK = /tmp/agent && ssh-add -T /one.pub\n\
         RUN --mount=type=ssh,mode=0666 for i in 1 2 3 4; do ssh-add -l & done; wait; ssh-add -l\n\
         RUN test -z \"$SSH_AUTH_SOCK\" && test ! -e /run/buildkit/ssh_agent.0\n",
    );
    let build = |socket: &Path, arguments: &[&str]| {
        let mut command = bench.command(&[&["build", "--progress", "plain"], arguments, &["app"]].concat());
        command.env("SSH_AUTH_SOCK", socket);
        rbuild_testkit::bench::finish(command, b"")
    };
    build(&agent.socket, &["--ssh", "default", "-t", "signed"]).ok();
    assert!(agent.add(&["-l"]).contains("comment-one"), "a step removed the key");
    let tree = bench.image(&["--ssh", &format!("default={}", agent.socket.display()), "app"]).tree();
    assert!(
        !tree.keys().any(|path| path.starts_with("run/buildkit") || path == "tmp/agent"),
        "the socket is in the image"
    );
    // Another agent, and none at all, are found under the same keys.
    let other = Agent::start(&bench, "other");
    for arguments in [&["--ssh", "default"][..], &[]] {
        let again = build(&other.socket, arguments).ok();
        assert!(again.done().iter().all(|title| !title.contains("RUN")), "{}", again.stderr);
    }
}

#[test]
fn a125_keys_in_files_need_no_agent() {
    let bench = ssh_bench!();
    let mut paths = Vec::new();
    let mut text = "FROM busybox\nCOPY client/ /\nCOPY *.pub /\n".to_owned();
    for (name, arguments) in [
        ("ed25519", &["-t", "ed25519"][..]),
        ("p256", &["-t", "ecdsa", "-b", "256"]),
        ("p384", &["-t", "ecdsa", "-b", "384"]),
        ("p384-pkcs8", &["-t", "ecdsa", "-b", "384", "-m", "PKCS8"]),
        ("rsa", &["-t", "rsa", "-b", "2048"]),
        ("rsa-pkcs1", &["-t", "rsa", "-b", "2048", "-m", "PEM"]),
        ("rsa-pkcs8", &["-t", "rsa", "-b", "3072", "-m", "PKCS8"]),
    ] {
        paths.push(key(&bench, name, arguments));
        // The agent signs, with a hash that is still taken for RSA, and the program verifies.
        text.push_str(&format!(
            "RUN --mount=type=ssh,id=work,required ssh-keygen -Y sign -f /{name}.pub -n test /bin/busybox && \
             ssh-keygen -Y check-novalidate -n test -s /bin/busybox.sig </bin/busybox && rm /bin/busybox.sig\n"
        ));
    }
    text.push_str(
        "RUN --mount=type=ssh,id=work test $(ssh-add -l | wc -l) = 7 && ssh-add -l | grep 'comment-ed25519'\n",
    );
    bench.file("app/Dockerfile", text);
    bench.build(&["--ssh", &format!("work={}", paths.join(",")), "app"]).ok();
    for (name, arguments, expected) in [
        ("p521", &["-t", "ecdsa", "-b", "521"][..], "keys of type `ecdsa-sha2-nistp521`"),
        ("secret", &["-t", "ed25519", "-N", "passphrase"], "it is protected by a passphrase"),
        ("secret-pem", &["-t", "rsa", "-m", "PEM", "-N", "passphrase"], "it is protected by a passphrase"),
    ] {
        let path = key(&bench, name, arguments);
        bench.build(&["--ssh", &format!("work={path}"), "app"]).fails(1).says(&[name, expected]);
    }
}

#[test]
fn a125_who_has_no_agent_is_told() {
    let bench = busybox_bench!();
    let says = "echo \"agent $SSH_AUTH_SOCK\"; ls /run/buildkit";
    bench.file("app/Dockerfile", format!("FROM busybox\nRUN --mount=type=ssh ! {{ {says}; }}\n"));
    bench.build(&["app"]).ok().says(&["agent /run/buildkit/ssh_agent.0", "No such file or directory"]);
    bench.build(&["--ssh", "default", "app"]).fails(1).says(&["`SSH_AUTH_SOCK` is not set", "hint: ", "ssh-agent"]);
    bench.build(&["--ssh", "default=/no/such/socket", "app"]).fails(1).says(&["cannot use `/no/such/socket`"]);
    bench.file("app/Dockerfile", "FROM busybox\nRUN --mount=type=ssh,required true\n");
    bench.build(&["app"]).fails(1).says(&["SSH agent `default` is required", "Dockerfile:2", "`--ssh default`"]);
    bench.file("app/Dockerfile", "FROM busybox\nRUN --mount=type=ssh,id=work,required true\n");
    bench.build(&["app"]).fails(1).says(&["SSH agent `work` is required", "`--ssh work=SOCKET`"]);
}

#[test]
fn a125_a_raw_socket_is_passed_on_as_it_is() {
    let bench = ssh_bench!();
    let agent = Agent::start(&bench, "agent");
    agent.add(&["-q", &key(&bench, "one", &["-t", "ed25519"])]);
    bench.file("app/Dockerfile", "FROM busybox\nCOPY client/ /\nRUN --mount=type=ssh,id=all,required ssh-add -D\n");
    bench.build(&["--ssh", &format!("all={},raw=true", agent.socket.display()), "app"]).ok();
    assert!(!agent.add(&["-l"]).contains("comment-one"), "the step was not heard");
}

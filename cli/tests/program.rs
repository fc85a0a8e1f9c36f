//! What does the program do with command lines that need no container?

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A state directory, and a context beside it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory can be made"))
    }

    fn file(&self, name: &str, text: &str) -> &Self {
        fs::write(self.0.path().join(name), text).expect("a temporary directory can be written to");
        self
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rbuild"));
        command
            .args(line.split_whitespace())
            .current_dir(self.0.path())
            .env("RBUILD_ROOT", self.0.path().join("state"))
            .env_remove("BUILDKIT_PROGRESS")
            .env_remove("RBUILD_LOG")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().expect("the program was built")
    }

    /// Runs it and expects an exit code and texts on standard output and standard error.
    fn expect(&self, line: &str, code: i32, stdout: &str, stderr: &str) {
        let output = self.run(line);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "`rbuild {line}`: {out}{err}");
        assert!(out.contains(stdout), "`rbuild {line}` should print `{stdout}`, not `{out}`");
        assert!(err.contains(stderr), "`rbuild {line}` should complain `{stderr}`, not `{err}`");
        assert!(!stderr.is_empty() || err.is_empty(), "`rbuild {line}` should not complain: `{err}`");
    }
}

#[test]
fn exit_codes_and_streams() {
    let place = Place::new();
    fs::create_dir(place.0.path().join("context")).unwrap();
    place.file("mistakes", "FROM scratch\nRUNN x\nCOPY a\n").file("taken", "x").file("network", "");
    for (line, code, stdout, stderr) in [
        ("", 0, "Usage: rbuild [build] [OPTIONS] CONTEXT", ""),
        ("--help", 0, "Exit codes:", ""),
        ("run --help", 0, "Usage: rbuild run [OPTIONS] <IMAGE> [COMMAND]...", ""),
        ("help build", 0, "--build-arg", ""),
        ("--version", 0, env!("CARGO_PKG_VERSION"), ""),
        ("version", 0, env!("CARGO_PKG_VERSION"), ""),
        ("completion bash", 0, "--no-cache-filter", ""),
        ("images", 0, "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n", ""),
        ("image ls -q", 0, "", ""),
        ("ps -a", 0, "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n", ""),
        ("-t x", 2, "", "error: the build context is missing\nhint: `rbuild .` builds the current directory\n"),
        ("run", 2, "", "required arguments were not provided"),
        ("run --env-file nothing image", 125, "", "error: cannot read `nothing`"),
        ("--nosuchflag .", 2, "", "unexpected argument '--nosuchflag'"),
        ("--squash .", 2, "", "error: not supported: --squash\n"),
        ("exec -it web sh", 2, "", "error: not supported: `rbuild exec`\n"),
        ("system nothing", 2, "", "error: `system` has no command `nothing`"),
        ("imagse", 1, "", "hint: `imagse` is neither a directory nor a command of `rbuild --help`\n"),
        ("-f nothing context", 1, "", "error: cannot read the Dockerfile `nothing`"),
        ("-f mistakes context", 1, "", "--> mistakes:2:1"),
        ("-f mistakes context", 1, "", "--> mistakes:3:"),
        ("inspect nothing", 1, "[]\n", "error: there is no container or image `nothing`"),
        ("rmi nothing other", 1, "", "error: there is no image `other`"),
        ("rm nothing other", 1, "", "error: there is no container `other`"),
        ("logs nothing", 1, "", "error: there is no container `nothing`"),
        ("load -i nothing", 1, "", "error: cannot read `nothing`"),
        ("prune", 2, "", "hint: `--force` does not ask"),
        ("--root taken/below images", 1, "", "error: "),
    ] {
        place.expect(line, code, stdout, stderr);
    }
}

#[test]
fn build_from_nothing_leaves_what_was_asked_for() {
    let place = Place::new();
    place.file("Dockerfile", "FROM scratch\nLABEL a=b\nCMD [\"/x\"]\n");
    let quiet = place.run("-q -t one:1 --label c=d --iidfile id --metadata-file metadata .");
    let id = String::from_utf8(quiet.stdout).unwrap();
    assert!(quiet.status.success() && quiet.stderr.is_empty(), "{}", String::from_utf8_lossy(&quiet.stderr));
    assert_eq!(id.trim_end(), fs::read_to_string(place.0.path().join("id")).unwrap());
    let metadata = fs::read_to_string(place.0.path().join("metadata")).unwrap();
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    assert_eq!(metadata["containerimage.config.digest"], id.trim_end());
    assert_eq!(metadata["image.name"], "docker.io/library/one:1");

    place.expect("inspect -f {{.Config.Labels}}{{.Config.Cmd}} one:1", 0, "map[a:b c:d][/x]\n", "");
    place.expect("tag one:1 two", 0, "", "");
    place.expect("image ls two", 0, "two          latest    ", "");
    place.expect("history --no-trunc two", 0, "CMD [\"/x\"]", "");
    place.expect("save -o archive one:1 two", 0, "", "");
    place.expect("rmi one:1 two", 0, "Deleted: sha256:", "");
    place.expect("images -q", 0, "", "");
    place.expect("load -i archive", 0, "Loaded image: one:1\n", "");
    place.expect("inspect -f {{.Id}} two", 0, &id, "");
}

#[test]
fn dockerfile_is_checked_and_build_foretold_without_building() {
    let place = Place::new();
    place.file("Dockerfile", "FROM scratch\nCOPY a /\n").file("a", "1");
    place.expect("--check .", 0, "no warnings found\n", "");
    place.expect("plan .", 0, "   1     2  new      COPY a / ", "");
    place.expect("images -q", 0, "", "");
    place.expect("-q .", 0, "sha256:", "");
    place.expect("plan .", 0, "   1     2  cached   COPY a / ", "");
    place.file("a", "22");
    place.expect("plan .", 0, "files in the build context changed:\n                     content  a\n", "");
    place.expect("-q .", 0, "sha256:", "");
    place.expect("why", 0, "files in the build context changed:\n                        content  a\n", "");

    place.file("Dockerfile", "from scratch AS a\nCMD x\n");
    place.expect("--check .", 1, "warning[JSONArgsRecommended]", "");
    place.file("Dockerfile", "# check=error=true\nFROM scratch\nCMD x\n");
    place.expect("-q .", 1, "", "error[JSONArgsRecommended]");
}

#[test]
fn archive_goes_to_standard_output() {
    let place = Place::new();
    place.file("Dockerfile", "FROM scratch\nLABEL a=b\n");
    let output = place.run("--progress=quiet -o type=oci .");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(&output.stdout[257..262], b"ustar");
    place.expect("-q -o - .", 2, "", "both want standard output");
}

#[test]
fn dockerfile_on_standard_input() {
    let place = Place::new();
    place.file("dockerfile-elsewhere", "FROM scratch\nNONSENSE\n");
    let input = fs::File::open(place.0.path().join("dockerfile-elsewhere")).unwrap();
    let output = place.command("build -").stdin(input).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--> Dockerfile:2:1"));
}

#[test]
fn interrupt_ends_a_command_that_waits_for_input() {
    use rustix::process::{Pid, Signal, kill_process};

    let place = Place::new();
    let (reader, _writer) = std::io::pipe().unwrap();
    let mut child = place.command("build -").stdin(reader).spawn().unwrap();
    let pid = Pid::from_child(&child);
    // The first signals may come before the program listens, or reads; they end it all the same.
    std::thread::sleep(std::time::Duration::from_millis(300));
    kill_process(pid, Signal::INT).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130), "{status}");
}

#[test]
fn closed_standard_output_is_no_error() {
    let place = Place::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = place.command("images").stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn colours_are_only_for_terminals_and_those_who_insist() {
    let place = Place::new();
    let escape = |output: &Output| output.stderr.contains(&0x1b);
    assert!(!escape(&place.run("inspect nothing")));
    assert!(escape(&place.command("inspect nothing").env("CLICOLOR_FORCE", "1").output().unwrap()));
    let never = place.command("inspect nothing").env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1").output().unwrap();
    assert!(!escape(&never));
}

#[test]
fn state_directory_is_made_where_it_was_asked_for() {
    let place = Place::new();
    place.expect("--root here images", 0, "REPOSITORY", "");
    assert!(Path::new(&place.0.path().join("here")).is_dir());
    assert!(!place.0.path().join("state").exists());
}

//! `rbuild run`: which container does a command line ask for?

use std::path::PathBuf;

use clap::{ArgAction, Args};
use rbuild_engine::{Attach, Container, Engine, RunError, RunRequest};

use crate::arguments::unsupported::{Flag, Refuses, Unsupported};
use crate::arguments::values::{self, Assignment};
use crate::failure::Failure;
use crate::interrupt::interruptible;
use crate::progress::{Progress, ProgressMode};
use crate::session::{Session, print};

#[derive(Args, Clone, Debug)]
// `-h` is the host name, as it is for Docker.
#[command(disable_help_flag = true)]
pub struct RunArgs {
    /// Image; pulled if it is not there
    #[arg(value_name = "IMAGE", required = true)]
    image: String,

    /// Command and its arguments, instead of the image's CMD
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,

    /// Let it run on its own and print its ID
    #[arg(short, long)]
    detach: bool,

    /// Remove the container when it ends
    #[arg(long)]
    rm: bool,

    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,

    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,

    /// Publish a port on this machine (repeatable)
    #[arg(short, long = "publish", value_name = "[IP:][HOST:]CONTAINER[/PROTOCOL]")]
    ports: Vec<String>,

    /// Set a variable; without a value, from the environment (repeatable)
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = values::assignment)]
    env: Vec<Assignment>,

    /// Read variables from a file
    #[arg(long = "env-file", value_name = "PATH")]
    env_files: Vec<PathBuf>,

    /// Show a directory or file of this machine to it; a HOST that is not there becomes a directory (repeatable)
    #[arg(short, long = "volume", value_name = "HOST:CONTAINER[:ro]")]
    volumes: Vec<String>,

    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,

    /// User, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Name of the container
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Program, instead of the image's ENTRYPOINT
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,

    /// Network: bridge, host or none
    #[arg(long, visible_alias = "net", value_name = "MODE")]
    network: Option<String>,

    /// Host name
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,

    /// Add a line to /etc/hosts (repeatable)
    #[arg(long = "add-host", value_name = "NAME:ADDRESS", value_parser = values::host)]
    add_hosts: Vec<(String, String)>,

    /// Set metadata (repeatable)
    #[arg(short, long = "label", value_name = "NAME=VALUE", value_parser = values::label)]
    labels: Vec<(String, String)>,

    /// Show this machine's certificates to it, so that it trusts whom this machine trusts
    #[arg(long)]
    host_ca: bool,

    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,

    #[command(flatten)]
    unsupported: Unsupported<Refused>,
}

#[derive(Clone, Copy, Debug)]
struct Refused;

impl Refuses for Refused {
    const FLAGS: &'static [Flag] = &[
        Flag::value("attach").short('a'),
        Flag::value("cap-add"),
        Flag::value("cap-drop"),
        Flag::value("cgroup-parent"),
        Flag::value("cgroupns"),
        Flag::value("cidfile"),
        Flag::value("cpus"),
        Flag::value("cpu-shares").short('c'),
        Flag::value("cpuset-cpus"),
        Flag::value("device"),
        Flag::value("dns"),
        Flag::value("dns-search"),
        Flag::value("expose"),
        Flag::value("gpus"),
        Flag::value("group-add"),
        Flag::value("health-cmd"),
        Flag::switch("init"),
        Flag::value("ip"),
        Flag::value("ipc"),
        Flag::value("link"),
        Flag::value("log-driver").except("json-file"),
        Flag::value("memory").short('m'),
        Flag::value("mount"),
        Flag::value("network-alias"),
        Flag::value("pid"),
        Flag::value("pids-limit"),
        Flag::value("platform"),
        Flag::switch("privileged"),
        Flag::switch("publish-all").short('P'),
        Flag::value("pull").except("missing"),
        Flag::switch("read-only"),
        Flag::value("restart").except("no"),
        Flag::value("security-opt"),
        Flag::value("shm-size"),
        Flag::value("stop-signal"),
        Flag::value("stop-timeout"),
        Flag::value("sysctl"),
        Flag::value("tmpfs"),
        Flag::value("ulimit"),
        Flag::value("userns"),
        Flag::value("uts"),
        Flag::value("volumes-from"),
    ];
}

impl RunArgs {
    pub async fn execute(&self, session: &Session) -> Result<(), Failure> {
        let engine = session.engine().map_err(|failure| failure.code(125))?;
        let container = interruptible(self.make(&engine)).await?;
        if self.detach {
            engine.start_detached(&container).map_err(failed)?;
            return print(&format!("{}\n", container.id));
        }
        attach(&engine, container).await
    }

    /// `rbuild create`: the same without the start.
    pub async fn create(&self, session: &Session) -> Result<(), Failure> {
        let container = self.make(&session.engine()?).await?;
        print(&format!("{}\n", container.id))
    }

    async fn make(&self, engine: &Engine) -> Result<Container, Failure> {
        let request = self.request(|path| std::fs::read_to_string(path)).map_err(|failure| failure.code(125))?;
        let progress = Progress::start("Pulling", ProgressMode::Auto);
        let reporter = progress.reporter();
        let created = progress.during(engine.create(&request, &reporter)).await;
        progress.finish(created.is_ok());
        created.map_err(failed)
    }

    /// What the engine is asked for. `read` reads a file of variables.
    fn request(&self, read: impl Fn(&std::path::Path) -> std::io::Result<String>) -> Result<RunRequest, Failure> {
        self.unsupported.check()?;
        let mut env = Vec::new();
        for path in &self.env_files {
            let text = read(path).map_err(|error| Failure::io(format!("cannot read `{}`", path.display()), error))?;
            env.extend(
                env_file(&text).map_err(|line| {
                    Failure::usage(format!("`{}` has a line without a name: `{line}`", path.display()))
                })?,
            );
        }
        env.extend(self.env.iter().cloned());
        Ok(RunRequest {
            image: self.image.clone(),
            command: self.command.clone(),
            // An empty word clears the entrypoint.
            entrypoint: self
                .entrypoint
                .clone()
                .map(|program| [program].into_iter().filter(|word| !word.is_empty()).collect()),
            env,
            volumes: self.volumes.clone(),
            ports: self.ports.clone(),
            workdir: self.workdir.clone(),
            user: self.user.clone(),
            name: self.name.clone(),
            hostname: self.hostname.clone(),
            network: self.network.clone(),
            terminal: self.tty,
            stdin: self.interactive,
            remove: self.rm,
            host_ca: self.host_ca,
            labels: self.labels.clone(),
            add_hosts: self.add_hosts.clone(),
        })
    }
}

/// Runs a container's process in the foreground and ends as it does. Signals are the container's meanwhile.
pub async fn attach(engine: &Engine, container: Container) -> Result<(), Failure> {
    match engine.watch(container, Attach::Standard).await.map_err(failed)? {
        0 => Ok(()),
        code => Err(Failure::Code(u8::try_from(code).unwrap_or(u8::MAX))),
    }
}

/// With the exit code that `docker run` has for it.
fn failed(error: RunError) -> Failure {
    let code = u8::try_from(error.exit_code()).unwrap_or(125);
    Failure::from(error).code(code)
}

/// The variables of an `--env-file`: one a line, nothing unquoted, `#` begins a comment line.
fn env_file(text: &str) -> Result<Vec<Assignment>, String> {
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| values::assignment(line).map_err(|_| line.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::tests::parse;
    use crate::commands::Command;

    fn request(line: &str) -> Result<RunRequest, String> {
        let parsed = parse(line.split(' ').map(std::ffi::OsString::from).collect())?;
        let Command::Run(arguments) = parsed.command else { panic!("`{line}` is no run") };
        let read = |_: &std::path::Path| Ok("# comment\n\nA=from file\nB\n".to_owned());
        arguments.request(read).map_err(|failure| failure.text(crate::diagnostics::Colour::Plain).unwrap())
    }

    #[test]
    fn flags_after_the_image_belong_to_the_command() {
        for (line, image, command) in [
            ("rbuild run busybox", "busybox", ""),
            ("rbuild run -it --rm busybox sh", "busybox", "sh"),
            ("rbuild run cowsay -l", "cowsay", "-l"),
            ("rbuild run busybox ls -l --color=never / --rm", "busybox", "ls -l --color=never / --rm"),
            ("rbuild run busybox -t --name x", "busybox", "-t --name x"),
            ("rbuild run busybox --help", "busybox", "--help"),
            ("rbuild run busybox --root /x -h", "busybox", "--root /x -h"),
            ("rbuild run busybox -- a", "busybox", "-- a"),
            ("rbuild container run -h web busybox sh -c true", "busybox", "sh -c true"),
        ] {
            let found = request(line).unwrap();
            assert_eq!((found.image.as_str(), found.command.join(" ").as_str()), (image, command), "{line}");
        }
    }

    #[test]
    fn docker_command_lines_become_requests() {
        let found = request(
            "rbuild run -itd --rm -p 8080:80 -p 53 -e A=1 -e HOME --env-file vars -v /src:/app:ro -w /app -u 1000:1000 \
             --name web --entrypoint /bin/sh --net host -h box -l a=b --add-host db=::1 --host-ca koa-demo server.js",
        )
        .unwrap();
        let variable = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        assert!(found.terminal && found.stdin && found.remove && found.host_ca);
        assert_eq!(found.ports, ["8080:80", "53"]);
        let env = [("A", Some("from file")), ("B", None), ("A", Some("1")), ("HOME", None)];
        assert_eq!(found.env, env.map(|(name, value)| variable(name, value)));
        assert_eq!(found.volumes, ["/src:/app:ro"]);
        assert_eq!((found.workdir.as_deref(), found.user.as_deref()), (Some("/app"), Some("1000:1000")));
        assert_eq!((found.name.as_deref(), found.hostname.as_deref()), (Some("web"), Some("box")));
        assert_eq!(found.entrypoint, Some(vec!["/bin/sh".to_owned()]));
        assert_eq!(found.network.as_deref(), Some("host"));
        assert_eq!(found.command, ["server.js"]);
        assert_eq!(request("rbuild run --entrypoint= busybox").unwrap().entrypoint, Some(Vec::new()));
        assert_eq!(request("rbuild run --restart=no --rm=false busybox").unwrap().image, "busybox");
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        for (line, expected) in [
            ("rbuild run --privileged busybox", "error: not supported: --privileged\n"),
            ("rbuild run -P busybox", "error: not supported: --publish-all\n"),
            ("rbuild run --restart always busybox", "error: not supported: --restart always\n"),
        ] {
            assert_eq!(request(line).unwrap_err(), expected);
        }
        assert!(request("rbuild run --rm").is_err());
    }
}

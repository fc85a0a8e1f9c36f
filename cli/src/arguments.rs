//! What does a command line say?
//!
//! The language is Docker's, with two conveniences: `build` may be left out, and every command is also known under
//! its group (`image ls`, `container rm`). Both are undone by [`normalize`] before clap sees the words.

pub mod csv;
pub mod unsupported;
pub mod values;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Args, Command, Parser};

use crate::commands;
use crate::failure::{EXIT_CODES, Failure};

/// Build, run and share container images, without a daemon
#[derive(Debug, Parser)]
#[command(
    name = "rbuild",
    version,
    disable_version_flag = true,
    after_help = EXIT_CODES,
    override_usage = "rbuild [build] [OPTIONS] CONTEXT\n       rbuild COMMAND …",
    max_term_width = 100,
    subcommand_required = true
)]
pub struct CommandLine {
    /// Print version
    #[arg(short, long, short_alias = 'V', action = clap::ArgAction::Version)]
    version: Option<bool>,
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: commands::Command,
}

/// What every command takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Directory with all images, layers and results [default: $RBUILD_ROOT, else /var/lib/rbuild for root]
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Registry that may be spoken to without TLS, or with a certificate nobody vouches for (repeatable)
    #[arg(long = "insecure-registry", global = true, value_name = "HOST[:PORT]")]
    pub insecure_registries: Vec<String>,
    /// What the store removes by itself: `off`, or a list such as max-used=50gb,min-free=20gb,reserved=5gb,unused=720h
    #[arg(
        long,
        global = true,
        env = "RBUILD_GC",
        value_name = "LIMITS",
        default_value = "",
        hide_default_value = true
    )]
    pub gc: rbuild_engine::prune::CollectLimits,
}

/// Docker's other names: group and name in it, and the command here.
const ALIASES: &[(&str, &str, &str)] = &[
    ("builder", "build", "build"),
    ("container", "create", "create"),
    ("container", "inspect", "inspect"),
    ("container", "kill", "kill"),
    ("container", "list", "ps"),
    ("container", "logs", "logs"),
    ("container", "ls", "ps"),
    ("container", "port", "port"),
    ("container", "ps", "ps"),
    ("container", "remove", "rm"),
    ("container", "restart", "restart"),
    ("container", "rm", "rm"),
    ("container", "run", "run"),
    ("container", "start", "start"),
    ("container", "stop", "stop"),
    ("container", "wait", "wait"),
    ("image", "build", "build"),
    ("image", "history", "history"),
    ("image", "import", "import"),
    ("image", "inspect", "inspect"),
    ("image", "list", "images"),
    ("image", "load", "load"),
    ("image", "ls", "images"),
    ("image", "pull", "pull"),
    ("image", "push", "push"),
    ("image", "remove", "rmi"),
    ("image", "rm", "rmi"),
    ("image", "save", "save"),
    ("image", "tag", "tag"),
    ("system", "df", "df"),
    ("system", "info", "info"),
    ("system", "prune", "prune"),
];

/// Docker's commands that are not done here. Without this list they would be taken for the context of a build.
const REFUSED: &[&str] = &[
    "attach", "bake", "buildx", "commit", "compose", "cp", "diff", "events", "exec", "export", "network", "pause",
    "rename", "search", "stats", "top", "unpause", "update", "volume",
];

/// What to say of a word of a group that is no command of it.
fn unknown_alias(group: &str, name: Option<&str>) -> String {
    let known: Vec<&str> = ALIASES.iter().filter(|(of, ..)| *of == group).map(|(_, name, _)| *name).collect();
    let what = match name {
        Some(name) => format!("`{group}` has no command `{name}`"),
        None => format!("`{group}` needs a command"),
    };
    format!("{what}: expected {}", known.join(", "))
}

/// The words with aliases replaced, `build` put in where no command is named, `--flag=true` as `--flag`, and `--` before
/// the image of `run`. `exists` says whether there is such a path, which then is the context of a build.
pub fn normalize(
    top: &Command,
    mut words: Vec<OsString>,
    exists: impl Fn(&OsStr) -> bool,
) -> Result<Vec<OsString>, Failure> {
    let Some(at) = first_word(&words) else { return Ok(words) };
    let first = words[at].to_string_lossy().into_owned();
    if ALIASES.iter().any(|(group, ..)| *group == first) {
        let name = words.get(at + 1).map(|name| name.to_string_lossy().into_owned());
        let found = ALIASES.iter().find(|(group, alias, _)| *group == first && Some(*alias) == name.as_deref());
        let Some((_, _, command)) = found else { return Err(Failure::usage(unknown_alias(&first, name.as_deref()))) };
        words.splice(at..=at + 1, [OsString::from(command)]);
    } else if REFUSED.contains(&first.as_str()) && !exists(&words[at]) {
        return Err(Failure::usage(format!("not supported: `rbuild {first}`")));
    } else if top.find_subcommand(&first).is_none() && first != "help" {
        words.insert(at, OsString::from("build"));
    }
    let rest = words.split_off(at + 1);
    let needed = words[at] == "run" || words[at] == "create" || rest.iter().any(|word| switch(word).is_some());
    let command = top.find_subcommand(&words[at]).filter(|_| needed).cloned();
    words.extend(match command {
        Some(mut command) => {
            command.build();
            plain_switches(top, &command, rest)
        }
        None => rest,
    });
    Ok(words)
}

/// The place of the first word that is no global flag; nothing if there is none, or help or the version is asked for.
fn first_word(words: &[OsString]) -> Option<usize> {
    let mut at = 1;
    while let Some(word) = words.get(at) {
        match word.to_str() {
            Some("--root" | "--insecure-registry") => at += 2,
            Some(word) if word.starts_with("--root=") || word.starts_with("--insecure-registry=") => at += 1,
            Some("-h" | "--help" | "-v" | "-V" | "--version") => return None,
            _ => return Some(at),
        }
    }
    None
}

/// Docker takes `--flag=true` and `--flag=false` for every switch, clap only `--flag`.
fn plain_switches(top: &Command, command: &Command, words: Vec<OsString>) -> Vec<OsString> {
    let takes_value = |argument: &clap::Arg| argument.get_action().takes_values();
    let named = |argument: &&clap::Arg, name: &str| {
        argument.get_long() == Some(name) || argument.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
    };
    let long = |name: &str| top.get_arguments().chain(command.get_arguments()).find(|argument| named(argument, name));
    let short = |name| command.get_arguments().find(|argument| argument.get_short() == Some(name));
    let stops = command.get_positionals().any(clap::Arg::is_trailing_var_arg_set);
    let mut result = Vec::with_capacity(words.len());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let Some(text) = word.to_str().map(str::to_owned) else {
            result.push(word);
            continue;
        };
        if text == "--" {
            result.push(word);
            break;
        }
        if stops && (!text.starts_with('-') || text == "-") {
            // What follows the image is the container's, even where it looks like a flag of ours.
            result.extend([OsString::from("--"), word]);
            break;
        }
        let value_follows = if let Some(flag) = text.strip_prefix("--") {
            if let Some((name, wanted)) = switch(&word)
                && long(name).is_some_and(|argument| !takes_value(argument))
            {
                result.extend(wanted.then(|| OsString::from(format!("--{name}"))));
                continue;
            }
            long(flag).is_some_and(takes_value)
        } else if let Some(cluster) = text.strip_prefix('-') {
            let valued = cluster.char_indices().find(|(_, name)| short(*name).is_some_and(takes_value));
            valued.is_some_and(|(at, name)| at + name.len_utf8() == cluster.len())
        } else {
            false
        };
        result.push(word);
        if value_follows {
            result.extend(words.next());
        }
    }
    result.extend(words);
    result
}

/// Name and value of `--name=true` and its like.
fn switch(word: &OsStr) -> Option<(&str, bool)> {
    let (name, value) = word.to_str()?.strip_prefix("--")?.split_once('=')?;
    match value {
        "true" | "1" => Some((name, true)),
        "false" | "0" => Some((name, false)),
        _ => None,
    }
}

#[cfg(test)]
pub mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::*;
    use crate::diagnostics::Colour;

    /// As the program does it.
    pub fn parse(words: Vec<OsString>) -> Result<CommandLine, String> {
        let top = CommandLine::command();
        let words = normalize(&top, words, |_| false).map_err(|failure| failure.text(Colour::Plain).unwrap())?;
        let matches = top.try_get_matches_from(words).map_err(|error| error.to_string())?;
        CommandLine::from_arg_matches(&matches).map_err(|error| error.to_string())
    }

    fn normalized(line: &str) -> Result<String, String> {
        let words = line.split(' ').map(OsString::from).collect();
        let top = CommandLine::command();
        let words =
            normalize(&top, words, |path| path == "network").map_err(|failure| failure.text(Colour::Plain).unwrap())?;
        Ok(words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn command_lines_are_completed() {
        for (line, expected) in [
            ("rbuild", "rbuild"),
            ("rbuild -h", "rbuild -h"),
            ("rbuild --version", "rbuild --version"),
            ("rbuild .", "rbuild build ."),
            ("rbuild -t koa-demo .", "rbuild build -t koa-demo ."),
            ("rbuild build -t koa-demo .", "rbuild build -t koa-demo ."),
            ("rbuild --root /r -t x .", "rbuild --root /r build -t x ."),
            ("rbuild --root=/r images", "rbuild --root=/r images"),
            ("rbuild -f Dockerfile images", "rbuild build -f Dockerfile images"),
            ("rbuild ./images", "rbuild build ./images"),
            ("rbuild image ls -q", "rbuild images -q"),
            ("rbuild image build -t x .", "rbuild build -t x ."),
            ("rbuild container ls -a", "rbuild ps -a"),
            ("rbuild container rm -f x", "rbuild rm -f x"),
            ("rbuild help run", "rbuild help run"),
            ("rbuild . --pull=true --push=false", "rbuild build . --pull"),
            ("rbuild . -t --pull=true --target --push=true", "rbuild build . -t --pull=true --target --push=true"),
            ("rbuild . -qt --pull=true", "rbuild build . -qt --pull=true"),
            ("rbuild . --build-arg --pull=true", "rbuild build . --build-arg --pull=true"),
            ("rbuild run --rm=true -e --rm=true i --rm=true", "rbuild run --rm -e --rm=true -- i --rm=true"),
            ("rbuild rmi x --force=true", "rbuild rmi x --force"),
            ("rbuild network", "rbuild build network"),
        ] {
            assert_eq!(normalized(line).as_deref(), Ok(expected));
        }
        insta::assert_snapshot!(normalized("rbuild system x").unwrap_err(), @"error: `system` has no command `x`: expected df, info, prune");
        insta::assert_snapshot!(normalized("rbuild exec -it web sh").unwrap_err(), @"error: not supported: `rbuild exec`");
        insta::assert_snapshot!(normalized("rbuild builder").unwrap_err(), @"error: `builder` needs a command: expected build");
    }

    #[test]
    fn help_is_consistent() {
        CommandLine::command().debug_assert();
        insta::assert_snapshot!(CommandLine::command().term_width(80).render_help(), @"
        Build, run and share container images, without a daemon

        Usage: rbuild [build] [OPTIONS] CONTEXT
               rbuild COMMAND …

        Commands:
          build       Build an image from a Dockerfile
          plan        Show what a build would do, without doing it
          check       Look for mistakes in a Dockerfile, and repair them
          run         Run a command in a new container
          ps          List containers
          logs        Print what a container has written
          create      Make a container without starting it
          start       Start containers that have ended, or were never started
          stop        End containers: ask, wait, kill
          restart     End containers and start them again
          kill        Send a signal to containers
          wait        Wait until containers have ended and print their exit codes
          port        Show where a container's ports are published
          rm          Remove containers
          images      List images
          tag         Give an image another name
          rmi         Remove images
          history     Show how an image came about
          inspect     Show everything about images or containers
          pull        Fetch an image from its registry
          push        Send an image to its registry
          save        Write images to an archive that `load` and `docker load` read
          load        Read images from an archive of `save`, `docker save` or an OCI
                      layout
          import      Make an image of one layer from a tar archive of a root file
                      system
          login       Remember a user and a password for a registry
          logout      Forget the credentials for a registry
          prune       Delete what nothing needs
          df          Show what takes how much room
          du          List images, build results and cache mounts with their sizes
          info        Count what there is
          doctor      Say what this machine offers and lacks
          completion  Print a script that completes command lines
          version     Print the version
          help        Print this message or the help of the given subcommand(s)

        Options:
          -v, --version  Print version
          -h, --help     Print help

        Global options:
              --root <DIR>
                  Directory with all images, layers and results [default: $RBUILD_ROOT,
                  else /var/lib/rbuild for root]
              --insecure-registry <HOST[:PORT]>
                  Registry that may be spoken to without TLS, or with a certificate
                  nobody vouches for (repeatable)
              --gc <LIMITS>
                  What the store removes by itself: `off`, or a list such as
                  max-used=50gb,min-free=20gb,reserved=5gb,unused=720h [env: RBUILD_GC=]

        Exit codes:
          0    success
          1    the command, or the build, failed
          2    the command line makes no sense
          130  interrupted

          `rbuild run` ends with the code of its process, or
          125  the container could not be made
          126  its command cannot be executed
          127  its command was not found
        ");
    }

    #[test]
    fn help_of_build() {
        let mut top = CommandLine::command().term_width(80);
        top.build();
        insta::assert_snapshot!(top.find_subcommand_mut("build").unwrap().render_help(), @"
        Build an image from a Dockerfile

        Usage: rbuild build [OPTIONS] [CONTEXT]

        Arguments:
          [CONTEXT]  The files that COPY and ADD see: a directory, a tar archive, a git
                     repository (URL#REF:DIRECTORY), the URL of a tar archive or a
                     Dockerfile, or `-` for either of these on standard input

        Options:
          -t, --tag <NAME[:TAG]>
                  Name of the image (repeatable)
          -f, --file <PATH>
                  Dockerfile: a path (inside CONTEXT if that is no directory), a URL, or
                  `-` for standard input [default: CONTEXT/Dockerfile]
              --build-arg <NAME[=VALUE]>
                  Set a build argument; without a value, from the environment
                  (repeatable)
              --target <STAGE>
                  Stage to build [default: the last]
          -o, --output <OUTPUT>
                  Where the result goes: PATH, `-` for a tar archive, or
                  type=oci|docker|tar|local|image[,dest=PATH][,name=NAME][,compression=gzip|zstd|uncompressed][,rewrite-timestamp=true]
              --no-cache
                  Do not use earlier results
              --no-cache-filter <STAGE>
                  Do not use earlier results of these stages
              --progress <MODE>
                  How progress is shown [default: auto; $BUILDKIT_PROGRESS] [possible
                  values: auto, tty, plain, json, quiet]
          -q, --quiet
                  Print nothing but the image's ID
              --build-context <NAME=SOURCE>
                  Another context or image that the Dockerfile knows by NAME:
                  docker-image://IMAGE, oci-layout://DIRECTORY[:TAG|@DIGEST], or any
                  CONTEXT but `-`
              --context-subdir <DIRECTORY>
                  Use this directory of a context that is an archive or a repository
              --no-remote-dockerignore
                  Do not look for .dockerignore in contexts that are no local
                  directories, as BuildKit does not
              --secret <SECRET>
                  Show a secret to RUN --mount=type=secret: id=ID[,src=PATH|,env=NAME]
              --ssh <AGENT>
                  Show an SSH agent to RUN --mount=type=ssh: default, ID=SOCKET or
                  ID=KEY[,KEY…] (repeatable)
              --allow <ENTITLEMENT>
                  Let RUN ask for more than the usual: network.host, security.insecure,
                  device[=NAME] (repeatable)
              --cdi-spec-dir <PATH>
                  Directory with device specifications for RUN --device [default:
                  /etc/cdi, /var/run/cdi] (repeatable)
              --label <NAME=VALUE>
                  Set a label of the image (repeatable)
              --platform <OS/ARCH>
                  Platform of the image [default: this machine's]
              --pull
                  Ask the registry for newer base images
              --push
                  Push the image under its names
              --load
                  Accepted for Docker's sake: every image is in the store of this
                  machine
              --network <MODE>
                  Network of RUN [possible values: default, none, host]
              --add-host <NAME:ADDRESS>
                  Add a line to /etc/hosts of RUN (repeatable)
              --host-ca
                  Show this machine's certificates to RUN, so that it trusts whom this
                  machine trusts
          -j, --jobs <N>
                  How many RUNs may go on at once [default: one per processor]
              --shm-size <BYTES>
                  Size of /dev/shm in RUN
              --iidfile <PATH>
                  Write the image's ID to a file
              --metadata-file <PATH>
                  Write what was built to a file, as JSON
              --check
                  Only say what is doubtful about the Dockerfile; ends with 1 if
                  something is
              --explain
                  Only say which steps would run, and why, as `rbuild plan` does
              --call <METHOD[,format=json]>
                  Only answer a question about the Dockerfile: check, outline (what can
                  be given to it) or targets (its stages)
          -h, --help
                  Print help (see more with '--help')

        Global options:
              --root <DIR>
                  Directory with all images, layers and results [default: $RBUILD_ROOT,
                  else /var/lib/rbuild for root]
              --insecure-registry <HOST[:PORT]>
                  Registry that may be spoken to without TLS, or with a certificate
                  nobody vouches for (repeatable)
              --gc <LIMITS>
                  What the store removes by itself: `off`, or a list such as
                  max-used=50gb,min-free=20gb,reserved=5gb,unused=720h [env: RBUILD_GC=]
        ");
    }
}

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
        ("rbuild --gc off --layers=erofs images", "rbuild --gc off --layers=erofs images"),
        (
            "rbuild --layers directory --insecure-registry r .",
            "rbuild --layers directory --insecure-registry r build .",
        ),
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
      why         Say why the last build ran what it ran
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
              max-used=50gb,min-free=20gb,reserved=5gb,unused=720h (1gb is 2^30
              bytes) [env: RBUILD_GC=]

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
              Where the result goes: PATH, `-` for a tar archive, or attributes
              joined by commas: type=oci|docker|tar|local|image|registry dest=PATH
              name=NAME push=true compression=gzip|zstd|uncompressed
              compression-level=N rewrite-timestamp=true
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
              How many RUNs may go on at once [default: four per processor, at least
              16]
          --shm-size <BYTES>
              Size of /dev/shm in RUN
          --iidfile <PATH>
              Write the image's ID to a file
          --metadata-file <PATH>
              Write what was built to a file, as JSON
          --check
              Only say what is doubtful about the Dockerfile; ends with 1 if
              something is
          --explain[=<FORMAT>]
              Say afterwards why each step ran that did, as text or json; `rbuild
              why` says it later, `rbuild plan` before [possible values: text, json]
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
              max-used=50gb,min-free=20gb,reserved=5gb,unused=720h (1gb is 2^30
              bytes) [env: RBUILD_GC=]
    ");
}

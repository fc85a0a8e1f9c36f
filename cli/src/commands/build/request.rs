//! What do the flags ask the engine for?

use rbuild_engine::{BuildRequest, Input, NetworkMode, RemoteIgnore};

use super::{BuildArgs, Network, source};
use crate::failure::Failure;

impl BuildArgs {
    /// What the engine is asked for. Reads `input` if the Dockerfile comes from there; `is_variable` says whether the
    /// environment has a variable.
    pub(in crate::commands) fn request(
        &self,
        input: &Input,
        is_variable: impl Fn(&str) -> bool,
    ) -> Result<BuildRequest, Failure> {
        self.unsupported.check()?;
        let Some(context) = &self.context else {
            return Err(Failure::usage("the build context is missing").hint("`rbuild .` builds the current directory"));
        };
        let (context, dockerfile) = source::sources(context, self.file.as_deref(), input)?;
        let mut request = BuildRequest::new(context);
        let names = self.outputs.iter().flat_map(|output| &output.names);
        request.dockerfile = dockerfile;
        request.tags = self.tags.iter().chain(names).cloned().collect();
        request.build_args.clone_from(&self.build_args);
        request.target.clone_from(&self.target);
        request.no_cache = self.no_cache;
        request.no_cache_stages.clone_from(&self.no_cache_filter);
        request.platform = platform(&self.platform)?;
        request.pull = self.pull;
        request.build_contexts.clone_from(&self.build_contexts);
        request.context_subdir.clone_from(&self.context_subdir);
        if self.no_remote_dockerignore {
            request.remote_ignore = RemoteIgnore::Skip;
        }
        request.secrets = self.secrets.iter().map(|secret| secret.resolve(&is_variable)).collect();
        request.ssh.clone_from(&self.ssh);
        request.allow.clone_from(&self.allow);
        request.device_specifications.clone_from(&self.cdi_spec_dirs);
        request.add_hosts.clone_from(&self.add_hosts);
        request.network = self.network.map(|network| match network {
            Network::Default => NetworkMode::Default,
            Network::None => NetworkMode::None,
            Network::Host => NetworkMode::Host,
        });
        request.host_ca = self.host_ca;
        request.labels.clone_from(&self.labels);
        request.outputs = self.outputs.iter().map(|output| output.export.clone()).collect();
        request.push = self.push || self.outputs.iter().any(|output| output.push);
        request.explain = self.explain.is_some();
        request.jobs = self.jobs.map(std::num::NonZeroUsize::get);
        request.shm_size = self.shm_size;
        if request.push && request.tags.is_empty() {
            return Err(Failure::usage("an image without a name cannot be pushed").hint("name it with `-t NAME`"));
        }
        Ok(request)
    }
}

fn platform(given: &[String]) -> Result<Option<String>, Failure> {
    let mut platforms: Vec<&str> = given.iter().flat_map(|list| list.split(',')).map(str::trim).collect();
    platforms.dedup();
    match platforms.as_slice() {
        [] | ["local"] => Ok(None),
        [one] => match one.parse::<rbuild_core::Platform>() {
            Ok(platform) => Ok(Some(platform.to_string())),
            Err(error) => Err(Failure::usage(error.to_string())),
        },
        _ => Err(Failure::usage(format!("not supported: --platform {} (one platform per build)", platforms.join(",")))
            .hint("build once for each platform")),
    }
}

#[cfg(test)]
mod tests {
    use rbuild_engine::{ContextSource, DockerfileSource, Export, SecretFrom};

    use super::*;
    use crate::arguments::tests::parse;
    use crate::commands::Command;
    use crate::diagnostics::Colour;

    fn request(line: &str) -> Result<BuildRequest, String> {
        let parsed = parse(line.split(' ').map(std::ffi::OsString::from).collect())?;
        let Command::Build(arguments) = parsed.command else { panic!("`{line}` is no build") };
        let input = Input::new(&b"FROM scratch\n"[..]);
        arguments.request(&input, |name| name == "TOKEN").map_err(|failure| failure.text(Colour::Plain).unwrap())
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn nothing_but_a_context() {
        for line in
            ["rbuild .", "rbuild build .", "rbuild image build .", "rbuild --provenance=false --sbom=false --rm ."]
        {
            let expected = BuildRequest::new(ContextSource::Local(".".into()));
            assert_eq!(format!("{:?}", request(line).unwrap()), format!("{expected:?}"), "{line}");
        }
    }

    #[test]
    fn docker_command_lines_become_requests() {
        let found = request(
            "rbuild build -t koa-demo -t=me/koa:2 -f docker/Dockerfile --build-arg A=1=2 --build-arg HOME --target dev \
             --no-cache --no-cache-filter a,b --pull --platform linux/x86_64 --build-context base=docker-image://debian \
             --secret id=TOKEN --secret id=key,src=k.pem --add-host db:10.0.0.2 --network none --host-ca --label a=b \
             --label c -o type=oci,dest=o.tar -o type=image,name=r/x,push=true --jobs 3 --shm-size 64m src",
        )
        .unwrap();
        assert_eq!(found.context, ContextSource::Local("src".into()));
        assert_eq!(found.dockerfile, Some(DockerfileSource::Path("docker/Dockerfile".into())));
        assert_eq!(found.tags, ["koa-demo", "me/koa:2", "r/x"]);
        assert_eq!(found.build_args, [("A".to_owned(), Some("1=2".to_owned())), ("HOME".to_owned(), None)]);
        assert_eq!(found.target.as_deref(), Some("dev"));
        assert!(found.no_cache && found.pull && found.push && found.host_ca);
        assert_eq!(found.no_cache_stages, ["a", "b"]);
        assert_eq!(found.platform.as_deref(), Some("linux/amd64"));
        assert_eq!(found.build_contexts, owned(&[("base", "docker-image://debian")]));
        let secrets: Vec<_> = found.secrets.into_iter().map(|secret| secret.from).collect();
        assert_eq!(secrets, [SecretFrom::Env("TOKEN".to_owned()), SecretFrom::File("k.pem".into())]);
        assert_eq!(found.add_hosts, owned(&[("db", "10.0.0.2")]));
        assert_eq!(found.network, Some(NetworkMode::None));
        assert_eq!(found.labels, owned(&[("a", "b"), ("c", "")]));
        assert!(matches!(found.outputs.as_slice(), [Export::Oci { .. }, Export::Image { travels: None }]));
        assert_eq!((found.jobs, found.shm_size), (Some(3), Some(64 << 20)));
    }

    #[test]
    fn dockerfile_may_come_from_standard_input() {
        let text = || Some(DockerfileSource::Text { name: "Dockerfile".to_owned(), text: b"FROM scratch\n".to_vec() });
        let both = request("rbuild -").unwrap();
        assert!(matches!((both.context, both.dockerfile), (ContextSource::Stream(_), None)));
        let file = request("rbuild -f - .").unwrap();
        assert_eq!((file.context, file.dockerfile), (ContextSource::Local(".".into()), text()));
    }

    #[test]
    fn a192_a097_contexts_and_dockerfiles_may_come_from_elsewhere() {
        let git = request("rbuild -f sub/Dockerfile https://example.com/a.git#main").unwrap();
        assert_eq!(git.context, ContextSource::Git("https://example.com/a.git#main".to_owned()));
        assert_eq!(git.dockerfile, Some(DockerfileSource::Path("sub/Dockerfile".into())));
        let web =
            request("rbuild -f https://example.com/Dockerfile --context-subdir a/b http://example.com/x.tar").unwrap();
        assert_eq!(web.context, ContextSource::Http("http://example.com/x.tar".to_owned()));
        assert_eq!(web.dockerfile, Some(DockerfileSource::Http("https://example.com/Dockerfile".to_owned())));
        assert_eq!(web.context_subdir.as_deref(), Some("a/b"));
        assert_eq!(web.remote_ignore, RemoteIgnore::Apply);
        assert_eq!(request("rbuild --no-remote-dockerignore -").unwrap().remote_ignore, RemoteIgnore::Skip);
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        for (line, expected) in [
            ("rbuild --cache-to type=inline .", "error: not supported: --cache-to type=inline\n"),
            ("rbuild --provenance=true .", "error: not supported: --provenance true\n"),
            ("rbuild --squash .", "error: not supported: --squash\n"),
            ("rbuild -m 1g .", "error: not supported: --memory 1g\n"),
            ("rbuild -t x", "error: the build context is missing\nhint: `rbuild .` builds the current directory\n"),
            ("rbuild -f - -", "error: context and Dockerfile cannot both come from standard input\n"),
            (
                "rbuild --platform linux/amd64,linux/arm64 .",
                "error: not supported: --platform linux/amd64,linux/arm64 (one platform per build)\n\
                 hint: build once for each platform\n",
            ),
            ("rbuild --push .", "error: an image without a name cannot be pushed\nhint: name it with `-t NAME`\n"),
        ] {
            assert_eq!(request(line).unwrap_err(), expected);
        }
        for line in ["rbuild . .", "rbuild --nocache .", "rbuild --progress=rawjson .", "rbuild --jobs 0 ."] {
            assert!(request(line).is_err(), "{line}");
        }
    }
}

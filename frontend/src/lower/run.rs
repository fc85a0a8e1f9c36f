//! What does a `RUN` execute, and what is mounted there?

use rbuild_solver::graph::{CacheSharing, ExecDevice, ExecMount, ExecMountKind, ExecOp, LocalOp, Op, Output};

use super::Lowering;
use super::bytes;
use super::history::LayerKind;
use super::plan::{Provider, Use};
use super::stage::Site;
use super::state::State;
use super::title::{summary, upper_keyword};
use crate::Diagnostic;
use crate::ast::{Command, Device, Run, Word};
use crate::ignore::clean;
use crate::mount::{self, BindMount, CacheMount, RunMount, SecretMount, Sharing, SshMount};

/// Where the script of a here-document that starts with `#!` is put.
const SCRIPTS: &str = "/dev/pipes";
const SCRIPT_MODE: u32 = 0o755;
const CACHE_MODE: u32 = 0o755;
const SECRET_MODE: u32 = 0o400;
const SSH_MODE: u32 = 0o600;
/// What tells programs where the agent is.
const SSH_VARIABLE: &str = "SSH_AUTH_SOCK";

/// A command line, and the file it may need.
struct Line {
    args: Vec<String>,
    script: Option<ExecMount>,
}

impl Lowering<'_> {
    pub(super) fn run(&mut self, state: &mut State, site: &Site<'_>, run: &Run) -> Result<(), Diagnostic> {
        let Line { args, script } = line(state, run);
        let mut inputs = vec![state.root];
        let mut mounts: Vec<ExecMount> = script.into_iter().collect();
        for word in &run.mounts {
            let agents = mounts.iter().filter(|mount| is_agent(mount)).count();
            let mount = self.mount(state, site, word, &mut inputs, agents);
            mounts.extend(self.notes.take(mount));
        }
        let network = self.network(run);
        let network = self.notes.take(network).unwrap_or_default();
        let security = self.security(run);
        let security = self.notes.take(security).unwrap_or_default();
        let mut devices = Vec::new();
        for device in &run.devices {
            let device = self.device(state, device);
            devices.extend(self.notes.take(device));
        }
        let mut env = state.env.pairs().clone();
        let agent = mounts.iter().find(|mount| is_agent(mount)).filter(|_| !state.env.has(SSH_VARIABLE));
        if let Some(mount) = agent {
            env.push(SSH_VARIABLE, mount.target.as_str());
        }
        let proxies = self.proxies.iter().filter(|(name, _)| !state.env.has(name));
        let op = ExecOp {
            env,
            cwd: clean(state.directory()),
            user: state.image.config.user.clone(),
            hostname: self.hostname.clone(),
            network,
            security,
            mounts,
            devices,
            extra_hosts: self.options.add_hosts.clone(),
            proxy_env: proxies.cloned().collect(),
            shm_size: self.options.shm_size,
            platform: state.platform.clone(),
            args,
        };
        let text = if state.used == Use::Image { history_text(state, &op.args) } else { String::new() };
        let mut title = upper_keyword(&site.instruction.header.text);
        if let [heredoc] = run.heredocs.as_slice() {
            title = format!("{title} ({})", summary(&heredoc.body));
        }
        let origin = self.origin(state, site, &title);
        state.root = self.add(Op::Exec(Box::new(op)), &inputs, origin);
        state.record(text, LayerKind::Files);
        Ok(())
    }

    fn mount(
        &mut self,
        state: &State,
        site: &Site<'_>,
        word: &Word,
        inputs: &mut Vec<Output>,
        agents: usize,
    ) -> Result<ExecMount, Diagnostic> {
        let mount = mount::parse(word, &mut |value| self.expand(state, value))?;
        self.sketch.mount(&mount, site.span);
        let (target, kind) = match mount {
            RunMount::Bind(bind) => {
                let source = rooted(&bind.source);
                let from = self.mounted(site, bind.from.as_ref(), &source)?;
                let BindMount { target, read_only, .. } = bind;
                (target, ExecMountKind::Bind { input: add(inputs, from), source, writable: !read_only })
            }
            RunMount::Cache(cache) => {
                let source = rooted(&cache.source);
                let from = match &cache.from {
                    Some(from) => Some(self.mounted(site, Some(from), &source)?),
                    None => None,
                };
                let from = from.map(|from| add(inputs, from));
                let kind = self.cache(&cache, from, source);
                (cache.target, kind)
            }
            RunMount::Tmpfs(tmpfs) => (tmpfs.target, ExecMountKind::Tmpfs { size: tmpfs.size }),
            RunMount::Secret(secret) => {
                let SecretMount { id, target, env, required, file } = secret;
                let kind = ExecMountKind::Secret {
                    id,
                    required,
                    file: target.is_some(),
                    env,
                    mode: file.mode.unwrap_or(SECRET_MODE),
                    uid: file.uid.unwrap_or(0),
                    gid: file.gid.unwrap_or(0),
                };
                let Some(target) = target else {
                    return Ok(ExecMount { target: String::new(), kind });
                };
                (target, kind)
            }
            RunMount::Ssh(ssh) => {
                let SshMount { id, target, required, file } = ssh;
                let kind = ExecMountKind::Ssh {
                    id,
                    required,
                    mode: file.mode.unwrap_or(SSH_MODE),
                    uid: file.uid.unwrap_or(0),
                    gid: file.gid.unwrap_or(0),
                };
                (target.unwrap_or_else(|| format!("/run/buildkit/ssh_agent.{agents}")), kind)
            }
        };
        let target = state.absolute(&target);
        if target == "/" {
            return Err(Diagnostic::error(word.span, "invalid mount target `/`")
                .hint("mount below the root, or set a `WORKDIR` for relative targets"));
        }
        Ok(ExecMount { target, kind })
    }

    fn device(&mut self, state: &State, device: &Device) -> Result<ExecDevice, Diagnostic> {
        let name = self.expand(state, &Word { text: device.name.clone(), span: device.span })?;
        Ok(ExecDevice { name, required: device.required })
    }

    fn cache(&self, cache: &CacheMount, from: Option<usize>, source: String) -> ExecMountKind {
        let id = cache.id.clone().unwrap_or_else(|| clean(&cache.target));
        ExecMountKind::Cache {
            id: self.cache_namespace.as_ref().map_or_else(|| id.clone(), |namespace| format!("{namespace}/{id}")),
            sharing: match cache.sharing {
                Sharing::Shared => CacheSharing::Shared,
                Sharing::Private => CacheSharing::Private,
                Sharing::Locked => CacheSharing::Locked,
            },
            from,
            source,
            mode: cache.file.mode.unwrap_or(CACHE_MODE),
            uid: cache.file.uid.unwrap_or(0),
            gid: cache.file.gid.unwrap_or(0),
            read_only: cache.read_only,
        }
    }

    /// What a mount shows: of a directory only the source is read.
    fn mounted(&mut self, site: &Site<'_>, from: Option<&Word>, source: &str) -> Result<Output, Diagnostic> {
        let provider = match from {
            Some(from) => self.plan.provider(from, site.stage)?,
            None => Provider::Local("context".to_owned()),
        };
        let include: Vec<_> = Some(source[1..].to_owned()).filter(|path| !path.is_empty()).into_iter().collect();
        let local = |name| LocalOp { name, include, wildcards: false, parents: false, exclude: Vec::new() };
        let platform = self.options.platform.clone();
        Ok(self.provide(&provider, &platform, site.span, local))
    }
}

fn is_agent(mount: &ExecMount) -> bool {
    matches!(mount.kind, ExecMountKind::Ssh { .. })
}

/// The place of an input, which is added unless it is there already.
fn add(inputs: &mut Vec<Output>, input: Output) -> usize {
    // The root is never shared: its place says that the command changes it.
    let found = inputs.iter().skip(1).position(|other| *other == input);
    found.map_or_else(
        || {
            inputs.push(input);
            inputs.len() - 1
        },
        |place| place + 1,
    )
}

/// A path below the root of what is mounted, which `..` cannot leave.
fn rooted(source: &str) -> String {
    clean(&format!("/{source}"))
}

fn line(state: &State, run: &Run) -> Line {
    let word = match &run.command {
        Command::Exec(words) => {
            return Line { args: words.iter().map(|word| word.text.clone()).collect(), script: None };
        }
        Command::Shell(word) => word,
    };
    let [heredoc] = run.heredocs.as_slice() else {
        return Line { args: state.in_shell(with_bodies(word, run)), script: None };
    };
    if heredoc.span != word.span {
        return Line { args: state.in_shell(with_bodies(word, run)), script: None };
    }
    let body = heredoc.content();
    if !body.starts_with("#!") {
        return Line { args: state.in_shell(body), script: None };
    }
    // The name is for people; it must not lead out of the directory.
    let name = heredoc.name.rsplit('/').next().filter(|name| !matches!(*name, "" | "." | "..")).unwrap_or("script");
    let target = format!("{SCRIPTS}/{name}");
    let kind = ExecMountKind::Inline { data: bytes::script(heredoc), mode: SCRIPT_MODE };
    Line { args: state.in_shell(target.clone()), script: Some(ExecMount { target, kind }) }
}

/// The command as a shell wants it: the line, then the bodies with their terminators, as they were written.
fn with_bodies(word: &Word, run: &Run) -> String {
    let mut text = word.text.clone();
    for heredoc in &run.heredocs {
        text.extend(["\n", &heredoc.body, &heredoc.name]);
    }
    text
}

/// `RUN |2 A=1 B=2 /bin/sh -c make`: the declared arguments, then the command line.
fn history_text(state: &State, args: &[String]) -> String {
    let declared = state.args.pairs();
    let mut text = "RUN".to_owned();
    if !declared.is_empty() {
        text.push_str(&format!(" |{}", declared.len()));
    }
    for (name, value) in declared.iter() {
        text.extend([" ", name, "=", state.env.value(name).unwrap_or(value)]);
    }
    for arg in args {
        text.extend([" ", arg]);
    }
    text
}

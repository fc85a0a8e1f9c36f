//! Which fields of an op enter its cache keys?
//!
//! The one list of what invalidates what; `docs/cache-keys.md` is its reasoned form, row by row. A field that is not
//! written here changes nothing about a result as far as the cache is concerned, and each absence is deliberate.

use rbuild_core::KeyHasher;

use super::{
    Component, CopyAction, CopySource, ExecMount, ExecMountKind, ExecOp, FileAction, GitOp, GitTime, HttpOp, Mode,
    NetworkMode, Op, Owner, Principal, SecurityMode, Unpack, Work,
};

impl Op {
    /// The named values that make this op what it is, in a fixed order. For [`Op::Local`] the worker adds the tree
    /// digest of the selected files, which stands for the selection; for [`Op::Http`] without a checksum the content's
    /// digest and time; for [`Op::Git`] the commit.
    pub fn components(&self) -> Vec<Component> {
        let mut fields = Fields(Vec::with_capacity(16));
        match self {
            Self::Scratch => fields.add("op", "scratch"),
            Self::Image(image) => {
                fields.add("op", "image");
                fields.add("image", image.id.to_string());
                fields.add("platform", image.platform.to_string());
            }
            Self::Local(_) => fields.add("op", "local"),
            Self::Http(http) => fields.http(http),
            Self::Git(git) => fields.git(git),
            Self::Exec(exec) => fields.exec(exec),
            Self::File(file) => {
                fields.add("op", "file");
                for (number, action) in file.actions.iter().enumerate() {
                    fields.action(number, action);
                }
            }
            Self::Merge => fields.add("op", "merge"),
        }
        fields.0
    }

    /// Whether it can be executed on an input, by its place, of which the content is there and its digest is not yet: a
    /// process takes long, and its root is only mounted.
    pub fn can_begin_on(&self, place: usize) -> bool {
        matches!(self, Self::Exec(_)) && place == 0
    }

    /// What executing it takes, so how many may execute at once.
    pub fn work(&self) -> Work {
        match self {
            Self::Exec(_) => Work::Process,
            Self::File(_) => Work::Files,
            Self::Scratch | Self::Image(_) | Self::Local(_) | Self::Http(_) | Self::Git(_) | Self::Merge => Work::Fetch,
        }
    }
}

struct Fields(Vec<Component>);

impl Fields {
    fn add(&mut self, name: impl Into<std::borrow::Cow<'static, str>>, value: impl Into<String>) {
        self.0.push(Component::new(name, value));
    }

    fn http(&mut self, http: &HttpOp) {
        self.add("op", "http");
        self.add("name", &http.name);
        if let Some(checksum) = &http.checksum {
            self.add("content", checksum.to_string());
        }
    }

    fn git(&mut self, git: &GitOp) {
        self.add("op", "git");
        self.add("directory", &git.subdir);
        self.add("submodules", git.submodules.to_string());
        let mtime = match git.mtime {
            GitTime::Checkout => "checkout",
            GitTime::Commit => "commit",
        };
        self.add("modification time", mtime);
        self.add("keep .git", git.keep_git_dir.to_string());
        if git.keep_git_dir {
            // Both are written down there.
            self.add("repository", &git.remote);
            self.add("reference", git.reference.as_deref().unwrap_or_default());
        }
    }

    fn exec(&mut self, exec: &ExecOp) {
        self.add("op", "exec");
        self.add("platform", exec.platform.to_string());
        for (number, argument) in exec.args.iter().enumerate() {
            self.add(format!("argument {number}"), argument);
        }
        for (name, value) in exec.env.iter() {
            self.add(["env ", name].concat(), value);
        }
        self.add("working directory", &exec.cwd);
        self.add("user", &exec.user);
        self.add("host name", &exec.hostname);
        let network = match exec.network {
            NetworkMode::Default => "default",
            NetworkMode::None => "none",
            NetworkMode::Host => "host",
        };
        self.add("network", network);
        let security = match exec.security {
            SecurityMode::Sandbox => "sandbox",
            SecurityMode::Insecure => "insecure",
        };
        self.add("security", security);
        for (name, _) in &exec.extra_hosts {
            self.add("extra host", name);
        }
        for mount in &exec.mounts {
            self.mount(mount);
        }
        for device in &exec.devices {
            let need = if device.required { "required device" } else { "optional device" };
            self.add(need, &device.name);
        }
    }

    // Ids and paths are free text and get a component each, so that no two mounts can spell the same value.
    fn mount(&mut self, mount: &ExecMount) {
        let name = format!("mount {}", mount.target);
        match &mount.kind {
            ExecMountKind::Bind { input, source, writable } => {
                let access = if *writable { "writable" } else { "read-only" };
                self.add(name.clone(), format!("bind of input {input}, {access}"));
                self.0.push(Component::selector(format!("{name} source"), source));
            }
            // Neither the cache's id nor how it is shared: what is in a cache may not change a result.
            ExecMountKind::Cache { id: _, sharing: _, from, source, mode, uid, gid, read_only } => {
                let access = if *read_only { "read-only" } else { "writable" };
                let from = from.map_or_else(|| "nothing".to_owned(), |input| format!("input {input}"));
                self.add(name.clone(), format!("cache from {from}, {access}, mode {mode:04o}, owner {uid}:{gid}"));
                self.0.push(Component::selector(format!("{name} source"), source));
            }
            ExecMountKind::Tmpfs { size } => {
                let size = size.map_or_else(|| "default".to_owned(), |bytes| bytes.to_string());
                self.add(name, format!("tmpfs, size {size}"));
            }
            ExecMountKind::Inline { data, mode } => {
                self.add(name.clone(), format!("inline file, mode {mode:04o}"));
                self.add(format!("{name} content"), inline(data));
            }
            ExecMountKind::Secret { id, required, file, env, mode, uid, gid } => {
                let need = if *required { "required" } else { "optional" };
                let file =
                    if *file { format!("file of mode {mode:04o}, owner {uid}:{gid}") } else { "no file".to_owned() };
                self.add(name.clone(), format!("secret, {need}, {file}"));
                self.add(format!("{name} secret"), id);
                if let Some(variable) = env {
                    self.add(format!("{name} env"), variable);
                }
            }
            ExecMountKind::Ssh { id, required, mode, uid, gid } => {
                let need = if *required { "required" } else { "optional" };
                self.add(name.clone(), format!("ssh, {need}, mode {mode:04o}, owner {uid}:{gid}"));
                self.add(format!("{name} agent"), id);
            }
        }
    }

    fn action(&mut self, number: usize, action: &FileAction) {
        let name = |field: &str| if number == 0 { field.to_owned() } else { format!("{field} (action {number})") };
        match action {
            FileAction::Copy(copy) => {
                self.add(name("action"), "copy");
                self.copy(&name, copy);
            }
            FileAction::MakeDirectory { path, owner, mtime: _ } => {
                self.add(name("action"), "make directory");
                self.add(name("path"), path);
                self.owner(&name, owner.as_ref());
            }
        }
    }

    fn copy(&mut self, name: &impl Fn(&str) -> String, copy: &CopyAction) {
        self.add(name("destination"), &copy.destination);
        self.add(name("into directory"), copy.into_directory.to_string());
        self.owner(name, copy.owner.as_ref());
        match &copy.mode {
            None => {}
            Some(Mode::Octal(bits)) => self.add(name("mode"), format!("{bits:04o}")),
            Some(Mode::Symbolic(text)) => self.add(name("symbolic mode"), text),
        }
        self.add(name("preserve owner"), copy.preserve_owner.to_string());
        let unpack = match copy.unpack {
            Unpack::Never => "never",
            Unpack::Archives => "archives",
        };
        self.add(name("unpack"), unpack);
        self.add(name("parents"), copy.parents.to_string());
        self.add(name("wildcards"), copy.wildcards.to_string());
        for pattern in &copy.exclude {
            self.add(name("exclude"), pattern);
        }
        for (place, source) in copy.sources.iter().enumerate() {
            self.source(&name(&format!("source {place}")), source, copy.parents);
        }
    }

    fn source(&mut self, name: &str, source: &CopySource, parents: bool) {
        match source {
            CopySource::Path { input, path, written: _ } => {
                self.add(name.to_owned(), format!("input {input}"));
                if parents {
                    // The whole path appears below the destination.
                    self.add(format!("{name} path"), path);
                } else {
                    let last = path.rsplit_once('/').map_or(path.as_str(), |(_, last)| last);
                    self.add(format!("{name} name"), last);
                    self.0.push(Component::selector(format!("{name} path"), path));
                }
            }
            CopySource::Inline { name: file, data } => {
                self.add(name.to_owned(), "inline");
                self.add(format!("{name} name"), file);
                self.add(format!("{name} content"), inline(data));
            }
        }
    }

    fn owner(&mut self, name: &impl Fn(&str) -> String, owner: Option<&Owner>) {
        let Some(owner) = owner else { return };
        self.principal(name("user"), name("user id"), &owner.user);
        if let Some(group) = &owner.group {
            self.principal(name("group"), name("group id"), group);
        }
    }

    fn principal(&mut self, by_name: String, by_id: String, principal: &Principal) {
        match principal {
            Principal::Name(text) => self.add(by_name, text),
            Principal::Id(number) => self.add(by_id, number.to_string()),
        }
    }
}

fn inline(data: &[u8]) -> String {
    let mut hasher = KeyHasher::new("inline/1");
    hasher.bytes(data);
    hasher.finish().to_string()
}

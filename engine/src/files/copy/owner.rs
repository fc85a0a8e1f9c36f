//! Which numbers are the names in `--chown`?
//!
//! Names are looked up in the image that is changed, not on this machine. `root` is 0 everywhere. A user without a
//! group brings its primary group along; a number without a group is its own group.

use std::io;
use std::str;

use rbuild_solver::graph::{Owner, Principal};

use super::super::InnerPath;

/// More than any real `/etc/passwd` has.
const LARGEST_FILE: u64 = 16 << 20;

/// Why an owner cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// The image has no such user or group.
    #[error("no {kind} `{name}` in the image's `{file}`")]
    Unknown {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
        /// Where it was looked for.
        file: &'static str,
        /// The known name that is most like it.
        nearest: Option<String>,
    },
    /// The image has no file of users or groups.
    #[error("cannot resolve the {kind} `{name}`: the image has no `{file}`")]
    NoFile {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
        /// What is missing.
        file: &'static str,
    },
    /// It cannot be read.
    #[error("cannot read the image's `{file}`")]
    Read {
        /// The file.
        file: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl OwnerError {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { nearest: Some(nearest), .. } => Some(format!("did you mean `{nearest}`?")),
            Self::Unknown { kind, .. } => Some(format!("make the {kind} in an earlier `RUN`, or use a number")),
            Self::NoFile { .. } => Some("use numbers, such as `--chown=1000:1000`".to_owned()),
            Self::Read { .. } => None,
        }
    }
}

/// User and group as numbers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Ids {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

const PASSWD: Table = Table { kind: "user", file: "/etc/passwd" };
const GROUP: Table = Table { kind: "group", file: "/etc/group" };

/// Reads a file of the image; nothing if it does not exist, an error if it is larger than the limit.
pub(crate) type Read<'a> = &'a dyn Fn(&InnerPath, u64) -> io::Result<Option<Vec<u8>>>;

/// Resolves an owner in the image whose files `read` reads.
pub(crate) fn resolve_owner(owner: &Owner, read: Read<'_>) -> Result<Ids, OwnerError> {
    let (uid, primary) = match &owner.user {
        Principal::Id(id) => (*id, *id),
        // `--chown=:group`.
        Principal::Name(name) if name.is_empty() || name == "root" => (0, 0),
        Principal::Name(name) => PASSWD.find(read, name)?,
    };
    let gid = match &owner.group {
        None => primary,
        Some(Principal::Id(id)) => *id,
        Some(Principal::Name(name)) if name == "root" => 0,
        Some(Principal::Name(name)) => GROUP.find(read, name)?.0,
    };
    Ok(Ids { uid, gid })
}

struct Table {
    kind: &'static str,
    file: &'static str,
}

impl Table {
    /// The id of a name, and the primary group of a user.
    fn find(&self, read: Read<'_>, name: &str) -> Result<(u32, u32), OwnerError> {
        let Self { kind, file } = *self;
        let content = read(&InnerPath::new(file), LARGEST_FILE);
        let content = content
            .map_err(|source| OwnerError::Read { file, source })?
            .ok_or_else(|| OwnerError::NoFile { kind, name: name.to_owned(), file })?;
        let rows = || content.split(|byte| *byte == b'\n').filter_map(row);
        if let Some((_, id, primary)) = rows().find(|(known, ..)| *known == name) {
            return Ok((id, primary));
        }
        let nearest = rbuild_frontend::nearest(name, rows().map(|(known, ..)| known)).map(str::to_owned);
        Err(OwnerError::Unknown { kind, name: name.to_owned(), file, nearest })
    }
}

/// `name:password:id:primary group:…`; groups have members in the last place.
fn row(line: &[u8]) -> Option<(&str, u32, u32)> {
    let mut fields = line.split(|byte| *byte == b':').map(|field| str::from_utf8(field).ok());
    let name = fields.next()??;
    let id = fields.nth(1)??.trim().parse().ok()?;
    let primary = fields.next().flatten().and_then(|field| field.trim().parse().ok()).unwrap_or(0);
    Some((name, id, primary))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::super::Root;
    use super::*;

    fn resolve(written: &str, root: &Root) -> Result<Ids, OwnerError> {
        resolve_owner(&owner(written), &|file, limit| root.read_small(file, limit))
    }

    fn owner(text: &str) -> Owner {
        let principal = |text: &str| text.parse().map_or_else(|_| Principal::Name(text.to_owned()), Principal::Id);
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        Owner { user: principal(user), group: group.map(principal) }
    }

    #[test]
    fn names_are_those_of_the_image() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("etc")).unwrap();
        let passwd = "root:x:0:0::/root:/bin/sh\nbad line\ndaemon:x:1:1::/:/bin/false\napp:x:1001:2002::/:/bin/sh\n";
        fs::write(directory.path().join("etc/passwd"), passwd).unwrap();
        fs::write(directory.path().join("etc/group"), "root:x:0:\ndaemon:x:1:\nappgrp:x:3003:app\n").unwrap();
        let root = Root::open(directory.path()).unwrap();
        for (written, expected) in [
            ("app", "1001:2002"),
            ("app:appgrp", "1001:3003"),
            (":appgrp", "0:3003"),
            ("daemon:99", "1:99"),
            ("99:daemon", "99:1"),
            ("5", "5:5"),
            ("5:6", "5:6"),
            ("root", "0:0"),
            ("app:root", "1001:0"),
            (
                "nobody",
                "no user `nobody` in the image's `/etc/passwd`, make the user in an earlier `RUN`, or use a number",
            ),
            ("daemno", "no user `daemno` in the image's `/etc/passwd`, did you mean `daemon`?"),
            ("0:appgpr", "no group `appgpr` in the image's `/etc/group`, did you mean `appgrp`?"),
        ] {
            let found = match resolve(written, &root) {
                Ok(Ids { uid, gid }) => format!("{uid}:{gid}"),
                Err(error) => format!("{error}, {}", error.hint().unwrap()),
            };
            assert_eq!(found, expected, "{written}");
        }
    }

    #[test]
    fn numbers_and_root_need_no_files() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::open(directory.path()).unwrap();
        assert_eq!(resolve("root:7", &root).unwrap(), Ids { uid: 0, gid: 7 });
        let error = resolve("app", &root).unwrap_err();
        assert_eq!(error.to_string(), "cannot resolve the user `app`: the image has no `/etc/passwd`");
    }
}

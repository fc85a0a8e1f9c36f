//! Who is `user[:group]` in an image?
//!
//! Looked up in the image's own `/etc/passwd` and `/etc/group`, as runc does for Docker. A number needs no entry; a name
//! does. A named (or listed) user brings its groups along, unless a group was asked for.

use std::io::Read as _;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};

use crate::error::Failure;

/// Longest `/etc/passwd` that is read.
const LONGEST: u64 = 10 << 20;

/// Whom the process runs as.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// Resolves `user` (`[user][:group]`) and additional `groups` in the tree at `root`.
pub(crate) fn identify(root: BorrowedFd<'_>, user: &str, groups: &[String]) -> Result<Identity, Failure> {
    identify_in(&read(root, "etc/passwd"), &read(root, "etc/group"), user, groups)
}

/// A missing or strange file is as good as an empty one: numbers work without.
fn read(root: BorrowedFd<'_>, path: &str) -> String {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let Ok(file) = openat2(root, Path::new(path), flags, Mode::empty(), resolve) else { return String::new() };
    if !fstat(&file).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::RegularFile) {
        return String::new();
    }
    let mut bytes = Vec::new();
    match std::fs::File::from(file).take(LONGEST).read_to_end(&mut bytes) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

fn identify_in(passwd: &str, group: &str, user: &str, more: &[String]) -> Result<Identity, Failure> {
    let (user, wanted_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = id(user);
    // A name that is a number is a name first, as for `chown`.
    let entry = passwd.lines().map(fields).find(|entry| entry.first() == Some(&user));
    let entry = entry.or_else(|| {
        let number = number?;
        passwd.lines().map(fields).find(|entry| entry.get(2).and_then(|text| id(text)) == Some(number))
    });
    let field = |index: usize| entry.as_ref().and_then(|entry| entry.get(index).copied());
    let uid = field(2).and_then(id).or(number).ok_or_else(|| unknown("user", user, "/etc/passwd"))?;
    let (gid, mut groups) = match wanted_group {
        Some(wanted) => (group_id(group, wanted)?, Vec::new()),
        None => (field(3).and_then(id).unwrap_or(0), field(0).map_or(Vec::new(), |name| groups_of(group, name))),
    };
    // The primary group is listed too, as containerd does it: a process that gives up its primary group then does not
    // escape what that group is denied (CVE-2022-36109).
    groups.push(gid);
    for name in more {
        groups.push(group_id(group, name)?);
    }
    groups.sort_unstable();
    groups.dedup();
    let home = field(5).filter(|home| home.starts_with('/')).unwrap_or("/").to_owned();
    Ok(Identity { uid, gid, groups, home })
}

fn fields(line: &str) -> Vec<&str> {
    line.trim_end_matches('\r').split(':').collect()
}

fn id(text: &str) -> Option<u32> {
    // 2³² − 1 means "leave as it is" to setresuid.
    text.parse().ok().filter(|id| *id != u32::MAX)
}

fn group_id(group: &str, wanted: &str) -> Result<u32, Failure> {
    let entry = group.lines().map(fields).find(|entry| entry.first() == Some(&wanted));
    let listed = entry.and_then(|entry| entry.get(2).and_then(|text| id(text)));
    listed.or_else(|| id(wanted)).ok_or_else(|| unknown("group", wanted, "/etc/group"))
}

fn groups_of(group: &str, user: &str) -> Vec<u32> {
    let member = |entry: &Vec<&str>| entry.get(3).is_some_and(|list| list.split(',').any(|name| name == user));
    group.lines().map(fields).filter(member).filter_map(|entry| id(entry.get(2)?)).collect()
}

fn unknown(kind: &str, name: &str, file: &str) -> Failure {
    Failure::UnknownUser { kind: kind.to_owned(), name: name.to_owned(), file: file.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:100:App:/home/app:/bin/sh\n77:x:5:6::/odd:\nbad\nrel:x:8:8::home:\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:app\nwheel:x:10:root,app\naudio:x:29:app\nbroken:x:z:app\n";

    #[test]
    fn a138_users_are_found_by_name_and_number() {
        for (user, uid, gid, groups, home) in [
            ("", 0, 0, vec![0, 10], "/root"),
            ("root", 0, 0, vec![0, 10], "/root"),
            ("app", 1000, 100, vec![10, 29, 100], "/home/app"),
            ("1000", 1000, 100, vec![10, 29, 100], "/home/app"),
            ("app:", 1000, 100, vec![10, 29, 100], "/home/app"),
            ("app:wheel", 1000, 10, vec![10], "/home/app"),
            ("app:4242", 1000, 4242, vec![4242], "/home/app"),
            ("4242", 4242, 0, vec![0], "/"),
            ("4242:users", 4242, 100, vec![100], "/"),
            (":users", 0, 100, vec![100], "/root"),
            ("77", 5, 6, vec![6], "/odd"),
            ("rel", 8, 8, vec![8], "/"),
        ] {
            let found = identify_in(PASSWD, GROUP, user, &[]).unwrap();
            assert_eq!(found, Identity { uid, gid, groups, home: home.to_owned() }, "{user}");
        }
    }

    #[test]
    fn a138_unknown_names_are_errors_that_name_the_file() {
        for (user, kind, name, file) in [
            ("nobody", "user", "nobody", "/etc/passwd"),
            ("app:nogroup", "group", "nogroup", "/etc/group"),
            ("4294967295", "user", "4294967295", "/etc/passwd"),
            ("-1", "user", "-1", "/etc/passwd"),
            ("app:broken", "group", "broken", "/etc/group"),
        ] {
            assert_eq!(identify_in(PASSWD, GROUP, user, &[]), Err(unknown(kind, name, file)), "{user}");
        }
    }

    #[test]
    fn a138_only_files_of_the_image_are_read_and_only_so_much_of_them() {
        let image = tempfile::tempdir().unwrap();
        let at = |path: &str| image.path().join(path);
        let open = || std::fs::File::open(image.path()).unwrap();
        let read = |path: &str| read(open().as_fd(), path);
        assert_eq!(read("etc/passwd"), "", "there is none");
        std::fs::create_dir(at("etc")).unwrap();
        std::fs::write(at("real"), "inside").unwrap();
        // The path of an image counts from the image's root: this file is not the host's.
        std::os::unix::fs::symlink("/real", at("etc/passwd")).unwrap();
        assert_eq!(read("etc/passwd"), "inside");
        std::os::unix::fs::symlink("/etc/hostname", at("etc/group")).unwrap();
        assert_eq!(read("etc/group"), "");
        std::os::unix::fs::symlink("../../../../../../../../etc/hostname", at("etc/up")).unwrap();
        assert_eq!(read("etc/up"), "");
        assert_eq!(read("etc"), "", "a directory");
        rustix::fs::mknodat(open(), "etc/pipe", FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(read("etc/pipe"), "", "a pipe");
        std::fs::write(at("etc/long"), "x".repeat((LONGEST + 1) as usize)).unwrap();
        assert_eq!(read("etc/long").len() as u64, LONGEST);
    }

    #[test]
    fn additional_groups_are_added_once() {
        let more = ["audio".to_owned(), "100".to_owned(), "55".to_owned()];
        assert_eq!(identify_in(PASSWD, GROUP, "app", &more).unwrap().groups, [10, 29, 55, 100]);
    }
}

use super::*;

fn shown(text: &str) -> String {
    match remote(text) {
        None => "path".to_owned(),
        Some(Err(error)) => format!("wrong: {error}"),
        Some(Ok(Remote::Http(op))) => format!("file {} called {}", op.url, op.name),
        Some(Ok(Remote::Git { op, keep_git_dir })) => {
            let mut text = format!("git {} {}", op.remote, op.reference.as_deref().unwrap_or("HEAD"));
            for (name, value) in
                [("in", Some(&op.subdir).filter(|subdir| !subdir.is_empty())), ("is", op.checksum.as_ref())]
            {
                text.extend(value.map(|value| format!(" {name} {value}")));
            }
            for (word, set) in [
                ("keep", keep_git_dir == Some(true)),
                ("drop", keep_git_dir == Some(false)),
                ("flat", !op.submodules),
                ("old", op.mtime == GitTime::Commit),
                ("by-commit", op.fetch_by_commit),
            ] {
                text.push_str(&if set { format!(" {word}") } else { String::new() });
            }
            text
        }
    }
}

#[test]
fn addresses_are_told_from_paths() {
    for (id, text, expected) in [
        ("A183", "https://e.com/a.tar", "file https://e.com/a.tar called a.tar"),
        ("A184", "http://e.com/d/a%20b?x=1#f", "file http://e.com/d/a%20b?x=1 called a b"),
        ("A184", "https://e.com/a/b/", "file https://e.com/a/b/ called b"),
        ("A184", "https://e.com", "file https://e.com called "),
        ("A184", "https://e.com/a%2Fb", "file https://e.com/a%2Fb called b"),
        ("A184", "https://e.com/..", "file https://e.com/.. called "),
        ("A183", "http://e.com/a.git.tar", "file http://e.com/a.git.tar called a.git.tar"),
        ("A183", "https://", "wrong: `https://` is not a URL"),
        ("A183", "https://e.com/a b", "wrong: `https://e.com/a b` is not a URL"),
        ("A183", "httpd.conf", "path"),
        ("A183", "ftp://e.com/a", "path"),
        ("A187", "https://e.com/a.git", "git https://e.com/a.git HEAD"),
        ("A187", "https://u:p@e.com/a.git#v1:s/../d/", "git https://u:p@e.com/a.git v1 in d"),
        ("A187", "https://e.com/a.git#:d", "git https://e.com/a.git HEAD in d"),
        ("A187", "https://e.com/a.git#a%2Fb", "git https://e.com/a.git a/b"),
        ("A187", "git@e.com:a/b", "git git@e.com:a/b HEAD"),
        ("A187", "git@e.com:a/b.git#main:x", "git git@e.com:a/b.git main in x"),
        ("A187", "user_1@e.com:a?branch=x", "git user_1@e.com:a refs/heads/x"),
        ("A187", "ssh://git@e.com:22/a", "git ssh://git@e.com:22/a HEAD"),
        ("A187", "git://e.com/a", "git git://e.com/a HEAD"),
        ("A187", "git@home/a:b", "path"),
        ("A187", "a.git", "path"),
        ("A187", "github.com/a/b", "path"),
        ("A187", "https://e.com/a.git?ref=v1&subdir=/d", "git https://e.com/a.git v1 in d"),
        ("A187", "https://e.com/a.git?tag=v1", "git https://e.com/a.git refs/tags/v1"),
        ("A187", "https://e.com/a.git?tag=v1#v1", "git https://e.com/a.git refs/tags/v1"),
        ("A187", "https://e.com/a.git?branch=a%2Fb&commit=ABC", "git https://e.com/a.git refs/heads/a/b is abc"),
        (
            "A187",
            "https://e.com/a.git?keep-git-dir&submodules=0&mtime=commit",
            "git https://e.com/a.git HEAD keep flat old",
        ),
        (
            "A187",
            "https://e.com/a.git?keep-git-dir=false&fetch-by-commit",
            "git https://e.com/a.git HEAD drop by-commit",
        ),
        ("A180", "https://e.com/a.git?ref=a#b", "wrong: two different refs are asked for: `b` and `a`"),
        (
            "A180",
            "https://e.com/a.git?branch=a&tag=a",
            "wrong: two different refs are asked for: `refs/heads/a` and `refs/tags/a`",
        ),
        ("A180", "https://e.com/a.git?subdir=a#b:c", "wrong: two different directories are asked for: `c` and `a`"),
        ("A187", "https://e.com/a.git?ref=", "wrong: `ref=` in the query has no value"),
        ("A187", "https://e.com/a.git?ref=a&ref=a", "wrong: `ref=` stands twice in the query"),
        ("A187", "https://e.com/a.git?mtime=now", "wrong: `mtime=now` is not known"),
        ("A187", "https://e.com/a.git?submodules=no", "wrong: `submodules=no` is neither true nor false"),
        ("A187", "https://e.com/a.git?brnach=x", "wrong: the query of a repository has no `brnach`"),
        ("A187", "https://e.com/a.git?commit=xyz", "wrong: `xyz` is not a commit"),
        ("A187", "-o@e.com:a", "wrong: `-o@e.com:a` is not the address of a repository"),
        ("A187", "ssh://-oProxyCommand=x/a", "wrong: `ssh://-oProxyCommand=x/a` is not the address of a repository"),
        ("A187", "git@-e.com:a", "wrong: `git@-e.com:a` is not the address of a repository"),
        (
            "A187",
            "https://e.com/a.git#--upload-pack=x",
            "wrong: `--upload-pack=x` is not the name of a branch, a tag or a commit",
        ),
        ("A187", "https://e.com/a.git#a..b", "wrong: `a..b` is not the name of a branch, a tag or a commit"),
        ("A187", "https://e.com/a.git#a*", "wrong: `a*` is not the name of a branch, a tag or a commit"),
    ] {
        assert_eq!(shown(text), expected, "{id} {text}");
    }
}

#[test]
fn a178_checksums_are_commits_and_agree() {
    let commit = "a".repeat(40);
    let op = |text: String| match remote(&text) {
        Some(Ok(Remote::Git { op, .. })) => op,
        other => panic!("{other:?}"),
    };
    let at = op(format!("https://e.com/a.git#{commit}"));
    assert_eq!(with_checksum(at.clone(), "AAAA").unwrap().checksum.as_deref(), Some("aaaa"));
    assert!(with_checksum(at, "b").is_err());
    assert!(with_checksum(op("https://e.com/a.git?commit=ab".to_owned()), "ac").is_err());
    assert!(with_checksum(op("https://e.com/a.git".to_owned()), "sha256:ab").is_err());
    assert!(complete(&op("https://e.com/a.git?fetch-by-commit".to_owned())).is_err());
    assert!(complete(&op(format!("https://e.com/a.git?fetch-by-commit&commit={commit}"))).is_ok());
}

#[test]
fn passwords_are_not_shown() {
    for (url, shown) in [
        ("https://u:p@h/a@b:c", "https://u:xxxxx@h/a@b:c"),
        ("https://u:p@q@h", "https://u:xxxxx@h"),
        ("https://token@h/a", "https://xxxxx@h/a"),
        ("HTTP://token@h", "HTTP://xxxxx@h"),
        ("https://token:@h/a", "https://xxxxx@h/a"),
        ("https://token:x-oauth-basic@h/a", "https://xxxxx@h/a"),
        ("https://@h/a", "https://@h/a"),
        ("ssh://git@h/a", "ssh://git@h/a"),
        ("ssh://git:p@h/a", "ssh://git:xxxxx@h/a"),
        ("https://h/a?x=u:p@h", "https://h/a?x=u:p@h"),
        ("git@h:a", "git@h:a"),
    ] {
        assert_eq!(redacted(url), shown);
    }
}

#[test]
fn a187_a_login_is_taken_off_an_address() {
    let login = |user: &str, password: &str| Some(Login { user: user.to_owned(), password: password.to_owned() });
    for (url, rest, found) in [
        ("https://u:p@h:1/a.git", "https://h:1/a.git", login("u", "p")),
        ("http://u%40x:p%2Fq:r@h", "http://h", login("u@x", "p/q:r")),
        ("https://u@v:p@h/a@b", "https://h/a@b", login("u@v", "p")),
        ("https://token@h/a", "https://h/a", login("token", "")),
        ("https://:p@h/a", "https://h/a", login("", "p")),
        ("https://@h/a", "https://h/a", None),
        ("https://h/a:b@c", "https://h/a:b@c", None),
        ("ssh://git:p@h/a", "ssh://git:p@h/a", None),
        ("git@h:a", "git@h:a", None),
    ] {
        assert_eq!(split_login(url), (rest.to_owned(), found), "{url}");
    }
}

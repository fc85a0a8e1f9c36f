//! What does `ADD` of URLs and repositories become, and what is wrong with one?

use super::*;

const DIGEST: &str = "sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d";

#[test]
fn a183_a187_remote_sources_are_vertices_of_their_own() {
    let text = format!(
        "FROM scratch\n\
         ARG SUM={DIGEST}\n\
         ADD --checksum=$SUM https://u:p@e.com/d/a.tar?x=1 /d/\n\
         ADD --unpack=true --chown=1:2 https://e.com/a.tgz /d\n\
         ADD --unpack=false a.tar /d\n\
         ADD --link --keep-git-dir https://e.com/a.git?mtime=commit#v1:s /src\n\
         ADD a https://e.com/b[1] <<EOF git@e.com:c https://e.com/d e /x/\nhere\nEOF\n\
         ADD http://e.com/ /index.html\n"
    );
    let mut options = options();
    options.source_date_epoch = Some(9);
    insta::assert_snapshot!(plan(&lowered(&text, &options)), @r##"
    0 <> [internal] scratch
        scratch
    1 <> [internal] load https://u:xxxxx@e.com/d/a.tar?x=1
        http https://u:p@e.com/d/a.tar?x=1 as a.tar is 24454f830cdb at 9
    2 <0 1> [1/6] ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d https://u:xxxxx@e.com/d/a.tar?x=1 /d/
        copy ["1:a.tar (https://u:xxxxx@e.com/d/a.tar?x=1)"] -> /d/ at 9
    3 <> [internal] load https://e.com/a.tgz
        http https://e.com/a.tgz as a.tgz at 9
    4 <2 3> [2/6] ADD --unpack=true --chown=1:2 https://e.com/a.tgz /d
        copy ["1:a.tgz (https://e.com/a.tgz)"] -> /d unpack Owner { user: Id(1), group: Some(Id(2)) } at 9
    5 <> [internal] load build context
        local context ["a.tar"] without []
    6 <4 5> [3/6] ADD --unpack=false a.tar /d
        copy ["1:a.tar (a.tar)"] -> /d at 9
    7 <> [internal] load https://e.com/a.git?mtime=commit#v1:s
        GitOp { remote: "https://e.com/a.git", reference: Some("v1"), checksum: None, subdir: "s", keep_git_dir: true, submodules: true, mtime: Commit, fetch_by_commit: false }
    8 <0 7> [4/6] ADD --link --keep-git-dir https://e.com/a.git?mtime=commit#v1:s /src
        copy ["1: (https://e.com/a.git?mtime=commit#v1:s)"] -> /src at 9
    9 <6 8> [4/6] LINK ADD --link --keep-git-dir https://e.com/a.git?mtime=commit#v1:s /src
        merge
    10 <> [internal] load build context
        local context ["a", "e"] without []
    11 <> [internal] load https://e.com/b[1]
        http https://e.com/b[1] as b[1] at 9
    12 <> [internal] load git@e.com:c
        GitOp { remote: "git@e.com:c", reference: None, checksum: None, subdir: "", keep_git_dir: false, submodules: true, mtime: Checkout, fetch_by_commit: false }
    13 <> [internal] load https://e.com/d
        http https://e.com/d as d at 9
    14 <9 10 11 12 13> [5/6] ADD a https://e.com/b[1] <<EOF git@e.com:c https://e.com/d e /x/
        copy ["1:a (a)"] -> /x/ unpack at 9; copy ["2:b[1] (https://e.com/b[1])"] -> /x/ at 9; copy ["EOF=\"here\\n\""] -> /x/ unpack at 9; copy ["3: (git@e.com:c)", "4:d (https://e.com/d)"] -> /x/ at 9; copy ["1:e (e)"] -> /x/ unpack at 9
    15 <> [internal] load http://e.com/
        http http://e.com/ as index.html at 9
    16 <14 15> [6/6] ADD http://e.com/ /index.html
        copy ["1:index.html (http://e.com/)"] -> /index.html at 9
    -> 16
    "##);
    let history = created_by(&lowered(&text, &options)).join("\n");
    assert!(history.contains("ADD https://u:xxxxx@e.com/d/a.tar?x=1 /d/"), "{history}");
    assert!(!history.contains("u:p@"), "{history}");
}

#[test]
fn mistakes_about_remote_sources() {
    let checksum = format!("--checksum={DIGEST}");
    for (id, line, expected) in [
        ("A168", "COPY $U://e.com/x /x", "`COPY` cannot copy a URL: `https://e.com/x` [`ADD` is for remote sources]"),
        (
            "A168",
            "COPY git@e.com:x /x",
            "`COPY` cannot copy a git repository: `git@e.com:x` [`ADD` is for remote sources]",
        ),
        ("A168", "COPY $U://e.com/x.git /x", "`COPY` cannot copy a git repository: `https://e.com/x.git` [`ADD` is"),
        (
            "A178",
            "ADD --checksum=sha256:12 https://e.com/x /x",
            "invalid checksum `sha256:12` [the checksum of a file is",
        ),
        ("A178", "ADD --checksum=abc https://e.com/x /x", "invalid checksum `abc`"),
        (
            "A178",
            "ADD --checksum=sha256:12 https://e.com/x.git /x",
            "`sha256:12` is not a commit [a repository's checksum",
        ),
        (
            "A178",
            "ADD --checksum=12 https://e.com/x.git?commit=34 /x",
            "two different commits are asked for: `34` and `12`",
        ),
        ("A178", "ADD --checksum=12 x /x", "`ADD --checksum` is for a URL or a git repository"),
        (
            "A180",
            &format!("ADD {checksum} https://e.com/x https://e.com/y /x/"),
            "`ADD --checksum` takes exactly one source",
        ),
        ("A180", "ADD --keep-git-dir=true x /x", "`ADD --keep-git-dir` is for a git repository"),
        ("A180", "ADD --keep-git-dir https://e.com/x /x", "`ADD --keep-git-dir` is for a git repository"),
        (
            "A180",
            "ADD --keep-git-dir=false https://e.com/x.git?keep-git-dir=true /x",
            "`--keep-git-dir=false` contradicts `keep-git-dir=true` in the address",
        ),
        (
            "A184",
            "ADD https://e.com /x/",
            "`https://e.com` has no file name, and the destination is a directory [name the file: `/x/NAME`]",
        ),
        (
            "A184",
            "ADD https://e.com/?a=b .",
            "`https://e.com/?a=b` has no file name, and the destination is a directory",
        ),
        (
            "A184",
            "ADD https://e.com/a https://e.com/b /x",
            "with several sources the destination is a directory: `/x` must end in `/`",
        ),
        ("A187", "ADD https://e.com/x.git?fetch-by-commit#v1 /x", "`fetch-by-commit` needs a whole commit"),
        ("A187", "ADD https://e.com/x.git?nope=1 /x", "the query of a repository has no `nope`"),
        ("A187", "ADD ssh://-x/y /x", "`ssh://-x/y` is not the address of a repository"),
    ] {
        let found = mistakes(&format!("FROM busybox\nARG U=https\n{line}\n"), &options());
        assert_eq!(found.len(), 1, "{id} {line}\n{found:#?}");
        assert!(found[0].starts_with(&format!("3: {expected}")), "{id} {line}\n{found:#?}");
    }
}

#[test]
fn a079_the_time_of_an_image_can_be_that_of_a_source() {
    let mut options = options();
    options.named_contexts.insert("docs".to_owned(), NamedContext::Local);
    let rest = "FROM scratch\nARG SOURCE_DATE_EPOCH\nLABEL at=${SOURCE_DATE_EPOCH:-never}\n";
    for (epoch, stage, expected) in [
        ("7", "", (Some(7), "7")),
        ("context", "", (None, "never")),
        ("docs", "", (Some(1), "1")),
        ("Docs", "FROM scratch AS docs\nADD https://e.com/a /\n", (Some(2), "2")),
        ("when", "FROM scratch AS When\nADD https://e.com/a /\n", (Some(2), "2")),
        ("when", "FROM scratch AS when\nARG U=git@e.com\nADD $U:a /\n", (Some(3), "3")),
    ] {
        for given in [true, false] {
            let mut options = options.clone();
            let line = if given { "" } else { &format!("ARG SOURCE_DATE_EPOCH={epoch}\n") };
            if given {
                options.build_args.insert("SOURCE_DATE_EPOCH".to_owned(), Some(epoch.to_owned()));
            }
            let found = lowered(&format!("{line}{stage}{rest}"), &options);
            let label = found.config.config.labels["at"].as_str();
            assert_eq!((found.source_date_epoch, label), expected, "{epoch} {stage}");
        }
    }
}

#[test]
fn a079_not_every_stage_has_a_time() {
    for (stage, expected) in [
        ("FROM scratch AS other\n", "1: `SOURCE_DATE_EPOCH=when` is neither a number of seconds nor the name"),
        ("FROM busybox AS when\n", "2: stage `when` gives `SOURCE_DATE_EPOCH`, so it must start `FROM scratch`"),
        ("FROM scratch AS when\n", "2: stage `when` gives `SOURCE_DATE_EPOCH`, so it must have exactly one `ADD` of"),
        ("FROM scratch AS when\nADD a /\n", "3: stage `when` gives `SOURCE_DATE_EPOCH`, so it must have exactly one"),
        ("FROM scratch AS when\nADD https://e.com/a https://e.com/b /\n", "3: stage `when` gives"),
        ("FROM scratch AS when\nADD https://e.com/a /\nADD https://e.com/b /\n", "4: stage `when` gives"),
        ("FROM scratch AS when\nADD https://e.com/a /\nENV A=1\n", "4: stage `when` gives"),
        ("FROM scratch AS when\nADD https://e.com/gone /\n", "1: when"),
    ] {
        let found = mistakes(&format!("ARG SOURCE_DATE_EPOCH=when\n{stage}FROM scratch\n"), &options());
        assert!(found.len() == 1 && found[0].starts_with(expected), "{stage}\n{found:#?}");
    }
}

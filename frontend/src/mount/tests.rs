use super::*;

fn word(text: &str) -> Word {
    Word { text: text.to_owned(), span: Span::new(0, text.len() as u32) }
}

fn read(text: &str) -> Result<RunMount, String> {
    parse(&word(text), &mut |value| Ok(value.text.replace("$V", "value,ro"))).map_err(|error| error.message)
}

#[test]
fn defaults_of_each_type() {
    let cases = [
        ("target=/x", "Bind(BindMount { target: \"/x\", source: \"\", from: None, read_only: true })"),
        ("type=bind,dst=x,src=y,rw", "Bind(BindMount { target: \"x\", source: \"y\", from: None, read_only: false })"),
        ("size=64m,type=tmpfs,target=/t", "Tmpfs(TmpfsMount { target: \"/t\", size: Some(67108864) })"),
        (
            "type=secret,id=a/b",
            "Secret(SecretMount { id: \"a/b\", target: Some(\"/run/secrets/b\"), env: None, required: false, \
             file: FileOptions { mode: None, uid: None, gid: None } })",
        ),
        (
            "type=secret,id=a,env=A,required",
            "Secret(SecretMount { id: \"a\", target: None, env: Some(\"A\"), required: true, \
             file: FileOptions { mode: None, uid: None, gid: None } })",
        ),
        (
            "type=SSH,mode=0660,uid=1,gid=2",
            "Ssh(SshMount { id: \"default\", target: None, required: false, \
             file: FileOptions { mode: Some(432), uid: Some(1), gid: Some(2) } })",
        ),
        (
            "type=cache,target=/c,sharing=locked,\"id=a,\"\"b\"",
            "Cache(CacheMount { target: \"/c\", id: Some(\"a,\\\"b\"), from: None, source: \"\", sharing: Locked, \
             read_only: false, file: FileOptions { mode: None, uid: None, gid: None } })",
        ),
        (
            "target=/x,source=$V",
            "Bind(BindMount { target: \"/x\", source: \"value,ro\", from: None, read_only: true })",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(read(text).map(|mount| format!("{mount:?}")).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn mistakes_name_the_option() {
    let cases = [
        ("type=wormhole,target=/x", "unsupported mount type `wormhole` in `type=wormhole`"),
        ("type=cache,target=/x,sharing=some", "unsupported sharing `some` in `sharing=some`"),
        ("targte=/x", "unknown option `targte` of `--mount`"),
        ("target", "option `target` of `--mount` needs a value"),
        ("target=/x,size=3", "option `size` has no meaning for a mount of type `bind`"),
        ("target=/x,from=$V", "`from` of `--mount` does not support variables: `$V`"),
        ("type=secret,from=a,id=b", "option `from` has no meaning for a mount of type `secret`"),
        ("type=secret", "a secret mount needs `id` or `target`"),
        ("type=secret,id=a,src=b", "a secret mount has either `id` or `source`, not both"),
        ("type=tmpfs,target=/x,size=1x", "invalid value `1x` for `size`"),
        ("type=cache,target=/x,mode=9", "invalid value `9` for `mode`"),
        ("type=cache,target=/./", "invalid mount target `/`"),
        ("target=/x,ro=maybe", "invalid value `maybe` for `ro`"),
        ("target=\"/x", "`target=\"/x` is not a comma-separated list of options"),
    ];
    for (text, expected) in cases {
        assert_eq!(read(text), Err(expected.to_owned()), "{text}");
    }
}

#[test]
fn a126_what_only_buildah_has_is_refused_by_name() {
    for (option, hint) in [
        ("nosuid", "no device on a mount"),
        ("nodev=true", "no device on a mount"),
        ("noexec", "no device on a mount"),
        ("U", "`uid=` and `gid=`"),
        ("z", "SELinux"),
        ("Z", "SELinux"),
        ("relabel=shared", "SELinux"),
        ("bind-propagation=rshared", "private to it"),
        ("bind-nonrecursive", "private to it"),
        ("tmpcopyup", "copy the files"),
        ("tmpfs-mode=700", "mode 1777"),
        ("tmpfs-size=1m", "`size=`"),
    ] {
        let found = parse(&word(&format!("target=/x,{option}")), &mut |value| Ok(value.text.clone())).unwrap_err();
        let name = option.split('=').next().unwrap();
        assert_eq!(found.message, format!("option `{name}` of `--mount` is buildah's, and not supported"));
        assert!(found.hint.as_ref().is_some_and(|text| text.contains(hint)), "{found:?}");
    }
}

#[test]
fn a110_options_come_in_any_order_and_casing() {
    let expected = read("type=secret,id=a,target=/t,required,mode=0440,uid=1,gid=2");
    for text in [
        "required,mode=0440,uid=1,gid=2,id=a,target=/t,type=secret",
        "REQUIRED=true,Mode=440,dst=/t,UID=1,GID=2,Id=a,TYPE=Secret",
        "destination=/t,source=a,type=secret,required=1,mode=0440,uid=1,gid=2",
    ] {
        assert_eq!(read(text), expected, "{text}");
    }
    let types = [("bnid", "bind"), ("cahce", "cache"), ("tmpsf", "tmpfs"), ("secrte", "secret"), ("sssh", "ssh")];
    for (typo, meant) in types {
        let found = parse(&word(&format!("type={typo}")), &mut |value| Ok(value.text.clone())).unwrap_err();
        assert_eq!(found.hint, Some(format!("did you mean `{meant}`?")), "{typo}");
    }
    for (typo, meant) in [("tagret=/x", "target"), ("soruce=x", "source"), ("requierd", "required")] {
        let found = parse(&word(typo), &mut |value| Ok(value.text.clone())).unwrap_err();
        assert_eq!(found.hint, Some(format!("did you mean `{meant}`?")), "{typo}");
    }
}

#[test]
fn a121_sizes_have_docker_units() {
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("10b", 10),
        ("1k", 1 << 10),
        ("2KB", 2 << 10),
        ("64m", 64 << 20),
        ("1.5GiB", 3 << 29),
        ("1 t", 1 << 40),
        ("1pb", 1 << 50),
    ] {
        let expected = RunMount::Tmpfs(TmpfsMount { target: "/t".to_owned(), size: Some(bytes) });
        assert_eq!(read(&format!("type=tmpfs,target=/t,size={text}")), Ok(expected), "{text}");
    }
    for text in ["-1", "x", "1x", "1ib", "inf", "nan", "1e3", "99999999p"] {
        assert!(read(&format!("type=tmpfs,target=/t,size={text}")).is_err(), "{text}");
    }
}

#[test]
fn what_depends_on_variables_is_checked_later() {
    let cases = [
        ("type=$T,target=/x,size=3", None),
        ("type=tmpfs,size=$S", None),
        ("tpye=$T", Some("unknown option `tpye` of `--mount`")),
        ("type=wormhole,target=$T", Some("unsupported mount type `wormhole` in `type=wormhole`")),
        ("type=tmpfs,from=a,target=/x", Some("option `from` has no meaning for a mount of type `tmpfs`")),
    ];
    for (text, expected) in cases {
        assert_eq!(check(&word(text), '\\').err().map(|error| error.message).as_deref(), expected, "{text}");
    }
}

#[test]
fn devices_have_a_name() {
    let read = |text: &str| device(&word(text)).map(|device| (device.name, device.required)).map_err(|e| e.message);
    assert_eq!(read("nvidia.com/gpu=all,required"), Ok(("nvidia.com/gpu=all".to_owned(), true)));
    assert_eq!(read("name=vendor/x=1,required=false"), Ok(("vendor/x=1".to_owned(), false)));
    assert_eq!(read("required"), Err("`--device` needs the name of a device".to_owned()));
    assert_eq!(read("a,b"), Err("unknown option `b` of `--device`".to_owned()));
}

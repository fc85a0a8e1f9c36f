//! Where may sources and destinations lead, and what is said of those that do not exist?

use super::*;

#[test]
fn nothing_in_an_image_leads_out_of_it() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    bench.file("context/f", "f");
    bench.file("context/d/f", "f");
    bench.link("image/up", "../../../..");
    bench.link("image/abs", bench.at("context").to_str().unwrap());
    bench.run(r#"COPY ["f", "/up/made"]"#).unwrap();
    bench.run(r#"COPY ["f", "/abs/made"]"#).unwrap();
    bench.run(r#"COPY ["d", "/up/dir"]"#).unwrap();
    assert_eq!((bench.text("made"), bench.text("dir/f")), ("f".into(), "f".into()));
    assert_eq!(fs::read_dir(bench.at("context")).unwrap().count(), 2);
    let inside = bench.at("image").join(bench.at("context").strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(inside.join("made")).unwrap(), "f");
}

#[test]
fn links_of_a_context_stay_in_it() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    bench.file("secret", "s");
    bench.link("context/out", "../secret");
    bench.link("context/absolute", bench.at("secret").to_str().unwrap());
    for source in ["out", "absolute", "../secret"] {
        let error = bench.run(&format!(r#"COPY ["{source}", "/x"]"#)).unwrap_err();
        assert!(error.to_string().contains("not found"), "{error}");
    }
    assert_eq!(bench.names(), "");
}

#[test]
fn what_is_missing_is_named_with_the_pattern_that_hides_it() {
    let mut bench = Bench::new();
    bench.ignore = "vendor\n!vendor/keep\n".into();
    bench.file("context/vendor/lib", "l");
    bench.file("context/src/Package.json", "l");
    bench.link("context/to-vendor", "vendor/lib");
    bench.link("context/dangling", "nowhere");
    for (instruction, message, hint) in [
        (r#"COPY ["missing", "/"]"#, r#""/missing": not found"#, None),
        (r#"COPY ["vendor/lib", "/"]"#, r#""/vendor/lib": not found"#, Some("vendor")),
        (r#"COPY ["vendor", "/"]"#, r#""/vendor": not found"#, Some("vendor")),
        (r#"COPY ["to-vendor", "/"]"#, r#""/to-vendor": not found: the link leads to `/vendor/lib`"#, Some("vendor")),
        (r#"COPY ["dangl*", "/"]"#, r#""/dangl*": not found: the link leads to `/nowhere`"#, None),
        (r#"COPY --parents ["a/./b", "/"]"#, r#""/a/./b": not found"#, None),
        (r#"COPY --from=stage ["/etc/no", "/"]"#, r#""//etc/no": not found"#, None),
    ] {
        let error = bench.run(instruction).unwrap_err();
        assert_eq!(error.to_string(), message, "{instruction}");
        let hint = match hint {
            Some(pattern) => Some(format!("the ignore file leaves it out: see the pattern `{pattern}`")),
            None if message.contains("leads to") => None,
            None => Some(
                "sources are paths below the build context's directory or, with `--from`, below the root of that image"
                    .to_owned(),
            ),
        };
        assert_eq!(error.hint(), hint, "{instruction}");
    }
    let hint = bench.run(r#"COPY ["src/pakcage.json", "/"]"#).unwrap_err().hint();
    assert_eq!(hint.as_deref(), Some("did you mean `src/Package.json`?"));
    bench.run(r#"COPY ["no*", "/made/"]"#).unwrap();
    assert_eq!(bench.names(), "");
}

#[test]
fn several_files_do_not_become_one() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    for name in ["a", "b", "d/in"] {
        bench.file(&format!("context/{name}"), name);
    }
    let error = bench.run(r#"COPY ["a", "b", "/x"]"#).unwrap_err();
    assert_eq!(error.to_string(), "cannot copy several sources to `/x`, which is not a directory");
    bench.run(r#"COPY ["d", "a", "/x"]"#).unwrap();
    bench.run(r#"COPY ["a", "b", "/x"]"#).unwrap();
    assert_eq!(bench.names(), "/x /x/a /x/b /x/in");
}

#[test]
fn a176_exclusions_count_below_directories_not_for_files_that_are_sources() {
    if !root() {
        return;
    }
    let bench = Bench::new();
    for name in ["home.txt", "home.md", "homes/a.txt", "homes/b"] {
        bench.file(&format!("context/{name}"), name);
    }
    bench.run(r#"COPY --exclude=*.txt ["hom*", "/x/"]"#).unwrap();
    assert_eq!(bench.names(), "/x /x/b /x/home.md /x/home.txt");
}

#[test]
fn a_mirror_has_everything_at_its_place() {
    if !root() {
        return;
    }
    for (include, expected) in [
        ("", "/a /d /d/e /d/e/f /d/g /link /other"),
        ("d/e", "/d /d/e /d/e/f"),
        ("a", "/a"),
        ("link", "/d /d/e /d/e/f /d/g /link"),
        ("link/e/f", "/d /d/e /d/e/f /link"),
        ("other", "/d /d/e /d/e/f /link /other"),
        ("hidden", r#""/hidden": not found"#),
    ] {
        let mut bench = Bench::new();
        bench.ignore = "hidden".into();
        for name in ["a", "d/e/f", "d/g", "hidden"] {
            bench.file(&format!("context/{name}"), name);
        }
        bench.link("context/link", "/d");
        bench.link("context/other", "link/e/f");
        let selector = Selector { owners: false, ..Selector::path(include) };
        let found = match mirror(&selector, &bench.context(), &bench.image()) {
            Ok(_) => bench.names(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{include}");
    }
}

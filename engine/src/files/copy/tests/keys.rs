//! Whatever a copy brings into an image is in the key of its input.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const FILES: [&str; 9] = ["a", "b.md", "d/a", "d/b.md", "d/e/a", "d/e/c", "f/a", "f/.h", "x/d/a"];

fn pattern() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b.md", "d", "e", "f", "*", "?", "*.md", "[a-e]", "link", "**", "x"]);
    vec(name, 1..4).prop_map(|names| names.join("/"))
}

fn exclude() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "*.md", "d", "e", "**", "*", ".h"]);
    vec(name, 1..3).prop_map(|names| names.join("/"))
}

fn digests(bench: &Bench, action: &CopyAction) -> [Option<rbuild_core::Digest>; 2] {
    let (context, selector) = (bench.context(), Selector::of_copy(action, 1));
    let root = Root::open(&bench.at("context")).unwrap();
    let unignored: &dyn SourceTree = &root;
    [&context as &dyn SourceTree, unignored].map(|tree| selector.digest(tree).ok())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cover_all_that_is_copied(
        sources in vec(pattern(), 1..3),
        excludes in vec(exclude(), 0..2),
        ignored in vec(exclude(), 0..2),
        parents: bool,
        pivot in proptest::option::of(Just("d")),
    ) {
        let mut bench = Bench::new();
        for file in FILES {
            bench.file(&format!("context/{file}"), file);
        }
        bench.link("context/link", "d/e");
        bench.link("context/d/link", "../f");
        bench.ignore = ignored.join("\n");
        let mut action = parse(r#"COPY ["/out/"]"#);
        action.parents = parents;
        action.exclude = excludes;
        action.sources = sources
            .into_iter()
            .map(|path| match pivot {
                Some(pivot) if parents => format!("{pivot}/./{path}"),
                _ => path,
            })
            .map(|path| CopySource::Path { input: 1, written: path.clone(), path })
            .collect();
        // Ids that need no rights.
        let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        action.owner = Some(Owner { user: Principal::Id(ids.0), group: Some(Principal::Id(ids.1)) });
        let context = bench.context();
        let from: Sources<'_> = BTreeMap::from([(1, &context as &dyn SourceTree)]);
        if apply(&action, &from, &bench.image(), &|_| ()).is_err() {
            return Ok(());
        }
        let before = digests(&bench, &action);
        prop_assert!(before[0].is_some());
        let listing = bench.listing();
        for file in FILES {
            let copied = listing.values().any(|row| row.facts.get("text").is_some_and(|text| text == file));
            bench.file(&format!("context/{file}"), "changed");
            let after = digests(&bench, &action);
            if copied {
                prop_assert_ne!(before[0], after[0], "{} is copied, but not in the key", file);
            }
            if before[0] != after[0] {
                prop_assert_ne!(before[1], after[1], "{} is in the context, but not in the directory", file);
            }
            bench.file(&format!("context/{file}"), file);
        }
    }
}

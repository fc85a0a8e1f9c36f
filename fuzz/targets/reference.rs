//! Does every name parse to a reference that means the same in all its forms, or to an error?

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rbuild_fuzz::cost::bounded;
use rbuild_image::Reference;
use regex::Regex;

/// The grammar of complete references, written down once more.
static COMPLETE: LazyLock<Regex> = LazyLock::new(|| {
    let name = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
    let domain = format!(r"(?:{name}(?:\.{name})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?");
    let component = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
    let path = format!("{component}(?:/{component})*");
    let grammar = format!(r"^{domain}/{path}(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@sha256:[a-f0-9]{{64}})?$");
    Regex::new(&grammar).expect("a regular expression")
});

fuzz_target!(|text: &str| {
    let Ok(reference) = bounded("parsing", text.len(), || text.parse::<Reference>()) else {
        return;
    };
    let complete = reference.to_string();
    assert!(COMPLETE.is_match(&complete), "`{text}` became `{complete}`");
    let familiar = reference.familiar();
    for form in [&complete, &familiar] {
        assert_eq!(form.parse::<Reference>().as_ref(), Ok(&reference), "`{text}` as `{form}`");
    }
    assert!(reference.tag().is_some() || reference.digest().is_some(), "`{text}` has neither tag nor digest");
    let canonical = reference.canonical();
    assert_eq!(canonical.to_string().parse().as_ref(), Ok(&canonical), "`{text}`");
    assert!(complete.starts_with(&reference.name()), "`{text}`");
    assert!(reference.repository().len() <= 255, "`{text}`");
    assert!(complete.ends_with(&reference.locator()), "`{text}`");
});

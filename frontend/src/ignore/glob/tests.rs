use super::*;

fn matches(pattern: &str, path: &str, stars: Stars) -> bool {
    Glob::new(pattern, stars).unwrap().matches(Path::new(path))
}

#[test]
fn shallow_patterns_are_those_of_filepath_match() {
    for (pattern, path, expected) in [
        // The table of Go's path/filepath/match_test.go.
        ("abc", "abc", true),
        ("*", "abc", true),
        ("*c", "abc", true),
        ("a*", "a", true),
        ("a*", "abc", true),
        ("a*", "ab/c", false),
        ("a*/b", "abc/b", true),
        ("a*/b", "a/c/b", false),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
        ("a*b?c*x", "abxbbxdbxebxczzx", true),
        ("a*b?c*x", "abxbbxdbxebxczzy", false),
        ("ab[c]", "abc", true),
        ("ab[b-d]", "abc", true),
        ("ab[e-g]", "abc", false),
        ("ab[^c]", "abc", false),
        ("ab[^b-d]", "abc", false),
        ("ab[^e-g]", "abc", true),
        ("a\\*b", "a*b", true),
        ("a\\*b", "ab", false),
        ("a?b", "a☺b", true),
        ("a[^a]b", "a☺b", true),
        ("a???b", "a☺b", false),
        ("a[^a][^a][^a]b", "a☺b", false),
        ("[a-ζ]*", "α", true),
        ("*[a-ζ]", "A", false),
        ("a?b", "a/b", false),
        ("a*b", "a/b", false),
        ("[\\]a]", "]", true),
        ("[\\-]", "-", true),
        ("[x\\-]", "x", true),
        ("[x\\-]", "-", true),
        ("[x\\-]", "z", false),
        ("[\\-x]", "a", false),
        ("*x", "xxx", true),
        // And what Go leaves to the reader.
        ("**", "a/b", false),
        ("a**b", "axxb", true),
        ("[!a]z", "!z", true),
        ("[!a]z", "bz", false),
        ("[[]x", "[x", true),
        ("*", ".hidden", true),
        // As Docker 26.1.5 has it.
        ("a[^x]b", "a/b", true),
        ("a[+-9]b", "a/b", true),
    ] {
        assert_eq!(matches(pattern, path, Stars::Shallow), expected, "{pattern} {path}");
    }
}

#[test]
fn malformed_patterns_are_refused() {
    for (pattern, expected) in [
        ("[]a]", GlobError::BadRange),
        ("[-]", GlobError::BadRange),
        ("[x-]", GlobError::BadRange),
        ("[-x]", GlobError::BadRange),
        ("[a-b-c]", GlobError::BadRange),
        ("\\", GlobError::OpenEscape),
        ("[", GlobError::OpenClass),
        ("[^", GlobError::OpenClass),
        ("[^bc", GlobError::OpenClass),
        ("a[", GlobError::OpenClass),
        ("[a\\", GlobError::OpenEscape),
    ] {
        assert_eq!(Glob::new(pattern, Stars::Deep), Err(expected), "{pattern}");
    }
}

#[test]
fn deep_patterns_cross_directories() {
    for (pattern, path, expected) in [
        ("**", "file", true),
        ("**", "dir/file", true),
        ("**/", "file", true),
        ("**/**", "dir/file", true),
        ("dir/**", "dir/file", true),
        ("dir/**", "dir/dir2/file", true),
        ("dir/**", "dir", false),
        ("**/dir", "dir", true),
        ("**/dir", "a/dir", true),
        ("**/dir", "a/b/dir", true),
        ("**/dir", "a/xdir", false),
        ("**/dir2/*", "dir/dir2/file", true),
        ("**/dir2/*", "dir/dir2/dir2/file", true),
        ("**/dir2/**", "dir/dir2/dir2/file", true),
        ("**/*.txt", "a/b.txt", true),
        ("**/*.txt", "b.txt", true),
        ("**/*.txt", "b.txt/c", false),
        ("a/**/b", "a/b", true),
        ("a/**/b", "a/x/y/b", true),
        ("a/**/b", "a/xb", false),
        ("a**b", "ab", true),
        ("a**b", "ax/b", true),
        ("a**b", "a/x/b", true),
        ("a**b", "axb", false),
        ("**file", "file", true),
        ("**file", "dir/xfile", true),
        ("a**", "a/b/c", true),
        ("a**", "abc", true),
        ("**/a/**/b*", "x/a/y/a/z/bb", true),
        ("**/a/**/b*", "x/y/b", false),
        ("**/**/x", "x", true),
        ("**/**/x", "a/x", true),
        ("**/*/x", "x", false),
        ("**/*/x", "a/x", true),
    ] {
        assert_eq!(matches(pattern, path, Stars::Deep), expected, "{pattern} {path}");
    }
}

#[test]
fn directories_that_cannot_contain_a_match_are_known() {
    for (pattern, directory, expected) in [
        ("a/b/c", "a", true),
        ("a/b/c", "a/b", true),
        ("a/b/c", "a/b/c", false),
        ("a/b/c", "x", false),
        ("a*/c", "ab", true),
        ("a*/c", "b", false),
        ("*", "a", false),
        ("**/x", "a/b", true),
        ("a/**", "a", true),
        ("a/**", "b", false),
        ("a/**/x*", "a/b/c", true),
        ("a/**/x*", "b", false),
        ("anything", "", true),
    ] {
        let glob = Glob::new(pattern, Stars::Deep).unwrap();
        assert_eq!(glob.may_match_below(Path::new(directory)), expected, "{pattern} {directory}");
    }
}

#[test]
fn bytes_that_are_no_text_count_one_by_one() {
    let path = Path::new(std::ffi::OsStr::from_bytes(b"a\xff\xfeb"));
    assert!(Glob::new("a??b", Stars::Shallow).unwrap().matches(path));
    assert!(Glob::new("a*b", Stars::Shallow).unwrap().matches(path));
    assert!(!Glob::new("a?b", Stars::Shallow).unwrap().matches(path));
}

#[test]
fn hostile_patterns_take_no_more_than_the_product_of_both_lengths() {
    let pattern = "**/*a".repeat(400) + "b";
    assert!(!matches(&pattern, &"a/".repeat(2000), Stars::Deep));
    assert!(!matches(&("*a".repeat(400) + "b"), &"a".repeat(4000), Stars::Shallow));
}

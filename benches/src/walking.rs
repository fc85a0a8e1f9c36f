//! What does a build do with a context that has not changed?
//!
//! List it under its ignore rules, find every file in the stat cache, hash the whole.

use std::fs;
use std::io;
use std::path::Path;

use rbuild_core::Digest;
use rbuild_engine::files::{ContextScan, Selector, StatCache};
use rbuild_frontend::IgnoreFile;

/// Makes `count` small files: ten to a directory, ten directories to a directory, and some that are ignored.
///
/// # Errors
/// If they cannot be written.
pub fn make(root: &Path, count: usize) -> io::Result<()> {
    for number in 0..count {
        let directory = root.join(format!("package-{}/module-{}", number / 100, number / 10 % 10));
        if number % 10 == 0 {
            fs::create_dir_all(&directory)?;
        }
        fs::write(directory.join(format!("file-{}.js", number % 10)), number.to_string())?;
    }
    fs::create_dir_all(root.join("out/ignored"))?;
    fs::write(root.join("out/ignored/file"), "not looked at")
}

/// Looks at everything. `known` is what an earlier look returned, which is nothing if it learnt nothing.
///
/// # Errors
/// If something cannot be read.
pub fn look(root: &Path, known: Vec<u8>) -> io::Result<(Digest, Option<Vec<u8>>)> {
    let ignore = IgnoreFile::parse("out\n*.log\n").map_err(|_| io::ErrorKind::InvalidInput)?;
    let scan = ContextScan::new(root, ignore, StatCache::from_bytes(known), None).map_err(io::Error::other)?;
    let all = Selector { owners: false, ..Selector::path("") };
    let digest = all.digest(&scan).map_err(io::Error::other)?;
    let mut learnt = Vec::new();
    if scan.has_news() {
        scan.save_to(&mut learnt)?;
    }
    Ok((digest, scan.has_news().then_some(learnt)))
}

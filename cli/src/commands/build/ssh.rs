//! Which agent does `--ssh` hand to a build?

use std::path::PathBuf;

use rbuild_engine::SshSource;

/// `default`, `ID=SOCKET`, `ID=KEY[,KEY…]`; with `,raw=true` a socket that need not be an agent's.
pub fn source(text: &str) -> Result<SshSource, String> {
    let (id, rest) = text.split_once('=').unwrap_or((text, ""));
    let id = if id.is_empty() { "default" } else { id };
    if id.contains(',') {
        return Err("expected ID, ID=SOCKET or ID=KEY[,KEY…]".to_owned());
    }
    let mut source = SshSource { id: id.to_owned(), paths: Vec::new(), raw: false };
    for part in rest.split(',').filter(|part| !part.is_empty()) {
        match part.strip_prefix("raw=") {
            Some("true" | "1") => source.raw = true,
            Some("false" | "0") => source.raw = false,
            Some(other) => return Err(format!("`raw` is true or false, not `{other}`")),
            None => source.paths.push(PathBuf::from(part)),
        }
    }
    Ok(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a125_agents_are_sockets_or_keys() {
        for (text, id, paths, raw) in [
            ("default", "default", &[][..], false),
            ("", "default", &[], false),
            ("default=", "default", &[], false),
            ("work=/run/agent", "work", &["/run/agent"], false),
            ("work=a.pem,b.pem", "work", &["a.pem", "b.pem"], false),
            ("db=/run/db.sock,raw=true", "db", &["/run/db.sock"], true),
            ("k=a=b", "k", &["a=b"], false),
        ] {
            let paths = paths.iter().map(PathBuf::from).collect();
            assert_eq!(source(text), Ok(SshSource { id: id.to_owned(), paths, raw }), "{text}");
        }
        for text in ["a,b", "a,b=c", "a=b,raw=maybe"] {
            assert!(source(text).is_err(), "{text}");
        }
    }
}

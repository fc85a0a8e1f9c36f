//! Through which proxies do steps reach the network?
//!
//! Docker's client tells every build, from the entry of its configuration file for the daemon it speaks to:
//!
//! ```text
//! proxies.HOST       HOST is $DOCKER_HOST, or the usual socket
//! proxies.default    where there is none
//!     httpProxy httpsProxy ftpProxy noProxy allProxy
//! ```

use serde_json::Value;

use super::{CredentialError, CredentialStore, read};

const SETTINGS: [(&str, &str); 5] = [
    ("httpProxy", "HTTP_PROXY"),
    ("httpsProxy", "HTTPS_PROXY"),
    ("ftpProxy", "FTP_PROXY"),
    ("noProxy", "NO_PROXY"),
    ("allProxy", "ALL_PROXY"),
];

/// The daemon Docker's client speaks to if it is told nothing.
const USUAL_HOST: &str = "unix:///var/run/docker.sock";

impl CredentialStore {
    /// The build arguments that Docker's client adds to every build, each in both spellings. `host` is `$DOCKER_HOST`.
    ///
    /// # Errors
    /// If the file cannot be read, or is malformed.
    pub fn proxies(&self, host: Option<&str>) -> Result<Vec<(String, String)>, CredentialError> {
        let Some(path) = &self.path else { return Ok(Vec::new()) };
        let config = read(path)?;
        let Some(all) = config.get("proxies") else { return Ok(Vec::new()) };
        let Some(own) = all.get(host.unwrap_or(USUAL_HOST)).or_else(|| all.get("default")) else {
            return Ok(Vec::new());
        };
        let value = |setting: &str| own.get(setting).and_then(Value::as_str).filter(|value| !value.is_empty());
        let set = SETTINGS.iter().filter_map(|(setting, name)| Some((*name, value(setting)?.to_owned())));
        Ok(set
            .flat_map(|(name, value)| [(name.to_owned(), value.clone()), (name.to_ascii_lowercase(), value)])
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a074_proxies_are_those_of_the_daemon_or_the_default() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        let store = CredentialStore::at(&path);
        let proxies = |host: Option<&str>| {
            let found = store.proxies(host).unwrap();
            found.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(proxies(None), "");
        std::fs::write(&path, r#"{"auths": {}}"#).unwrap();
        assert_eq!(proxies(None), "");
        std::fs::write(
            &path,
            r#"{"proxies": {
                "default": {"httpProxy": "http://p:1", "noProxy": "local", "ftpProxy": "", "other": "x"},
                "tcp://far:2376": {"allProxy": "socks://q"}
            }}"#,
        )
        .unwrap();
        let default = "HTTP_PROXY=http://p:1 http_proxy=http://p:1 NO_PROXY=local no_proxy=local";
        for (host, expected) in [
            (None, default),
            (Some("tcp://near:2376"), default),
            (Some("tcp://far:2376"), "ALL_PROXY=socks://q all_proxy=socks://q"),
        ] {
            assert_eq!(proxies(host), expected, "{host:?}");
        }
        for odd in
            [r#"{"proxies": 1}"#, r#"{"proxies": {"default": []}}"#, r#"{"proxies": {"default": {"httpProxy": 1}}}"#]
        {
            std::fs::write(&path, odd).unwrap();
            assert_eq!(proxies(None), "", "{odd}");
        }
    }
}

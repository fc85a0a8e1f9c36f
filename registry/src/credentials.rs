//! Who are we to a registry?
//!
//! Docker's configuration file, `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`:
//!
//! ```text
//! credHelpers.HOST   a program `docker-credential-NAME` that keeps the secret of one registry
//! credsStore         one that keeps the others
//! auths.HOST         auth (base64 of user:password), or username and password; identitytoken; registrytoken
//! ```
//!
//! [`proxies`] reads what else of the file matters here.
//!
//! Docker Hub's key is `https://index.docker.io/v1/`. Other keys may be written as addresses, too. The file is read
//! when it is asked, so that a login during a long build is seen. Writing keeps whatever else the file says, gives it
//! mode 0600 and replaces it in one step.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose};
use serde_json::{Map, Value};

mod helper;
mod proxies;

const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// A secret for one registry.
#[derive(Clone, Eq, PartialEq)]
pub enum Credential {
    /// User name and password.
    Password {
        /// The user's name.
        username: String,
        /// The password or access token.
        password: String,
    },
    /// A refresh token for the registry's token service.
    Identity(String),
    /// A bearer token for the registry itself.
    Registry(String),
}

impl std::fmt::Debug for Credential {
    /// Never shows the secret.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password { username, .. } => {
                formatter.debug_struct("Password").field("username", username).finish_non_exhaustive()
            }
            Self::Identity(_) => formatter.write_str("Identity(..)"),
            Self::Registry(_) => formatter.write_str("Registry(..)"),
        }
    }
}

/// Why credentials cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file cannot be read.
    #[error("cannot read `{}`", .path.display())]
    Read {
        /// The configuration file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no JSON object.
    #[error("`{}` is not a Docker configuration", .path.display())]
    Json {
        /// The configuration file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// An entry of `auths` makes no sense.
    #[error("`{}` has a malformed `auths` entry for `{key}`", .path.display())]
    Entry {
        /// The configuration file.
        path: PathBuf,
        /// The entry.
        key: String,
    },
    /// The file cannot be written.
    #[error("cannot write `{}`", .path.display())]
    Write {
        /// The configuration file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no home directory and no `DOCKER_CONFIG`.
    #[error("there is no place for credentials: neither `DOCKER_CONFIG` nor `HOME` is set")]
    NoPlace,
    /// A credential helper cannot be started.
    #[error("cannot run `{program}`")]
    HelperStart {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A credential helper failed.
    #[error("`{program} {action}` failed: {said}")]
    Helper {
        /// The program.
        program: String,
        /// What it was to do.
        action: &'static str,
        /// Its own words.
        said: String,
    },
}

/// The user's Docker configuration, as far as it is about credentials.
#[derive(Clone, Debug, Default)]
pub struct CredentialStore {
    path: Option<PathBuf>,
}

impl CredentialStore {
    /// The file of the environment's user.
    pub fn from_environment() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let directory = variable("DOCKER_CONFIG").or_else(|| Some(variable("HOME")?.join(".docker")));
        Self { path: directory.map(|directory| directory.join("config.json")) }
    }

    /// A particular file; it need not exist.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()) }
    }

    /// No credentials at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// What we are to `registry` (as it stands in image names), if anything.
    ///
    /// # Errors
    /// If the file is malformed or a helper fails for another reason than knowing nothing.
    pub async fn find(&self, registry: &str) -> Result<Option<Credential>, CredentialError> {
        let Some(path) = &self.path else { return Ok(None) };
        let config = read(path)?;
        if let Some(program) = helper_for(&config, registry)
            && let Some(credential) = helper::get(&program, key_for(registry)).await?
        {
            return Ok(Some(credential));
        }
        let Some(auths) = config.get("auths").and_then(Value::as_object) else { return Ok(None) };
        let exact = auths.get_key_value(key_for(registry));
        let Some((key, entry)) = exact.or_else(|| auths.iter().find(|(key, _)| is_for(key, registry))) else {
            return Ok(None);
        };
        parse_entry(entry).ok_or_else(|| CredentialError::Entry { path: path.clone(), key: key.clone() })
    }

    /// Remembers `credential` for `registry`, in the helper that the file names for it or else in the file itself.
    ///
    /// # Errors
    /// If the file is malformed or cannot be replaced, or the helper fails.
    pub async fn store(&self, registry: &str, credential: &Credential) -> Result<(), CredentialError> {
        let path = self.path.as_ref().ok_or(CredentialError::NoPlace)?;
        let mut config = read(path)?;
        let key = key_for(registry);
        let entry = match helper_for(&config, registry) {
            Some(program) => {
                helper::store(&program, key, credential).await?;
                // Docker leaves an empty entry, so that `logout` can list it.
                Map::new()
            }
            None => write_entry(credential),
        };
        object(&mut config, "auths").insert(key.to_owned(), Value::Object(entry));
        write(path, &config)
    }

    /// Forgets what is known about `registry`. Returns whether there was anything in the file.
    ///
    /// # Errors
    /// If the file is malformed or cannot be replaced, or the helper fails.
    pub async fn erase(&self, registry: &str) -> Result<bool, CredentialError> {
        let Some(path) = &self.path else { return Ok(false) };
        let mut config = read(path)?;
        if let Some(program) = helper_for(&config, registry) {
            helper::erase(&program, key_for(registry)).await?;
        }
        let Some(auths) = config.get_mut("auths").and_then(Value::as_object_mut) else { return Ok(false) };
        let before = auths.len();
        auths.retain(|key, _| key != key_for(registry) && !is_for(key, registry));
        let found = auths.len() < before;
        if found {
            write(path, &config)?;
        }
        Ok(found)
    }
}

/// The key under which Docker keeps a registry's entry.
fn key_for(registry: &str) -> &str {
    if registry == DOCKER_HUB { DOCKER_HUB_KEY } else { registry }
}

/// Whether a key that is not the canonical one means `registry`: `https://ghcr.io/v2/` does mean `ghcr.io`.
fn is_for(key: &str, registry: &str) -> bool {
    let host = key.strip_prefix("https://").or(key.strip_prefix("http://")).unwrap_or(key);
    let host = host.split('/').next().unwrap_or_default();
    host == registry || (registry == DOCKER_HUB && matches!(host, "index.docker.io" | "registry-1.docker.io"))
}

fn helper_for(config: &Map<String, Value>, registry: &str) -> Option<String> {
    let own = config.get("credHelpers").and_then(Value::as_object).and_then(|helpers| {
        let entry = helpers.get(registry).or_else(|| helpers.get(key_for(registry)));
        entry.or_else(|| helpers.iter().find(|(key, _)| is_for(key, registry)).map(|(_, name)| name))
    });
    let name = own.or(config.get("credsStore"))?.as_str().filter(|name| !name.is_empty())?;
    Some(format!("docker-credential-{name}"))
}

/// `None` if the entry is malformed, `Some(None)` if it says nothing.
fn parse_entry(entry: &Value) -> Option<Option<Credential>> {
    let entry = entry.as_object()?;
    let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("registrytoken") {
        return Some(Some(Credential::Registry(token.to_owned())));
    }
    if let Some(token) = text("identitytoken") {
        return Some(Some(Credential::Identity(token.to_owned())));
    }
    if let Some(auth) = text("auth") {
        // Docker itself writes padding, people with `base64` and an editor often do not.
        let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, lenient);
        let decoded = String::from_utf8(engine.decode(auth.trim()).ok()?).ok()?;
        let (username, password) = decoded.split_once(':')?;
        let password = password.trim_matches('\0');
        return Some(Some(Credential::Password { username: username.to_owned(), password: password.to_owned() }));
    }
    Some(text("username").map(|username| Credential::Password {
        username: username.to_owned(),
        password: text("password").unwrap_or_default().to_owned(),
    }))
}

fn write_entry(credential: &Credential) -> Map<String, Value> {
    let (name, value) = match credential {
        Credential::Password { username, password } => {
            ("auth", general_purpose::STANDARD.encode(format!("{username}:{password}")))
        }
        Credential::Identity(token) => ("identitytoken", token.clone()),
        Credential::Registry(token) => ("registrytoken", token.clone()),
    };
    Map::from_iter([(name.to_owned(), Value::String(value))])
}

fn read(path: &Path) -> Result<Map<String, Value>, CredentialError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(source) => return Err(CredentialError::Read { path: path.to_owned(), source }),
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    serde_json::from_slice(&bytes).map_err(|source| CredentialError::Json { path: path.to_owned(), source })
}

/// The object at `key`, made if it is missing or something else.
fn object<'a>(config: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let slot = config.entry(key).or_insert(Value::Null);
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut().expect("it was just made one")
}

fn write(path: &Path, config: &Map<String, Value>) -> Result<(), CredentialError> {
    let failed = |source| CredentialError::Write { path: path.to_owned(), source };
    // A link to a file kept elsewhere stays a link.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).map_err(failed)?;
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(config, &mut serializer).expect("a JSON object is written to memory");
    let aside = directory.join(format!(".config.json.{}", std::process::id()));
    let written = (|| {
        // A leftover of a process that died with our number is ours to replace.
        match std::fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&aside, &path)
    })();
    written.map_err(|error| {
        drop(std::fs::remove_file(&aside));
        failed(error)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn password(username: &str, password: &str) -> Credential {
        Credential::Password { username: username.into(), password: password.into() }
    }

    async fn find(config: &str, registry: &str) -> Option<Credential> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, config).unwrap();
        CredentialStore::at(path).find(registry).await.unwrap()
    }

    #[tokio::test]
    async fn every_form_of_entry_is_found() {
        let user = Some(password("u", "p:w"));
        for (entry, registry, expected) in [
            (r#""ghcr.io":{"auth":"dTpwOnc="}"#, "ghcr.io", user.clone()),
            (r#""ghcr.io":{"auth":"dTpwOnc"}"#, "ghcr.io", user.clone()),
            (r#""https://ghcr.io/v2/":{"auth":"dTpwOnc="}"#, "ghcr.io", user.clone()),
            (r#""ghcr.io":{"username":"u","password":"p:w"}"#, "ghcr.io", user.clone()),
            (r#""https://index.docker.io/v1/":{"auth":"dTpwOnc="}"#, "docker.io", user.clone()),
            (r#""docker.io":{"auth":"dTpwOnc="}"#, "docker.io", user.clone()),
            (r#""localhost:5000":{"auth":"dTpwOnc="}"#, "localhost:5000", user.clone()),
            (r#""localhost:5000":{"auth":"dTpwOnc="}"#, "localhost:5001", None),
            (r#""ghcr.io":{"auth":"dTpwOnc="}"#, "evil-ghcr.io", None),
            (r#""ghcr.io":{"auth":"eDp5","identitytoken":"t"}"#, "ghcr.io", Some(Credential::Identity("t".into()))),
            (r#""ghcr.io":{"registrytoken":"t"}"#, "ghcr.io", Some(Credential::Registry("t".into()))),
            (r#""ghcr.io":{}"#, "ghcr.io", None),
        ] {
            let config = format!(r#"{{"auths":{{{entry}}}}}"#);
            assert_eq!(find(&config, registry).await, expected, "{config}");
        }
        assert_eq!(find("", "ghcr.io").await, None);
        assert_eq!(find("{}", "ghcr.io").await, None);
        assert_eq!(CredentialStore::at("/nonexistent/config.json").find("a.b").await.unwrap(), None);
    }

    #[tokio::test]
    async fn malformed_files_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        for (config, expected) in [
            ("[]", "is not a Docker configuration"),
            (r#"{"auths":{"a.b":{"auth":"no-colon"}}}"#, "has a malformed `auths` entry for `a.b`"),
            (r#"{"auths":{"a.b":7}}"#, "has a malformed `auths` entry for `a.b`"),
        ] {
            std::fs::write(&path, config).unwrap();
            let error = CredentialStore::at(&path).find("a.b").await.unwrap_err();
            assert!(error.to_string().ends_with(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn login_and_logout_keep_the_rest_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sub/config.json");
        let store = CredentialStore::at(&path);
        store.store("a.b", &password("u", "p")).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let rest = r#"{"proxies":{"x":1},"auths":{"c.d":{"auth":"eDp5"}},"last":[true]}"#;
        std::fs::write(&path, rest).unwrap();
        store.store("docker.io", &password("u", "p")).await.unwrap();
        assert_eq!(store.find("docker.io").await.unwrap(), Some(password("u", "p")));
        assert!(store.erase("docker.io").await.unwrap());
        assert!(!store.erase("docker.io").await.unwrap());
        let after: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(after, serde_json::from_str::<Value>(rest).unwrap());
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn secrets_are_not_shown() {
        assert!(!format!("{:?}", password("user", "hunter2")).contains("hunter2"));
    }
}

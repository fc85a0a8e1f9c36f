//! What does a caller hold?

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rbuild_image::Reference;
use reqwest::Method;
use tokio::sync::OnceCell;

use crate::answer::check;
use crate::auth::{Auth, Scopes};
use crate::config::Config;
use crate::credentials::Credential;
use crate::error::{Error, Result, Subject};
use crate::host::{Ask, Host};

/// A client for any number of registries. Cloning is cheap and shares connections and tokens.
#[derive(Clone, Debug)]
pub struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: Config,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    outside: Arc<OnceCell<reqwest::Client>>,
}

/// A host that may have what is asked for, and what the repository is called there.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) host: Arc<Host>,
    pub(crate) repository: String,
    /// For mirrors: whose images are meant, as containerd tells them.
    namespace: Option<String>,
}

impl Origin {
    /// The path of something in the repository, such as `manifests/latest`.
    pub(crate) fn path(&self, rest: &str) -> String {
        let query = self.namespace.as_ref().map(|name| format!("?ns={name}")).unwrap_or_default();
        format!("v2/{}/{rest}{query}", self.repository)
    }
}

impl Client {
    /// A client that has not contacted anybody yet.
    pub fn new(config: Config) -> Self {
        Self(Arc::new(Shared { config, hosts: Mutex::default(), outside: Arc::default() }))
    }

    /// What it was made with.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Asks `registry` (as it stands in image names) whether it speaks the distribution API and knows us.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] if it does not let us in.
    pub async fn ping(&self, registry: &str) -> Result<()> {
        let subject = Subject::host("contact", registry);
        let ask = Ask::new(Method::GET, "v2/".to_owned());
        let response = self.host(registry).ask(&subject, &Scopes::default(), &ask).await?;
        check(&subject, response).await.map(drop)
    }

    /// Asks `registry` whether it accepts `credential`, whatever is stored for it. Nothing is remembered: that is for
    /// [`crate::CredentialStore::store`].
    ///
    /// # Errors
    /// [`Error::Unauthorized`] if it does not.
    pub async fn check_login(&self, registry: &str, credential: &Credential) -> Result<()> {
        let subject = Subject::host("log in to", registry);
        let ask = Ask::new(Method::GET, "v2/".to_owned());
        let auth = tokio::sync::Mutex::new(Some(Auth::new(Some(credential.clone()))));
        let response = self.host(registry).ask_as(&subject, &Scopes::default(), &ask, &auth).await?;
        check(&subject, response).await.map(drop)
    }

    pub(crate) fn host(&self, registry: &str) -> Arc<Host> {
        let mut hosts = self.0.hosts.lock().expect("nothing panics while it holds this lock");
        let new = || Arc::new(Host::new(registry, &self.0.config, self.0.outside.clone()));
        hosts.entry(registry.to_owned()).or_insert_with(new).clone()
    }

    /// The registry itself.
    pub(crate) fn origin(&self, name: &Reference) -> Origin {
        Origin { host: self.host(name.registry()), repository: name.repository().to_owned(), namespace: None }
    }

    /// Where to read from, in order: the mirrors, then the registry itself.
    pub(crate) fn origins(&self, name: &Reference) -> Vec<Origin> {
        let mirrors = self.0.config.hosts.get(name.registry()).map(|host| host.mirrors.as_slice()).unwrap_or_default();
        let mirrored = mirrors.iter().map(|mirror| Origin {
            host: self.host(&mirror.host),
            repository: match mirror.prefix.trim_matches('/') {
                "" => name.repository().to_owned(),
                prefix => format!("{prefix}/{}", name.repository()),
            },
            namespace: Some(name.registry().to_owned()),
        });
        mirrored.chain([self.origin(name)]).collect()
    }

    /// Asks each origin in turn; the last one's failure counts.
    pub(crate) async fn first_of<T, F: Future<Output = Result<T>>>(
        &self,
        name: &Reference,
        attempt: impl Fn(Origin) -> F,
    ) -> Result<T> {
        let mut origins = self.origins(name).into_iter();
        let mut failure: Option<Error> = None;
        for origin in origins.by_ref() {
            match attempt(origin).await {
                Ok(found) => return Ok(found),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.expect("the registry itself is always an origin"))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use rbuild_image::Descriptor;

    use super::*;

    /// The engine spawns these on a runtime with threads.
    #[test]
    fn futures_can_move_between_threads() {
        fn sendable<T: Send>(_: &T) {}
        let client = Client::new(Config::default());
        let name: Reference = "localhost:1/a".parse().unwrap();
        let descriptor = Descriptor::of("a/b", b"");
        sendable(&client.resolve(&name, &"linux/amd64".parse().unwrap()));
        sendable(&client.manifest(&name, &descriptor));
        sendable(&client.blob(&name, &descriptor, 0));
        sendable(&client.push_blob(&name, &descriptor, stream::empty));
        sendable(&client.mount_blob(&name, &name, &descriptor));
        sendable(&client.push_manifest(&name, &descriptor, Default::default()));
        sendable(&client.ping("localhost:1"));
    }
}

//! Who are we to a registry?

use rbuild_registry::Credential;

use crate::engine::Engine;
use crate::error::Error;

impl Engine {
    /// Checks a user name and password with a registry (`docker.io` if empty) and remembers them where Docker does.
    ///
    /// # Errors
    /// If the registry refuses them or cannot be reached, or they cannot be written.
    pub async fn login(&self, registry: &str, user: &str, password: &str) -> Result<(), Error> {
        let registry = registry_name(registry);
        let credential = Credential::Password { username: user.to_owned(), password: password.to_owned() };
        let client = self.registry();
        client.check_login(registry, &credential).await?;
        Ok(client.config().credentials.store(registry, &credential).await?)
    }

    /// Forgets what [`Engine::login`] remembered; tells whether there was anything.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub async fn logout(&self, registry: &str) -> Result<bool, Error> {
        Ok(self.registry().config().credentials.erase(registry_name(registry)).await?)
    }
}

fn registry_name(text: &str) -> &str {
    let host = text.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    if host.is_empty() { rbuild_image::reference::DEFAULT_REGISTRY } else { host }
}

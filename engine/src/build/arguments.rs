//! Which build arguments does a build have?
//!
//! Those of the command line, with values of the environment where they have none of their own, and the proxies that
//! Docker's configuration file gives to every build.

use std::collections::BTreeMap;

use rbuild_frontend::Overrides;
use rbuild_registry::CredentialStore;

use crate::error::Error;
use crate::request::BuildRequest;

/// Names, and values as far as there are some.
pub(super) type Arguments = BTreeMap<String, Option<String>>;

pub(super) fn arguments(request: &BuildRequest) -> Result<Arguments, Error> {
    let environment = |name: &str| std::env::var(name).ok();
    let given = request.build_args.iter();
    let mut arguments: Arguments =
        given.map(|(name, value)| (name.clone(), value.clone().or_else(|| environment(name)))).collect();
    let host = environment("DOCKER_HOST").filter(|host| !host.is_empty());
    for (name, value) in CredentialStore::from_environment().proxies(host.as_deref())? {
        arguments.entry(name).or_insert(Some(value));
    }
    Ok(arguments)
}

/// What the arguments put in the place of directives of the file.
pub(super) fn overrides(arguments: &Arguments) -> Overrides {
    let value = |name: &str| arguments.get(name).cloned().flatten().filter(|value| !value.is_empty());
    Overrides { syntax: value("BUILDKIT_SYNTAX"), check: value("BUILDKIT_DOCKERFILE_CHECK") }
}

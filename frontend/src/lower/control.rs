//! Which build arguments speak to the builder, and not to the Dockerfile?
//!
//! | argument | who listens |
//! |---|---|
//! | `BUILDKIT_BUILD_NAME` | the caller, for progress |
//! | `BUILDKIT_CACHE_MOUNT_NS` | `RUN --mount=type=cache`: stands before its `id` |
//! | `BUILDKIT_CONTEXT_KEEP_GIT_DIR` | the caller, for contexts that are git repositories |
//! | `BUILDKIT_DOCKERFILE_CHECK`, `BUILDKIT_SYNTAX` | the caller, for [`Overrides`](crate::Overrides) |
//! | `BUILDKIT_INLINE_CACHE`, `BUILDKIT_MULTI_PLATFORM` | nobody yet: a warning says so |
//! | `BUILDKIT_SANDBOX_HOSTNAME` | `RUN` |
//! | `BUILDKIT_SBOM_SCAN_CONTEXT`, `BUILDKIT_SBOM_SCAN_STAGE` | a scanner, which nobody can ask for yet; never `RUN` |

use super::globals::build_arg;
use super::notes::Notes;
use super::options::LowerOptions;
use crate::rule::Rule;
use crate::{Diagnostic, Span};

/// All of them, sorted.
pub(super) const CONTROLS: [&str; 10] = [
    "BUILDKIT_BUILD_NAME",
    "BUILDKIT_CACHE_MOUNT_NS",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_DOCKERFILE_CHECK",
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_MULTI_PLATFORM",
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_SBOM_SCAN_CONTEXT",
    "BUILDKIT_SBOM_SCAN_STAGE",
    "BUILDKIT_SYNTAX",
];

const UNSUPPORTED: [(&str, &str); 2] = [
    ("BUILDKIT_INLINE_CACHE", "no cache is written into the image"),
    ("BUILDKIT_MULTI_PLATFORM", "the image is for one platform, without an index above it"),
];

const HOSTNAME: &str = "buildkitsandbox";

/// The host name of every `RUN`.
pub(super) fn hostname(options: &LowerOptions) -> String {
    build_arg(options, "BUILDKIT_SANDBOX_HOSTNAME").map_or_else(|| HOSTNAME.to_owned(), Into::into)
}

/// What keeps the cache mounts of this build apart from those of others.
pub(super) fn cache_namespace(options: &LowerOptions) -> Option<String> {
    build_arg(options, "BUILDKIT_CACHE_MOUNT_NS").map(Into::into)
}

/// Warns of what was asked for in vain.
pub(super) fn unsupported(options: &LowerOptions, notes: &mut Notes<'_>) {
    for (name, instead) in UNSUPPORTED {
        // What Go calls true; anything else asks for nothing.
        let on = |value: &str| matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True");
        if build_arg(options, name).is_some_and(|value| on(&value)) {
            let message = format!("build argument `{name}` is not supported: {instead}");
            notes.warn(Diagnostic::warning(Rule::UnsupportedBuildArg, Span::default(), message));
        }
    }
}

//! What may a `RUN` do, and may the build give it that?
//!
//! Whoever builds a Dockerfile need not have read it, so what reaches out of the sandbox is given by the command line
//! only. A build for the host's network says by itself that its steps may have it.

use rbuild_solver::graph::{NetworkMode, SecurityMode};

use super::Lowering;
use crate::Diagnostic;
use crate::ast::{Network, Run, Security};

impl Lowering<'_> {
    /// The network of a step: its own, or else the build's.
    pub(super) fn network(&self, run: &Run) -> Result<NetworkMode, Diagnostic> {
        let Some(network) = run.network else { return Ok(self.options.network) };
        match network.value {
            Network::Default => Ok(self.options.network),
            Network::None => Ok(NetworkMode::None),
            Network::Host if self.options.entitlements.network_host => Ok(NetworkMode::Host),
            Network::Host => Err(Diagnostic::error(network.span, "`RUN --network=host` is not allowed for this build")
                .hint("`--allow network.host` on the command line allows it")),
        }
    }

    pub(super) fn security(&self, run: &Run) -> Result<SecurityMode, Diagnostic> {
        let Some(security) = run.security else { return Ok(SecurityMode::default()) };
        match security.value {
            Security::Sandbox => Ok(SecurityMode::Sandbox),
            Security::Insecure if self.options.entitlements.security_insecure => Ok(SecurityMode::Insecure),
            Security::Insecure => {
                Err(Diagnostic::error(security.span, "`RUN --security=insecure` is not allowed for this build")
                    .hint("`--allow security.insecure` on the command line allows it"))
            }
        }
    }
}

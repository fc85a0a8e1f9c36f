//! What does `--allow` let the steps of a build do?

use rbuild_engine::Entitlement;

/// `network.host`, `security.insecure`, `device` or `device=NAME`.
pub fn entitlement(text: &str) -> Result<Entitlement, String> {
    match text.split_once('=') {
        None if text == "network.host" => Ok(Entitlement::NetworkHost),
        None if text == "security.insecure" => Ok(Entitlement::SecurityInsecure),
        None if text == "device" => Ok(Entitlement::Device(None)),
        // An alias behind a comma would give another device than the Dockerfile names.
        Some(("device", name)) if !name.contains(',') && !name.is_empty() => {
            Ok(Entitlement::Device(Some(name.to_owned())))
        }
        _ => Err("expected network.host, security.insecure, device or device=NAME".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a104_a105_a106_entitlements_have_names() {
        for (text, expected) in [
            ("network.host", Some(Entitlement::NetworkHost)),
            ("security.insecure", Some(Entitlement::SecurityInsecure)),
            ("device", Some(Entitlement::Device(None))),
            ("device=v.com/gpu=0", Some(Entitlement::Device(Some("v.com/gpu=0".to_owned())))),
            ("device=", None),
            ("device=a,alias=b", None),
            ("network", None),
            ("network.host=true", None),
            ("", None),
        ] {
            assert_eq!(entitlement(text).ok(), expected, "{text}");
        }
    }
}

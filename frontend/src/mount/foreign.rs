//! Which options of a mount have other builders that Docker's have not?
//!
//! They are refused by name: most of them ask for what is so anyway, and the rest for what the command can do itself.

use super::Field;
use crate::diagnostic::Diagnostic;

const STRICT: &str =
    "leave it out: no device on a mount can be opened anyway, and what may be executed is the image's own";
const LABELS: &str = "leave it out: rbuild gives files no SELinux labels";
const PROPAGATION: &str = "leave it out: mounts of a step are private to it, with nothing mounted below them";

/// Buildah's own options, and what to write instead.
const BUILDAH: [(&str, &str); 13] = [
    ("nosuid", STRICT),
    ("nodev", STRICT),
    ("noexec", STRICT),
    ("u", "`uid=` and `gid=` say who owns a new cache; files of other mounts keep their owners"),
    ("chown", "`uid=` and `gid=` say who owns a new cache; files of other mounts keep their owners"),
    ("z", LABELS),
    ("relabel", LABELS),
    ("bind-propagation", PROPAGATION),
    ("bind-nonrecursive", PROPAGATION),
    ("tmpcopyup", "mount the directory elsewhere, and copy the files in the command"),
    ("notmpcopyup", "leave it out: a tmpfs is empty in the beginning"),
    ("tmpfs-mode", "leave it out: a tmpfs has mode 1777, which the command can change"),
    ("tmpfs-size", "write `size=`"),
];

/// The error for an option that only buildah has.
pub(super) fn refused(field: &Field) -> Option<Diagnostic> {
    let key = field.key();
    let (_, hint) = BUILDAH.iter().find(|(name, _)| *name == key)?;
    let message = format!("option `{}` of `--mount` is buildah's, and not supported", field.name);
    Some(Diagnostic::error(field.span, message).hint(*hint))
}

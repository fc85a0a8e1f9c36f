//! Which lint rules are there, and which of them does a file want?
//!
//! Names are those of BuildKit's linter, so that `# check=` lines, documentation and habits carry over; rules that only
//! rbuild has follow at the end.

use std::fmt;
use std::str::FromStr;

macro_rules! rules {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// A lint: something that builds, but should be looked at.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Rule { $($(#[doc = $doc])+ $name,)+ }

        impl Rule {
            /// Every rule, in the order of this file.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The name users write in `# check=skip=…`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// What the rule looks for, as one sentence.
            pub const fn summary(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

rules! {
    /// Stage names should be lower case.
    StageNameCasing,
    /// `AS` should be cased like its `FROM`.
    FromAsCasing,
    /// An empty line inside a continued instruction.
    NoEmptyContinuation,
    /// Instructions of one file should be cased alike.
    ConsistentInstructionCasing,
    /// Two stages of one name.
    DuplicateStageName,
    /// A stage named `scratch` or `context`.
    ReservedStageName,
    /// `CMD` or `ENTRYPOINT` in shell form, which does not pass signals on.
    JSONArgsRecommended,
    /// `MAINTAINER` instead of a label.
    MaintainerDeprecated,
    /// `FROM` uses a variable no global `ARG` declares.
    UndefinedArgInFrom,
    /// A relative `WORKDIR` before any absolute one.
    WorkdirRelativePath,
    /// A variable nothing defines.
    UndefinedVar,
    /// Several `CMD`, `ENTRYPOINT` or `HEALTHCHECK` in a stage: only the last counts.
    MultipleInstructionsDisallowed,
    /// `ENV name value` instead of `ENV name=value`.
    LegacyKeyValueFormat,
    /// The base image is for another platform than the one asked for.
    InvalidBaseImagePlatform,
    /// `--platform=$TARGETPLATFORM` says what is so anyway.
    RedundantTargetPlatform,
    /// A secret in `ARG` or `ENV`, where everyone who has the image can read it.
    SecretsUsedInArgOrEnv,
    /// The default of a global `ARG` makes no image name.
    InvalidDefaultArgInFrom,
    /// `FROM --platform` with a constant.
    FromPlatformFlagConstDisallowed,
    /// `COPY` or `ADD` of a file the ignore file leaves out.
    CopyIgnoredFile,
    /// The comment above a `FROM` or `ARG` does not describe it.
    InvalidDefinitionDescription,
    /// An upper case protocol in `EXPOSE`.
    ExposeProtoCasing,
    /// An address or host port in `EXPOSE`.
    ExposeInvalidFormat,
    /// An argument that looks like a JSON array, is not, and so is read as plain text.
    InvalidJsonForm,
    /// A here-document with carriage returns, which end up in the file or the script.
    CarriageReturnInHeredoc,
    /// A `# comment` behind arguments, which is part of them.
    TrailingComment,
    /// A space that is no blank, such as U+3000, within a word.
    AmbiguousSpace,
    /// An instruction that continues the one above, whose last line ends with an escape character.
    SwallowedInstruction,
    /// A command that ends with `&&`, `||` or `|`.
    UnfinishedCommand,
    /// A `# check=` line names no rule.
    UnknownCheckRule,
    /// A build argument no `ARG` declares.
    UnusedBuildArg,
    /// A `BUILDKIT_…` build argument asks for something rbuild does not do.
    UnsupportedBuildArg,
    /// `ARG` after an `ENV` of the same name: `RUN` sees the argument, the image keeps the variable.
    ArgOverridesEnv,
    /// Bytes that are no UTF-8.
    InvalidUtf8,
    /// A NUL byte, which no command line and no variable can hold.
    NulByte,
}

/// What rules need to know before they can be sure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// Nothing: they are about the text.
    File,
    /// Whether the stage is built at all; they are about what its instructions do.
    Stage,
}

impl Rule {
    /// Whether BuildKit has the rule too, and so documents it.
    pub const fn is_of_buildkit(self) -> bool {
        !matches!(
            self,
            Self::InvalidJsonForm
                | Self::CarriageReturnInHeredoc
                | Self::TrailingComment
                | Self::AmbiguousSpace
                | Self::SwallowedInstruction
                | Self::UnfinishedCommand
                | Self::UnknownCheckRule
                | Self::UnusedBuildArg
                | Self::UnsupportedBuildArg
                | Self::ArgOverridesEnv
                | Self::InvalidUtf8
                | Self::NulByte
        )
    }

    /// Docker's page about the rule.
    pub fn url(self) -> Option<String> {
        // The one rule of BuildKit that has no page.
        (self.is_of_buildkit() && self != Self::InvalidBaseImagePlatform)
            .then(|| format!("https://docs.docker.com/go/dockerfile/rule/{}/", self.slug()))
    }

    /// The name as addresses have it: `json-args-recommended`.
    pub fn slug(self) -> String {
        let letters: Vec<char> = self.name().chars().collect();
        let mut slug = String::new();
        for (at, letter) in letters.iter().enumerate() {
            let after_lower = at > 0 && !letters[at - 1].is_ascii_uppercase();
            let before_lower = letters.get(at + 1).is_some_and(char::is_ascii_lowercase);
            if at > 0 && letter.is_ascii_uppercase() && (after_lower || before_lower) {
                slug.push('-');
            }
            slug.push(letter.to_ascii_lowercase());
        }
        slug
    }

    /// What its findings depend on. As in BuildKit, a build hears of what instructions do only for stages it needs.
    pub const fn reach(self) -> Reach {
        match self {
            Self::JSONArgsRecommended
            | Self::WorkdirRelativePath
            | Self::UndefinedVar
            | Self::MultipleInstructionsDisallowed
            | Self::LegacyKeyValueFormat
            | Self::InvalidBaseImagePlatform
            | Self::SecretsUsedInArgOrEnv
            | Self::CopyIgnoredFile
            | Self::ExposeProtoCasing
            | Self::ExposeInvalidFormat
            | Self::ArgOverridesEnv => Reach::Stage,
            _ => Reach::File,
        }
    }

    /// Whether the rule runs only when `# check=experimental=…` asks for it.
    pub const fn is_experimental(self) -> bool {
        matches!(self, Self::InvalidDefinitionDescription)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Why a text is not a [`Rule`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a lint rule")]
pub struct RuleError(String);

impl FromStr for Rule {
    type Err = RuleError;

    /// Takes any casing, as BuildKit does.
    fn from_str(text: &str) -> Result<Self, RuleError> {
        Self::ALL
            .iter()
            .copied()
            .find(|rule| rule.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| RuleError(text.to_owned()))
    }
}

/// Some rules or all of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum RuleSet {
    /// No rule.
    #[default]
    None,
    /// The listed rules.
    Some(Vec<Rule>),
    /// Every rule.
    All,
}

impl RuleSet {
    /// Whether the set has the rule.
    pub fn contains(&self, rule: Rule) -> bool {
        match self {
            Self::None => false,
            Self::Some(rules) => rules.contains(&rule),
            Self::All => true,
        }
    }
}

/// What a `# check=` line asks for; the default runs every rule that is not experimental.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CheckOptions {
    /// Rules to leave out.
    pub skip: RuleSet,
    /// Whether a warning fails the build.
    pub error: bool,
    /// Experimental rules to run.
    pub experimental: RuleSet,
}

impl CheckOptions {
    /// Whether these options leave a rule alone that others want.
    pub(crate) fn wants_besides(&self, rule: Rule) -> bool {
        !self.skip.contains(rule) || rule.is_experimental() && self.skip == RuleSet::All
    }

    /// Whether findings of the rule are wanted. `skip=all` is not about experimental rules, which were asked for.
    pub fn wants(&self, rule: Rule) -> bool {
        self.wants_besides(rule) && (!rule.is_experimental() || self.experimental.contains(rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a226_rules_have_the_addresses_of_their_pages() {
        let slugs = [
            (Rule::JSONArgsRecommended, "json-args-recommended"),
            (Rule::StageNameCasing, "stage-name-casing"),
            (Rule::SecretsUsedInArgOrEnv, "secrets-used-in-arg-or-env"),
            (Rule::FromPlatformFlagConstDisallowed, "from-platform-flag-const-disallowed"),
            (Rule::InvalidUtf8, "invalid-utf8"),
        ];
        for (rule, slug) in slugs {
            assert_eq!(rule.slug(), slug);
        }
        assert_eq!(Rule::NulByte.url(), None);
        assert_eq!(Rule::ALL.iter().filter(|rule| rule.is_of_buildkit()).count(), 22);
    }

    #[test]
    fn a223_skipping_everything_leaves_experimental_rules() {
        let rule = Rule::InvalidDefinitionDescription;
        let options = |skip, experimental| CheckOptions { skip, experimental, error: false };
        assert!(options(RuleSet::All, RuleSet::All).wants(rule));
        assert!(!options(RuleSet::Some(vec![rule]), RuleSet::All).wants(rule));
        assert!(!options(RuleSet::None, RuleSet::None).wants(rule));
    }
}

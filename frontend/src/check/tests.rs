use crate::{Source, check, parse};

/// Names of the rules that fire, in order.
fn rules(text: &str) -> Vec<&'static str> {
    let file = parse(&Source::new("Dockerfile", text)).unwrap();
    check(&file).iter().map(|found| found.rule.unwrap().name()).collect()
}

macro_rules! rules {
    ($($name:ident: $text:literal => [$($rule:ident),*];)+) => {
        $(#[test]
        fn $name() {
            let expected: &[&str] = &[$(stringify!($rule)),*];
            assert_eq!(rules($text), expected, "{}", $text);
        })+
    };
}

rules! {
    a_clean_file_is_clean: "ARG V=1\nFROM a:$V AS b\nWORKDIR /x\nWORKDIR y\nRUN true\nCMD [\"a\"]\n" => [];
    stage_names_are_lower_case: "FROM a AS B" => [StageNameCasing];
    as_is_cased_like_from: "FROM a as b\nFROM x AS y\nFROM x As z" => [FromAsCasing, FromAsCasing];
    keywords_are_cased_alike: "FROM a\nrun true\nRUN true\nWorkdir /x" => [ConsistentInstructionCasing, ConsistentInstructionCasing];
    lower_case_majority: "from a\nrun true\nRUN true" => [ConsistentInstructionCasing];
    stage_names_are_unique: "FROM a AS b\nFROM a AS b" => [DuplicateStageName];
    some_names_are_reserved: "FROM a AS scratch\nFROM b AS context" => [ReservedStageName, ReservedStageName];
    shell_form_hides_signals: "FROM a\nCMD a\nENTRYPOINT b" => [JSONArgsRecommended, JSONArgsRecommended];
    an_explicit_shell_is_meant: "FROM a AS b\nSHELL [\"s\"]\nCMD a\nFROM b\nENTRYPOINT c\nCMD" => [];
    maintainer_is_old: "FROM a\nMAINTAINER me" => [MaintainerDeprecated];
    undeclared_in_from: "ARG A=b\nFROM $A\nFROM x:$B" => [InvalidDefaultArgInFrom, UndefinedArgInFrom];
    platform_args_are_declared: "FROM --platform=$BUILDPLATFORM a\nFROM a-$TARGETARCH" => [];
    relative_workdir: "FROM a\nWORKDIR x\nFROM b AS c\nWORKDIR /x\nWORKDIR y\nFROM c\nWORKDIR z\nWORKDIR $A" => [WorkdirRelativePath];
    only_the_last_counts: "FROM a\nCMD [\"a\"]\nHEALTHCHECK NONE\nCMD [\"b\"]\nFROM b\nCMD [\"b\"]" => [MultipleInstructionsDisallowed];
    legacy_pairs: "FROM a\nENV a b\nLABEL c d" => [LegacyKeyValueFormat, LegacyKeyValueFormat];
    redundant_platform: "FROM --platform=$TARGETPLATFORM a" => [RedundantTargetPlatform];
    constant_platform: "FROM --platform=linux/arm64 a\nFROM --platform=linux/arm64 a AS x-arm64" => [FromPlatformFlagConstDisallowed];
    secrets: "FROM a\nARG API_TOKEN\nENV Password=x TOKEN_VERSION=1 MONKEY=1 PUBLIC_KEY=2" => [SecretsUsedInArgOrEnv, SecretsUsedInArgOrEnv];
    empty_default_base: "ARG TAG\nFROM busybox:$TAG" => [InvalidDefaultArgInFrom];
    descriptions_are_experimental: "# other words\nARG a=1\nFROM a" => [];
    descriptions: "# check=experimental=all\n# other words\nARG a=1\n# a the base\nARG a\nFROM a" => [InvalidDefinitionDescription];
    protocols: "FROM a\nEXPOSE 80/TCP 81/udp" => [ExposeProtoCasing];
    host_ports: "FROM a\nEXPOSE 127.0.0.1:80:80" => [ExposeInvalidFormat];
    empty_continuations: "FROM a\nRUN a \\\n\n b" => [NoEmptyContinuation];
    almost_json: "FROM a\nRUN ['a', 'b']\nRUN [ -f x ]\nCOPY [\"a\" \"b\"] /x" => [InvalidJsonForm, InvalidJsonForm];
    comments_in_lines: "FROM a\nWORKDIR /x # here\nUSER a\t# b\nCOPY a /b # c\nENV a b # c\nENV C=x#y" =>
        [TrailingComment, TrailingComment, TrailingComment, LegacyKeyValueFormat, TrailingComment];
    odd_spaces: "FROM a\nCOPY a\u{3000}b /c" => [AmbiguousSpace];
    carriage_returns: "FROM a\r\nRUN <<E\r\na\r\nE\r\n" => [CarriageReturnInHeredoc];
    a_file_skips_rules: "# check=skip=StageNameCasing\nFROM a AS B\nMAINTAINER x" => [MaintainerDeprecated];
    an_instruction_skips_rules: "FROM a\n# check=skip=all\nMAINTAINER x\nMAINTAINER y" => [MaintainerDeprecated];
    unknown_rules: "# check=skip=StageNameCaseing\nFROM a" => [UnknownCheckRule];
}

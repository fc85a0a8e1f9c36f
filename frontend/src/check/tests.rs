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
    a204_stage_names_are_lower_case: "FROM a AS B" => [StageNameCasing];
    a205_as_is_cased_like_from: "FROM a as b\nFROM x AS y\nFROM x As z" => [FromAsCasing, FromAsCasing];
    a207_keywords_are_cased_alike: "FROM a\nrun true\nRUN true\nWorkdir /x" => [ConsistentInstructionCasing, ConsistentInstructionCasing];
    a207_lower_case_majority: "from a\nrun true\nRUN true" => [ConsistentInstructionCasing];
    a208_stage_names_are_unique: "FROM a AS b\nFROM a AS b" => [DuplicateStageName];
    a209_some_names_are_reserved: "FROM a AS scratch\nFROM b AS context" => [ReservedStageName, ReservedStageName];
    a210_shell_form_hides_signals: "FROM a\nCMD a\nENTRYPOINT b" => [JSONArgsRecommended, JSONArgsRecommended];
    a210_an_explicit_shell_is_meant: "FROM a AS b\nSHELL [\"s\"]\nCMD a\nFROM b\nENTRYPOINT c\nCMD" => [];
    a211_maintainer_is_old: "FROM a\nMAINTAINER me" => [MaintainerDeprecated];
    a212_undeclared_in_from: "ARG A=b\nFROM $A\nFROM x:$B" => [InvalidDefaultArgInFrom, UndefinedArgInFrom];
    a212_platform_args_are_declared: "FROM --platform=$BUILDPLATFORM a\nFROM a-$TARGETARCH" => [];
    a213_relative_workdir: "FROM a\nWORKDIR x\nFROM b AS c\nWORKDIR /x\nWORKDIR y\nFROM c\nWORKDIR z\nWORKDIR $A" => [WorkdirRelativePath];
    a215_only_the_last_counts: "FROM a\nCMD [\"a\"]\nHEALTHCHECK NONE\nCMD [\"b\"]\nFROM b\nCMD [\"b\"]" => [MultipleInstructionsDisallowed];
    a216_legacy_pairs: "FROM a\nENV a b\nLABEL c d" => [LegacyKeyValueFormat, LegacyKeyValueFormat];
    a218_a_default_of_its_own: "ARG TARGETPLATFORM=linux/arm64\nARG TARGETPLATFORM\nFROM --platform=$TARGETPLATFORM a" => [];
    a218_without_a_default_it_is_the_same: "ARG TARGETPLATFORM\nFROM --platform=$TARGETPLATFORM a" => [RedundantTargetPlatform];
    a213_windows_paths: "# escape=`\nFROM a\nWORKDIR C:\\x\nFROM a\nWORKDIR c:/x\nFROM a\nWORKDIR \\x\nFROM a\nWORKDIR C:x" => [WorkdirRelativePath];
    a213_a_drive_whatever_escapes: "FROM a\nWORKDIR C:\\x\nFROM a\nWORKDIR \"C:/x\"\nFROM a\nWORKDIR \\x" => [WorkdirRelativePath];
    a220_a_bare_repetition_keeps_the_default: "ARG A=x\nARG A\nFROM $A" => [];
    a218_redundant_platform: "FROM --platform=$TARGETPLATFORM a" => [RedundantTargetPlatform];
    a221_constant_platform: "FROM --platform=linux/arm64 a\nFROM --platform=linux/arm64 a AS x-arm64" => [FromPlatformFlagConstDisallowed];
    a219_secrets: "FROM a\nARG API_TOKEN\nENV Password=x TOKEN_VERSION=1 MONKEY=1 PUBLIC_KEY=2" => [SecretsUsedInArgOrEnv, SecretsUsedInArgOrEnv];
    a220_empty_default_base: "ARG TAG\nFROM busybox:$TAG" => [InvalidDefaultArgInFrom];
    a223_descriptions_are_experimental: "# other words\nARG a=1\nFROM a" => [];
    a223_descriptions: "# check=experimental=all\n# other words\nARG a=1\n# a the base\nARG a\nFROM a" => [InvalidDefinitionDescription];
    a224_protocols: "FROM a\nEXPOSE 80/TCP 81/udp" => [ExposeProtoCasing];
    a225_host_ports: "FROM a\nEXPOSE 127.0.0.1:80:80" => [ExposeInvalidFormat];
    a206_empty_continuations: "FROM a\nRUN a \\\n\n b" => [NoEmptyContinuation];
    a038_almost_json: "FROM a\nRUN ['a', 'b']\nRUN [ -f x ]\nCOPY [\"a\" \"b\"] /x" => [InvalidJsonForm, InvalidJsonForm];
    a006_comments_in_lines: "FROM a\nWORKDIR /x # here\nUSER a\t# b\nCOPY a /b # c\nENV a b # c\nENV C=x#y" =>
        [TrailingComment, TrailingComment, TrailingComment, LegacyKeyValueFormat, TrailingComment];
    a018_odd_spaces: "FROM a\nCOPY a\u{3000}b /c" => [AmbiguousSpace];
    a002_carriage_returns: "FROM a\r\nRUN <<E\r\na\r\nE\r\n" => [CarriageReturnInHeredoc];
    a024_a_file_skips_rules: "# check=skip=StageNameCasing\nFROM a AS B\nMAINTAINER x" => [MaintainerDeprecated];
    a025_an_instruction_skips_rules: "FROM a\n# check=skip=all\nMAINTAINER x\nMAINTAINER y" => [MaintainerDeprecated];
    a024_unknown_rules: "# check=skip=StageNameCaseing\nFROM a" => [UnknownCheckRule];
    a207_a_tie_is_upper_case: "from a\nRUN true" => [ConsistentInstructionCasing];
    a207_global_arguments_do_not_count: "arg V=1\nFROM a:$V\nRUN true" => [];
    a205_a_mixed_from_has_no_casing: "From a as b\nFROM c" => [ConsistentInstructionCasing];
    a210_an_empty_command_is_one_of_the_shell: "FROM a\nCMD" => [JSONArgsRecommended];
    a212_a_default_declares_nothing: "FROM scra${DEBUG:-tch}" => [UndefinedArgInFrom];
    a212_without_a_value_is_declared_too: "ARG DEBUG\nFROM scra${DEBUG:-tch}" => [];
    a213_the_first_directory_decides: "FROM a\nWORKDIR x\nWORKDIR y\nFROM a AS b\nWORKDIR $x\nWORKDIR y" => [WorkdirRelativePath];
    a215_each_stage_has_its_own: "FROM a AS b\nENTRYPOINT [\"a\"]\nFROM b\nENTRYPOINT [\"a\"]\nRUN b\nENTRYPOINT [\"c\"]" =>
        [MultipleInstructionsDisallowed];
    a218_variables_in_quotes: "FROM --platform=\"${TARGETPLATFORM}\" a\nFROM --platform=${TARGETPLATFORM:-x} b" =>
        [RedundantTargetPlatform, RedundantTargetPlatform];
    a218_parts_of_it_are_not: "FROM --platform=$TARGETOS/arm64 a\nFROM --platform=$BUILDPLATFORM b" => [];
    a219_global_arguments_are_in_no_image: "ARG TOKEN=1\nFROM a" => [];
    a219_parts_of_names: "FROM a\nARG auth=1 super_duper_secret_token\nENV git_key= apikey=b sunflower=f AUTH_MODULE_VERSION=1 password_file=x" =>
        [SecretsUsedInArgOrEnv, SecretsUsedInArgOrEnv, SecretsUsedInArgOrEnv, SecretsUsedInArgOrEnv];
    a220_defaults_that_do: "ARG V=1 S=\nFROM a:$V\nFROM b${S}\nFROM c${S-@x}" => [];
    a220_a_suffix_that_is_a_colon: "ARG S=box:\nFROM busy${S}" => [InvalidDefaultArgInFrom];
    a221_names_that_say_the_platform: "FROM --platform=linux/amd64 a AS my_amd64_stage\nFROM --platform=linux/amd64 b AS linux" => [];
    a223_only_what_is_asked_for: "# check=skip=all;experimental=InvalidDefinitionDescription\n# bad words\nFROM x as Base\n#\nARG a" =>
        [InvalidDefinitionDescription];
    a223_names_and_lists: "# check=experimental=all\n# b words\nARG a b\n# words\nARG a b\n# Base is it\nFROM x AS base\n# b is\n# check=skip=NulByte\nARG b" =>
        [InvalidDefinitionDescription, InvalidDefinitionDescription];
    a025_remarks_behind_the_rules: "FROM a\n# check=skip=SecretsUsedInArgOrEnv // allowed here\nENV password=x\nENV token=x" => [SecretsUsedInArgOrEnv];
    a025_unknown_rules_above_an_instruction: "FROM a\n# check=skip=LegacyKeyValueFromat\nENV a b\n# check=skp=all\nRUN a" =>
        [UnknownCheckRule, LegacyKeyValueFormat, UnknownCheckRule];
    a025_a_bare_comment_ends_it: "FROM a\n# check=skip=all\n#\nENV a b\n# check=skip=all\n\nENV a b" => [LegacyKeyValueFormat];
    a025_an_instruction_asks_for_more: "# words\n# check=experimental=all\nFROM a AS b" => [InvalidDefinitionDescription];
    a018_between_words_of_a_command: "FROM a\nRUN a\u{A0}b\nRUN 'a\u{A0}b'\nWORKDIR /a\u{3000}b\nWORKDIR \"/a\u{3000}b\"" => [AmbiguousSpace, AmbiguousSpace];
    unfinished_commands: "FROM a\nRUN a && b &&\nRUN a | \\\n\nCMD [\"a\", \"&&\"]" => [UnfinishedCommand, NoEmptyContinuation, SwallowedInstruction];
    finished_commands: "FROM a\nRUN a &\nRUN a # b &&\nRUN a \\&&\nRUN cat <<E &&\nE\n" => [];
    swallowed_instructions: "FROM a\nRUN a && \\\n# c\nCMD [\"b\"]" => [SwallowedInstruction];
    continued_lines_of_their_own: "FROM a\nRUN x \"select \\\nFROM b\" && \\\n  COPY c \\\nCOPYING \\\ncopy d" => [];
    a001_nul: "FROM a\n# \0\nRUN a\0b" => [NulByte];
}

#[test]
fn a220_labels_are_where_the_used_arguments_are() {
    let source = Source::new("Dockerfile", "ARG A1\nARG A12 B\nARG A1\nFROM x:$A12$A12");
    let found = check(&parse(&source).unwrap());
    let places: Vec<_> = found[0].secondary.iter().map(|label| source.slice(label.span)).collect();
    assert_eq!(places, ["A12"]);
}

#[test]
fn a001_bytes_that_are_no_text() {
    let text = b"# \xe9 in comments is nobody's business\nFROM a\nRUN echo \xe9\xe8 > \xff\n# check=skip=InvalidUtf8\nRUN \xff\n";
    let source = Source::from_bytes("Dockerfile", text.to_vec());
    let found = check(&parse(&source).unwrap());
    let messages: Vec<_> = found.iter().map(|found| found.message.as_str()).collect();
    assert_eq!(messages, ["bytes that are no UTF-8: e9 e8", "bytes that are no UTF-8: ff"]);
}

#[test]
fn a016_what_is_doubtful_is_told_of_files_with_mistakes() {
    let text = "# check=skip=LegacyKeyValueFormat\nFROM scratch AS BadStageName\nMAINTAINER me\nENV a b\nBADCMD\nrun a \\\n\n b\n";
    let found = parse(&Source::new("Dockerfile", text)).unwrap_err();
    let found: Vec<_> =
        found.iter().map(|found| found.rule.map_or(found.message.as_str(), |rule| rule.name())).collect();
    assert_eq!(
        found,
        ["StageNameCasing", "MaintainerDeprecated", "unknown instruction: `BADCMD`", "NoEmptyContinuation"]
    );
}

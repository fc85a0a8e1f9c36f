use crate::{Overrides, Source, Surroundings, check, examine, parse};

use super::*;

fn repaired(text: &str) -> String {
    let repaired = repair(&Source::new("Dockerfile", text));
    let again = repair(&repaired.source);
    assert_eq!(again.source.text(), repaired.source.text(), "{text:?}: twice is not once");
    repaired.source.text().to_owned()
}

macro_rules! repairs {
    ($($name:ident { $($before:literal => $after:literal,)+ })+) => {
        $(#[test]
        fn $name() {
            $(assert_eq!(repaired($before), $after, "{}", $before);)+
        })+
    };
}

repairs! {
    a204_stage_names_with_what_names_them {
        "FROM x AS Build\nFROM y\nCOPY --from=Build a /b\nRUN --mount=from=BUILD,target=/m true\n" =>
            "FROM x AS build\nFROM y\nCOPY --from=build a /b\nRUN --mount=from=build,target=/m true\n",
        "FROM x AS B\nFROM y AS B\nFROM b\n" => "FROM x AS b\nFROM y AS b\nFROM b\n",
        "FROM x AS B\nCOPY --from=Other a /b\n" => "FROM x AS b\nCOPY --from=Other a /b\n",
    }
    a205_as_like_from { "FROM x as y\n" => "FROM x AS y\n", "from x AS y\n" => "from x as y\n", }
    a206_empty_continuations {
        "FROM x\nRUN a \\\n\n  \n b \\\n# c\n\n c\nUSER d\n" => "FROM x\nRUN a \\\n b \\\n# c\n c\nUSER d\n",
        "FROM x\nRUN a \\\r\n\r\n b\r\n" => "FROM x\nRUN a \\\r\n b\r\n",
        "FROM x\nRUN a \\\n\n" => "FROM x\nRUN a \\\n",
    }
    a207_keywords_of_one_case {
        "FROM x\nrun a\n  Copy a b\n" => "FROM x\nRUN a\n  COPY a b\n",
        "from x\nrun a\nCOPY a b\n" => "from x\nrun a\ncopy a b\n",
        "FROM x\nRU\\\nn a\n" => "FROM x\nRU\\\nn a\n",
    }
    a210_plain_commands_as_arrays {
        "FROM x\nCMD node  app.js\n" => "FROM x\nCMD [\"node\", \"app.js\"]\n",
        "FROM x\nENTRYPOINT /bin/app --a=b\n" => "FROM x\nENTRYPOINT [\"/bin/app\", \"--a=b\"]\n",
        "FROM x\nENTRYPOINT a\nCMD [\"b\"]\n" => "FROM x\nENTRYPOINT a\nCMD [\"b\"]\n",
        "FROM x\nCMD a $B\n" => "FROM x\nCMD a $B\n",
        "FROM x\nCMD a 'b'\n" => "FROM x\nCMD a 'b'\n",
        "FROM x\nCMD exec a\n" => "FROM x\nCMD exec a\n",
        "FROM x\nCMD A=1 b\n" => "FROM x\nCMD A=1 b\n",
        "FROM x\nCMD a \\\n b\n" => "FROM x\nCMD a \\\n b\n",
        "FROM x\nSHELL [\"s\"]\nCMD a\n" => "FROM x\nSHELL [\"s\"]\nCMD a\n",
        "FROM x\nCMD\n" => "FROM x\nCMD\n",
        "FROM x\nENTRYPOINT a\nONBUILD CMD [\"b\"]\n" => "FROM x\nENTRYPOINT a\nONBUILD CMD [\"b\"]\n",
        "FROM x\nCMD declare -p\n" => "FROM x\nCMD declare -p\n",
        "FROM x\nCMD shopt\n" => "FROM x\nCMD shopt\n",
        "FROM x\nCMD a %b%\n" => "FROM x\nCMD a %b%\n",
        "# escape=`\nFROM x\nCMD a b\n" => "# escape=`\nFROM x\nCMD a b\n",
    }
    a211_maintainers_become_labels {
        "FROM x\nMAINTAINER  Me <me@x>  \n" => "FROM x\nLABEL org.opencontainers.image.authors=\"Me <me@x>\"  \n",
        "from x\nmaintainer \"a $b\"\n" => "from x\nlabel org.opencontainers.image.authors=\"a \\$b\"\n",
        "FROM x\nMaintainer a\"b\\c\n" => "FROM x\nLABEL org.opencontainers.image.authors=\"a\\\"b\\\\c\"\n",
        "FROM x\nMAINTAINER a \\\n b\n" => "FROM x\nMAINTAINER a \\\n b\n",
    }
    a216_pairs_with_equals {
        "FROM x\nENV a b\nLABEL c  d e\n" => "FROM x\nENV a=b\nLABEL c=\"d e\"\n",
        "FROM x\nENV a 'b c' d\n" => "FROM x\nENV a='b c'\\ d\n",
        "FROM x\nENV a b\\ c \"d e\"\n" => "FROM x\nENV a=b\\ c\\ \"d e\"\n",
        "# escape=`\nFROM x\nENV a c:\\d `$e \n" => "# escape=`\nFROM x\nENV a=c:\\d` `$e \n",
        "FROM x\nENV a ${b:-x y}\n" => "FROM x\nENV a=\"${b:-x y}\"\n",
        "FROM x\nENV a b \\\n  c\n" => "FROM x\nENV a=\"b \\\n  c\"\n",
        "FROM x\nENV a \\\n b\n" => "FROM x\nENV a \\\n b\n",
        "FROM x\nENV a b # c\n" => "FROM x\n# c\nENV a=b\n",
    }
    a218_platforms_that_go_without_saying {
        "FROM --platform=$TARGETPLATFORM  x AS y\n" => "FROM x AS y\n",
        "FROM --platform=\"${TARGETPLATFORM}\" \\\n x\n" => "FROM \\\n x\n",
        "FROM --platform=$BUILDPLATFORM x\n" => "FROM --platform=$BUILDPLATFORM x\n",
        "ARG TARGETPLATFORM\nFROM --platform=$TARGETPLATFORM x\n" => "ARG TARGETPLATFORM\nFROM x\n",
        "ARG TARGETPLATFORM=linux/arm64\nFROM --platform=$TARGETPLATFORM x\n" =>
            "ARG TARGETPLATFORM=linux/arm64\nFROM --platform=$TARGETPLATFORM x\n",
    }
    a224_protocols_in_lower_case { "FROM x\nEXPOSE 80/TCP 81-82/Udp\n" => "FROM x\nEXPOSE 80/tcp 81-82/udp\n", }
    a018_blanks_for_odd_spaces {
        "FROM x\nCOPY a\u{3000}b /c/\n" => "FROM x\nCOPY a b /c/\n",
        "FROM\u{A0}x\nEXPOSE 80\u{3000}\u{3000}30\n" => "FROM x\nEXPOSE 80 30\n",
        "FROM x\u{3000}AS y\nENV a\u{A0}b\nRUN a\u{A0}b 'c\u{A0}d'\n" =>
            "FROM x AS y\nENV a=b\nRUN a\u{A0}b 'c\u{A0}d'\n",
        "FROM x\nRUN sed -i s/\u{3000}//g f\nCMD a\\\u{3000}b\nENTRYPOINT `a \"\u{3000}\"`\n" =>
            "FROM x\nRUN sed -i s/\u{3000}//g f\nCMD a\\\u{3000}b\nENTRYPOINT `a \"\u{3000}\"`\n",
        "FROM x\nHEALTHCHECK CMD a\u{3000}b\nONBUILD RUN a\u{3000}b\n" =>
            "FROM x\nHEALTHCHECK CMD a\u{3000}b\nONBUILD RUN a\u{3000}b\n",
        "FROM x\nCOPY a\\\u{3000}b /c/\nCOPY \"a\u{3000}b\" /c/\n" =>
            "FROM x\nCOPY a\\\u{3000}b /c/\nCOPY \"a\u{3000}b\" /c/\n",
        "FROM x\nENV a\u{A0}b c\u{A0}d\n" => "FROM x\nENV a\u{A0}b c\u{A0}d\n",
        "FROM x\nRUN echo 'a\u{3000}b' \"c\u{A0}\"\nENV a=\"b\u{3000}c\"\n" =>
            "FROM x\nRUN echo 'a\u{3000}b' \"c\u{A0}\"\nENV a=\"b\u{3000}c\"\n",
    }
    a038_arrays_that_were_meant {
        "FROM x\nCMD [\"ls\" \"-a\"]\n" => "FROM x\nCMD [\"ls\", \"-a\"]\n",
        "FROM x\nCMD ['ls', '-a',]\n" => "FROM x\nCMD [\"ls\", \"-a\"]\n",
        "FROM x\nCMD [\u{201C}ls\u{201D} , \"-a\"]\n" => "FROM x\nCMD [\"ls\" , \"-a\"]\n",
        "FROM x\nSHELL ['sh' '-c']\n" => "FROM x\nSHELL [\"sh\", \"-c\"]\n",
        "FROM x\nCOPY ['a b' '/c']\n" => "FROM x\nCOPY [\"a b\", \"/c\"]\n",
        "FROM x\nCMD [\"a\"\"b\"]\n" => "FROM x\nCMD [\"a\"\"b\"]\n",
        "FROM x\nCMD [\"c:\\windows\" \"b\"]\n" => "FROM x\nCMD [\"c:\\windows\" \"b\"]\n",
        "FROM x\nCMD ['a\"b']\n" => "FROM x\nCMD ['a\"b']\n",
        "FROM x\nCMD [a, b]\n" => "FROM x\nCMD [a, b]\n",
        "FROM x\nCMD ['a'] b\n" => "FROM x\nCMD ['a'] b\n",
        "FROM x\nCMD [,'a']\n" => "FROM x\nCMD [,'a']\n",
    }
    a006_comments_on_lines_of_their_own {
        "FROM x\nWORKDIR /a # here\n  USER b\t#c\n  USER b # c\r\n" =>
            "FROM x\n# here\nWORKDIR /a\n  USER b\t#c\n  # c\r\n  USER b\r\n",
        "FROM x\nCOPY a \\\n b # c\n" => "FROM x\nCOPY a \\\n b # c\n",
        "FROM x # y\nEXPOSE 80 # web\nENV a=b # c d\nARG a=b # c d\n" =>
            "# y\nFROM x\n# web\nEXPOSE 80\n# c d\nENV a=b\n# c d\nARG a=b\n",
        "FROM x # syntax=y\n" => "FROM x # syntax=y\n",
    }
    a024_what_is_skipped_stays {
        "# check=skip=all\nFrom x as Y\n" => "# check=skip=all\nFrom x as Y\n",
        "FROM x\n# check=skip=LegacyKeyValueFormat\nENV a b\nENV c d\n" =>
            "FROM x\n# check=skip=LegacyKeyValueFormat\nENV a b\nENV c=d\n",
    }
    beyond_repair { "FROM\nrun x\n" => "FROM\nrun x\n", "" => "", }
}

#[test]
fn a001_other_bytes_stay() {
    let source = Source::from_bytes("Dockerfile", b"\xef\xbb\xbfFROM x\r\n# \xe9\r\nEnv a \xff\xfe b".to_vec());
    assert_eq!(repair(&source).source.to_bytes(), b"\xef\xbb\xbfFROM x\r\n# \xe9\r\nENV a=\"\xff\xfe b\"");
}

#[test]
fn a024_what_the_caller_knows_decides() {
    let surroundings = |check: Option<&str>, platform: Option<&str>| {
        let overrides = Overrides { check: check.map(str::to_owned), syntax: None };
        let build_args = [("TARGETPLATFORM".to_owned(), platform.map(str::to_owned))].into();
        Surroundings { overrides, build_args, ..Surroundings::default() }
    };
    let cases = [
        (surroundings(Some("skip=FromAsCasing"), None), "# check=skip=all\nFROM x as y\n"),
        (surroundings(Some("skip=LegacyKeyValueFormat"), None), "# check=skip=all\nFROM x AS y\n"),
        (surroundings(None, None), "# check=skip=all\nFROM x as y\n"),
    ];
    for (surroundings, after) in cases {
        let source = Source::new("Dockerfile", "# check=skip=all\nFROM x as y\n");
        assert_eq!(repair_with(&source, &surroundings).source.text(), after, "{surroundings:?}");
    }
    for (platform, after) in [(None, "FROM x\n"), (Some("linux/arm64"), "FROM --platform=$TARGETPLATFORM x\n")] {
        let source = Source::new("Dockerfile", "FROM --platform=$TARGETPLATFORM x\n");
        let surroundings = surroundings(None, platform);
        assert_eq!(repair_with(&source, &surroundings).source.text(), after, "A218 {platform:?}");
        let can = examine(&source, &surroundings).iter().any(|found| found.fix.is_some());
        assert_eq!(can, platform.is_none(), "A218 {platform:?}");
    }
}

#[test]
fn fixes_of_one_place_wait_for_each_other() {
    let text = "FROM x\nUSER a\nMaintainer b # c\n";
    let found = repair(&Source::new("Dockerfile", text)).done;
    let rules: Vec<_> = found.iter().map(|found| found.rule.unwrap()).collect();
    assert_eq!(rules, [Rule::ConsistentInstructionCasing, Rule::MaintainerDeprecated]);
}

#[test]
fn every_fix_lies_in_the_text() {
    let source = Source::new("Dockerfile", "From x as Y\nENV a b\nEXPOSE 80/TCP\n");
    let file = parse(&source).unwrap();
    let mut found = check(&file);
    attach(&source, &file, &mut found);
    for found in found {
        let fix = found.fix.unwrap_or_else(|| panic!("no fix: {}", found.message));
        assert!(fix.edits.iter().all(|edit| source.text().get(edit.span.range()).is_some()));
    }
}

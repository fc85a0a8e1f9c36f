use rbuild_frontend::{Surroundings, examine};

use super::*;

const TEXT: &str = "# check=skip=JSONArgsRecommended\nFROM debian as Build\nRUN make é \\\n\n  all\nENV PATH $PAHT:/bin\n\
    COPY --from=Build a /b\nFROM debian AS build\nCMD [\"ls\" \"-a\"]\n";

/// A warning that can be repaired, and a mistake.
const SHORT: &str = "FROM debian as base\nLABEL a=\"é\" b=\n\n# check\nFRMO x\n";

fn report(format: ReportFormat, text: &str) -> String {
    let source = Source::new("docker/Docker file", text);
    let found = examine(&source, &Surroundings::default());
    write(format, &source, &found, Colour::Plain).replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

#[test]
fn a226_text() {
    insta::assert_snapshot!(report(ReportFormat::Text, TEXT), @r#"
        warning[FromAsCasing]: casing of `as` and `FROM` does not match
         --> docker/Docker file:2:13
          |
        2 | FROM debian as Build
          |             ^^
          |
          = hint: write `AS`

        warning[StageNameCasing]: stage name `Build` should be lowercase
         --> docker/Docker file:2:16
          |
        2 | FROM debian as Build
          |                ^^^^^
          |
          = hint: write `build`

        warning[NoEmptyContinuation]: empty line inside a continued instruction
         --> docker/Docker file:4:1
          |
        3 | / RUN make é \
        4 | |
          | | ^
        5 | |   all
          | |_____- of this instruction
          |
          = hint: remove the line, or put a `#` on it

        warning[LegacyKeyValueFormat]: `ENV key=value` should be used instead of `ENV key value`
         --> docker/Docker file:6:1
          |
        6 | ENV PATH $PAHT:/bin
          | ^^^^^^^^^^^^^^^^^^^
          |
          = hint: write `ENV PATH=…`, with quotes if the value has blanks

        warning[DuplicateStageName]: duplicate stage name `build`: later uses mean this stage
         --> docker/Docker file:8:16
          |
        2 | FROM debian as Build
          |                ----- already used here
        ...
        8 | FROM debian AS build
          |                ^^^^^

        warning[InvalidJsonForm]: the arguments of `CMD` are not a JSON array and are read as plain text
         --> docker/Docker file:9:5
          |
        9 | CMD ["ls" "-a"]
          |     ^^^^^^^^^^^
          |
          = hint: an array is written `["a", "b"]`, with commas between the strings and `\\` for a backslash

        6 warnings found
        error: circular dependency: the stage copies from itself as `Build`
         --> docker/Docker file:7:13
          |
        2 | FROM debian as Build
          | -------------------- defined here
        ...
        7 | COPY --from=Build a /b
          |             ^^^^^
          |
          = hint: files of this stage are there already: `RUN cp` copies them

        5 of 7 can be repaired: `rbuild check --fix`
        "#);
    assert_eq!(report(ReportFormat::Text, "FROM scratch\n"), "no warnings found\n");
}

#[test]
fn a226_json() {
    insta::assert_snapshot!(report(ReportFormat::Json, SHORT), @r#"
        {
          "warnings": [
            {
              "ruleName": "FromAsCasing",
              "description": "`AS` should be cased like its `FROM`.",
              "url": "https://docs.docker.com/go/dockerfile/rule/from-as-casing/",
              "detail": "casing of `as` and `FROM` does not match",
              "location": {
                "ranges": [
                  {
                    "start": {
                      "line": 1,
                      "character": 12
                    },
                    "end": {
                      "line": 1,
                      "character": 14
                    }
                  }
                ]
              },
              "hint": "write `AS`",
              "fix": {
                "edits": [
                  {
                    "range": {
                      "start": {
                        "line": 1,
                        "character": 12
                      },
                      "end": {
                        "line": 1,
                        "character": 14
                      }
                    },
                    "text": "AS"
                  }
                ]
              }
            }
          ],
          "sources": [
            {
              "filename": "docker/Docker file",
              "language": "Dockerfile",
              "data": "RlJPTSBkZWJpYW4gYXMgYmFzZQpMQUJFTCBhPSLDqSIgYj0KCiMgY2hlY2sKRlJNTyB4Cg=="
            }
          ],
          "buildError": {
            "message": "unknown instruction: `FRMO`",
            "location": {
              "ranges": [
                {
                  "start": {
                    "line": 5,
                    "character": 0
                  },
                  "end": {
                    "line": 5,
                    "character": 4
                  }
                }
              ]
            }
          },
          "errors": [
            {
              "ruleName": "DockerfileError",
              "detail": "unknown instruction: `FRMO`",
              "location": {
                "ranges": [
                  {
                    "start": {
                      "line": 5,
                      "character": 0
                    },
                    "end": {
                      "line": 5,
                      "character": 4
                    }
                  }
                ]
              },
              "hint": "did you mean `FROM`?"
            }
          ]
        }
        "#);
}

#[test]
fn a226_sarif() {
    insta::assert_snapshot!(report(ReportFormat::Sarif, SHORT), @r#"
        {
          "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
          "version": "2.1.0",
          "runs": [
            {
              "tool": {
                "driver": {
                  "name": "rbuild",
                  "version": "VERSION",
                  "semanticVersion": "VERSION",
                  "rules": [
                    {
                      "id": "DockerfileError",
                      "shortDescription": {
                        "text": "The Dockerfile has no meaning here."
                      },
                      "defaultConfiguration": {
                        "level": "error"
                      }
                    },
                    {
                      "id": "FromAsCasing",
                      "name": "FromAsCasing",
                      "shortDescription": {
                        "text": "`AS` should be cased like its `FROM`."
                      },
                      "help": {
                        "text": "`AS` should be cased like its `FROM`. To leave it out, write `# check=skip=FromAsCasing`."
                      },
                      "defaultConfiguration": {
                        "level": "warning"
                      },
                      "helpUri": "https://docs.docker.com/go/dockerfile/rule/from-as-casing/"
                    }
                  ]
                }
              },
              "columnKind": "unicodeCodePoints",
              "artifacts": [
                {
                  "location": {
                    "uri": "docker/Docker%20file"
                  },
                  "sourceLanguage": "dockerfile"
                }
              ],
              "results": [
                {
                  "ruleId": "FromAsCasing",
                  "ruleIndex": 1,
                  "level": "warning",
                  "message": {
                    "text": "casing of `as` and `FROM` does not match (write `AS`)"
                  },
                  "locations": [
                    {
                      "physicalLocation": {
                        "artifactLocation": {
                          "uri": "docker/Docker%20file",
                          "index": 0
                        },
                        "region": {
                          "startLine": 1,
                          "startColumn": 13,
                          "endLine": 1,
                          "endColumn": 15
                        }
                      }
                    }
                  ],
                  "fixes": [
                    {
                      "artifactChanges": [
                        {
                          "artifactLocation": {
                            "uri": "docker/Docker%20file",
                            "index": 0
                          },
                          "replacements": [
                            {
                              "deletedRegion": {
                                "startLine": 1,
                                "startColumn": 13,
                                "endLine": 1,
                                "endColumn": 15
                              },
                              "insertedContent": {
                                "text": "AS"
                              }
                            }
                          ]
                        }
                      ]
                    }
                  ]
                },
                {
                  "ruleId": "DockerfileError",
                  "ruleIndex": 0,
                  "level": "error",
                  "message": {
                    "text": "unknown instruction: `FRMO` (did you mean `FROM`?)"
                  },
                  "locations": [
                    {
                      "physicalLocation": {
                        "artifactLocation": {
                          "uri": "docker/Docker%20file",
                          "index": 0
                        },
                        "region": {
                          "startLine": 5,
                          "startColumn": 1,
                          "endLine": 5,
                          "endColumn": 5
                        }
                      }
                    }
                  ]
                }
              ]
            }
          ]
        }
        "#);
}

/// What the schema of SARIF 2.1.0 requires.
#[test]
fn a226_sarif_has_what_its_schema_wants() {
    for text in [TEXT, "", "FROM scratch\n", "FRMO x\nRUN\u{3000}a\nEXPOSE 80 # c\n"] {
        let log: Value = serde_json::from_str(&report(ReportFormat::Sarif, text)).unwrap();
        assert_eq!(log["version"], "2.1.0");
        let run = &log["runs"][0];
        assert!(run["tool"]["driver"]["name"].is_string());
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        assert!(rules.iter().all(|rule| rule["id"].is_string() && rule["shortDescription"]["text"].is_string()));
        for result in run["results"].as_array().unwrap() {
            assert!(!result["message"]["text"].as_str().unwrap().is_empty());
            assert!(matches!(result["level"].as_str(), Some("error" | "warning")));
            let at = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(rules[at]["id"], result["ruleId"]);
            let physical = &result["locations"][0]["physicalLocation"];
            assert_eq!(physical["artifactLocation"]["uri"], "docker/Docker%20file");
            let mut regions = vec![&physical["region"]];
            for fix in result["fixes"].as_array().into_iter().flatten() {
                for change in fix["artifactChanges"].as_array().unwrap() {
                    assert!(change["artifactLocation"].is_object());
                    let replacements = change["replacements"].as_array().unwrap();
                    assert!(!replacements.is_empty());
                    regions.extend(replacements.iter().map(|replacement| &replacement["deletedRegion"]));
                }
            }
            for region in regions {
                let number = |name: &str| region[name].as_u64().unwrap();
                assert!(number("startLine") >= 1 && number("startColumn") >= 1);
                let (start, end) =
                    ((number("startLine"), number("startColumn")), (number("endLine"), number("endColumn")));
                assert!(start <= end);
            }
        }
    }
}

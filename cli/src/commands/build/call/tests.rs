use super::*;

const TEXT: &str = "ARG V=1\n# build defines the binary\nFROM --platform=$BUILDPLATFORM alpine:$V AS build\n\
    RUN --mount=type=secret,id=token,required --mount=type=cache,id=go,target=/c true\nFROM busybox as second\n\
    FROM second\n# NAME is what it is called\nARG NAME\n# binary returns it\nFROM build AS binary\n";

fn read() -> (Source, Dockerfile) {
    let source = Source::new("Dockerfile", TEXT);
    let file = rbuild_frontend::parse(&source).unwrap();
    (source, file)
}

fn of(target: &str) -> Outline {
    let surroundings = Surroundings { target: Some(target.to_owned()), ..Surroundings::default() };
    outline(&read().1, &surroundings).unwrap()
}

#[test]
fn calls_are_buildx_ones() {
    let call = |text: &str| text.parse::<Call>().map(|call| (call.method, call.format, call.ignore_status));
    assert_eq!(call("check"), Ok((Method::Check, ReportFormat::Text, false)));
    assert_eq!(call("lint,format=json,ignorestatus=true"), Ok((Method::Check, ReportFormat::Json, true)));
    assert_eq!(call("outline,format=text"), Ok((Method::Outline, ReportFormat::Text, false)));
    for wrong in ["describe", "check,outline", "check,format=xml", "targets,format=sarif", "check,x=y"] {
        assert!(call(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a026_targets_as_text_and_json() {
    let (source, file) = read();
    insta::assert_snapshot!(targets_text(&file).replace(' ', "·"), @r#"
    TARGET···········DESCRIPTION
    build············defines·the·binary
    second···········
    ·················
    binary·(default)·returns·it
    "#);
    let mut json = targets_json(&source, &file);
    assert_eq!(json["sources"].take(), json!([STANDARD.encode(TEXT)]));
    insta::assert_snapshot!(pretty(&json["targets"]), @r#"
    [
      {
        "name": "build",
        "description": "defines the binary",
        "base": "alpine:$V",
        "platform": "$BUILDPLATFORM",
        "location": {
          "ranges": [
            {
              "start": {
                "line": 3,
                "character": 0
              },
              "end": {
                "line": 3,
                "character": 49
              }
            }
          ]
        }
      },
      {
        "name": "second",
        "base": "busybox",
        "location": {
          "ranges": [
            {
              "start": {
                "line": 5,
                "character": 0
              },
              "end": {
                "line": 5,
                "character": 22
              }
            }
          ]
        }
      },
      {
        "base": "second",
        "location": {
          "ranges": [
            {
              "start": {
                "line": 6,
                "character": 0
              },
              "end": {
                "line": 6,
                "character": 11
              }
            }
          ]
        }
      },
      {
        "name": "binary",
        "default": true,
        "description": "returns it",
        "base": "build",
        "location": {
          "ranges": [
            {
              "start": {
                "line": 10,
                "character": 0
              },
              "end": {
                "line": 10,
                "character": 20
              }
            }
          ]
        }
      }
    ]
    "#);
}

#[test]
fn a026_outlines_as_text_and_json() {
    let (source, _) = read();
    insta::assert_snapshot!(outline_text(&of("binary")).replace(' ', "·"), @r#"
    TARGET:······binary
    DESCRIPTION:·returns·it

    BUILD·ARG···VALUE···DESCRIPTION
    V···········1·······

    SECRET···REQUIRED
    token····true

    CACHE
    go
    "#);
    let mut json = outline_json(&source, &of("binary"));
    assert_eq!(json["sources"].take(), json!([STANDARD.encode(TEXT)]));
    insta::assert_snapshot!(pretty(&json), @r#"
    {
      "name": "binary",
      "description": "returns it",
      "args": [
        {
          "name": "V",
          "value": "1",
          "location": {
            "ranges": [
              {
                "start": {
                  "line": 1,
                  "character": 4
                },
                "end": {
                  "line": 1,
                  "character": 7
                }
              }
            ]
          }
        }
      ],
      "secrets": [
        {
          "name": "token",
          "required": true,
          "location": {
            "ranges": [
              {
                "start": {
                  "line": 4,
                  "character": 0
                },
                "end": {
                  "line": 4,
                  "character": 81
                }
              }
            ]
          }
        }
      ],
      "cache": [
        {
          "ID": "go",
          "location": {
            "ranges": [
              {
                "start": {
                  "line": 4,
                  "character": 0
                },
                "end": {
                  "line": 4,
                  "character": 81
                }
              }
            ]
          }
        }
      ],
      "sources": null
    }
    "#);
}

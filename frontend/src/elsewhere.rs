//! What do other builders know that Docker's language does not have, and what is to be written instead?
//!
//! Only hints for errors: nothing of it means anything here.

/// A hint for an instruction of another builder, as that spells it: `for` is rather a line of shell that lost its `RUN`.
pub(crate) fn instruction(word: &str) -> Option<&'static str> {
    let hint = match word {
        "INCLUDE" | "INCLUDE+" => {
            "files are not put together here: make what is shared a stage or an image, for `FROM` and `COPY --from`"
        }
        "IF" | "ELSE" | "END" => {
            "this is Earthly's; choose a stage by a variable, as in `FROM build-${VARIANT}`, or ask in the shell of a `RUN`"
        }
        "FOR" => "this is Earthly's; write the loop in the shell of a `RUN`",
        "TRY" | "CATCH" | "FINALLY" => "this is Earthly's; write `|| …` or `trap … EXIT` in the shell of a `RUN`",
        "LOCALLY" => {
            "this is Earthly's; what must run on this machine runs before the build, its results are the context"
        }
        "SAVE" => {
            "this is Earthly's; a `FROM scratch` stage with `COPY --from` holds the results, `rbuild -o type=local,dest=DIR \
             --target STAGE` writes them"
        }
        "WITH" => "this is Earthly's; a build has no Docker inside, start what is needed in the same `RUN`",
        "IMPORT" | "BUILD" | "DO" => {
            "this is Earthly's; other files are other builds, whose images `FROM` and `COPY --from` name"
        }
        "FUNCTION" | "COMMAND" => "this is Earthly's; put what is shared into a stage",
        "VERSION" => "this is an Earthfile; a Dockerfile begins with `FROM`",
        _ => return None,
    };
    Some(hint)
}

/// A hint for an instruction's flag of another builder.
pub(crate) fn flag(instruction: &str, name: &str) -> Option<&'static str> {
    match (instruction, name) {
        ("FROM", "after") => Some(
            "a stage starts when what it needs is there: to make it wait for another, use something of that with `COPY --from` \
             or `RUN --mount=from=`",
        ),
        ("RUN", "privileged") => Some("write `--security=insecure`"),
        ("RUN", "secret") => Some("write `--mount=type=secret,id=NAME,env=NAME`"),
        ("RUN", "push" | "entrypoint" | "with-docker" | "no-cache" | "interactive") => Some("this is Earthly's"),
        ("COPY", "dir") => Some("this is Earthly's; write `COPY directory /to/directory/`, or use `--parents`"),
        ("COPY", "if-exists") => {
            Some("this is Earthly's; a wildcard that finds nothing is no error, as in `COPY name[s] /to/`")
        }
        _ => None,
    }
}

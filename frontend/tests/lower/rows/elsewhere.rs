use super::*;

#[test]
fn a232_a233_a235_a236_what_other_builders_add() {
    table(&[
        (
            "A232 an include is an unknown instruction",
            "INCLUDE common.Dockerfile",
            &[
                "!2:1-8 unknown instruction: `INCLUDE` [files are not put together here: make what is shared a stage or an \
               image, for `FROM` and `COPY --from`]",
            ],
        ),
        (
            "A232 nothing is preprocessed: lines of cpp are comments",
            "#include \"common\"\n#define A 1\nLABEL a=A",
            &["Label a=A"],
        ),
        (
            "A233 stages cannot be told to wait",
            "FROM scratch AS a\nFROM --after=a scratch",
            &["!2:6-15 unknown flag of `FROM`: `--after` [a stage starts when what it needs is there: to make it \
               wait for another, use something of that with `COPY --from` or `RUN --mount=from=`]"],
        ),
        (
            "A235 conditions",
            "IF [ -e x ]",
            &["!2:1-3 unknown instruction: `IF` [this is Earthly's; choose a stage by a variable, as in `FROM \
               build-${VARIANT}`, or ask in the shell of a `RUN`]"],
        ),
        (
            "A235 loops",
            "FOR x IN a b",
            &["!2:1-4 unknown instruction: `FOR` [this is Earthly's; write the loop in the shell of a `RUN`]"],
        ),
        (
            "A235 what runs whatever happens",
            "FINALLY",
            &["!2:1-8 unknown instruction: `FINALLY` [this is Earthly's; write `|| …` or `trap … EXIT` in the \
               shell of a `RUN`]"],
        ),
        (
            "A235 what runs on the host",
            "LOCALLY",
            &["!2:1-8 unknown instruction: `LOCALLY` [this is Earthly's; what must run on this machine runs before \
               the build, its results are the context]"],
        ),
        (
            "A235 results",
            "SAVE ARTIFACT out AS LOCAL out",
            &["!2:1-5 unknown instruction: `SAVE` [this is Earthly's; a `FROM scratch` stage with `COPY --from` \
               holds the results, `rbuild -o type=local,dest=DIR --target STAGE` writes them]"],
        ),
        (
            "A235 Docker in a build",
            "WITH DOCKER --load x",
            &["!2:1-5 unknown instruction: `WITH` [this is Earthly's; a build has no Docker inside, start what is \
               needed in the same `RUN`]"],
        ),
        (
            "A235 other files",
            "IMPORT ./lib",
            &["!2:1-7 unknown instruction: `IMPORT` [this is Earthly's; other files are other builds, whose images \
               `FROM` and `COPY --from` name]"],
        ),
        (
            "A235 functions",
            "FUNCTION",
            &["!2:1-9 unknown instruction: `FUNCTION` [this is Earthly's; put what is shared into a stage]"],
        ),
        (
            "A235 the first line of an Earthfile",
            "!VERSION 0.8",
            &["!1:1-8 unknown instruction: `VERSION` [this is an Earthfile; a Dockerfile begins with `FROM`]"],
        ),
        ("A236 a mark of makisu's is a comment", "#!COMMIT\nLABEL a=b", &["Label a=b"]),
    ]);
}

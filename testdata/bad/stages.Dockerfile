FROM busybox AS base
COPY --from=2 a a
COPY --from=later a a
COPY --from=base a a
COPY --from=Nothing a a
COPY --from=7 a a
FROM base AS later
FROM base AS unrelated
FROM later
COPY --from=unrelated a a

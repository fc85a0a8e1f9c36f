FROM later
FROM busybox AS later
FROM scratch
COPY --from=0 a a

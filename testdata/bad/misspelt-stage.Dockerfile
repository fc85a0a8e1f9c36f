FROM busybox AS builder
FROM busybox
COPY --from=biulder a a

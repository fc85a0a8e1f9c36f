ARG EMPTY
ARG VERSION=1
FROM $EMPTY
FROM busybox:$VERSOIN
FROM busybox:$LATE
FROM busybox:$SET
FROM Busybox
FROM a:b:c
FROM --platform=$EMPTY busybox
FROM --platform=$TRAGETPLATFORM busybox
FROM --platform=arm busybox
ARG LATE=1
ENV SET=1

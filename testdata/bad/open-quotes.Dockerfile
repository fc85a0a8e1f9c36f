FROM busybox
ENV A="b
LABEL a='b c="d"
COPY "a b" /c
WORKDIR ${HOME
RUN --mount='type=cache,target=/x true
RUN <<EOF
never ends

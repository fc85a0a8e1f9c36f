FROM busybox
ENV A=a EMPTY= P=notaport
COPY --chmod=$A a b
COPY --chmod=rwx a b
COPY --chown=a:b:c a b
COPY a b c
COPY a b # comment
COPY a[ b
COPY ["a" "b"] c
COPY --exclude=a[ a b
EXPOSE $P 99999$EMPTY
ENV $EMPTY=1
LABEL $UNSET=1
VOLUME $EMPTY
STOPSIGNAL SIGFOO
STOPSIGNAL SIGTREM
WORKDIR ${NOT_SET:?name the directory}
RUN --mount=type=$A,target=/x true
RUN --mount=target=$EMPTY. true

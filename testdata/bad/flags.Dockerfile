FROM --plattform=linux/amd64 busybox
COPY --colour=red --chown a /a
COPY --link=maybe --from=a --from=b a /a
COPY --from=$STAGE a /a
COPY --chmod=99999 a /a
RUN --network=hots --security= --mount=type=wormhole,target=/x true
RUN --mount=type=cache,target=/x,sharing=lockd true
RUN --mount="type=bind true
RUN --mount=type=secret true
CMD --interactive sh
ADD --checksum=sha256:0 a b /c
HEALTHCHECK --interval=30 --timeout=1us --retries=-1 CMD true

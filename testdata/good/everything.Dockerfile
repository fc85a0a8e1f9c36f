# syntax=docker/dockerfile:1.7
# check=skip=SecretsUsedInArgOrEnv;error=false

# BASE what everything starts from
ARG BASE=debian:trixie OTHER="quoted value"

# build compiles the program
FROM --platform=$BUILDPLATFORM ${BASE} AS build
ARG TARGETARCH BASE
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV A=1 B="two words" C='$single' D=esc\ aped \
    # a comment between
    E=${A:-x}${B:+y}${C#\$}${D%%e*}${E//a/b}
RUN --mount=type=cache,target=/root/.cache,sharing=locked \
    --mount=type=bind,source=go.mod,target=go.mod \
    --mount=type=secret,id=token,env=TOKEN,required \
    --mount=type=ssh --mount=type=tmpfs,target=/tmp,size=64m \
    --network=none --security=sandbox \
    make ARCH=$TARGETARCH
RUN <<-'EOF'
	echo "$A" > /out
	EOF
RUN python3 <<ONE && cat <<TWO
print("one")
ONE
two
TWO
ADD --checksum=sha256:0123 --chmod=0644 --unpack=false https://example.org/a.tar.gz /a/
ADD --keep-git-dir=true --link https://example.org/x.git#main /git

FROM scratch AS final
COPY --from=build --chown=65534:65534 --parents --exclude=*.o /src/./out /
COPY --chmod=u=rwX,go=rX <<one.conf <<"two.conf" /etc/
a=$A
one.conf
b=$B
two.conf
LABEL org.example.name="a program" version=1
VOLUME ["/data", "/with blank"]
EXPOSE 80 443/tcp 8000-8010/udp
STOPSIGNAL SIGTERM
USER 65534
WORKDIR /data
HEALTHCHECK --interval=1m30s --timeout=5s --start-period=0s --start-interval=500ms --retries=3 CMD ["/out", "--check"]
ONBUILD COPY . /data
ENTRYPOINT ["/out"]
CMD []

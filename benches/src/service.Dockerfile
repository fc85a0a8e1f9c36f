
# ---------------------------------------------------------------- service @
# service-@-build compiles the service and its tools
FROM --platform=$BUILDPLATFORM golang:${GO_VERSION}-bookworm AS service-@-build
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=0.0.@-dev
ENV CGO_ENABLED=0 \
    GOFLAGS="-trimpath -mod=readonly" \
    GOCACHE=/cache/go-build
WORKDIR /src/service-@

# Dependencies change less often than the code that uses them.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod \
    go mod download -x
COPY cmd/ ./cmd/
COPY ["internal files", "third party", "./internal/"]
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/cache/go-build,id=build-@ \
    set -eux; \
    # the version ends up in the program
    export GOOS="$TARGETOS" GOARCH="$TARGETARCH"; \
    go build -ldflags "-s -w -X main.version=${VERSION}" -o /out/service-@ ./cmd/service; \
    if [ "$TARGETARCH" = amd64 ]; then \
        go test ./...; \
    fi; \
    /out/service-@ --version

# service-@ is what runs
FROM ${REGISTRY}/debian:${DEBIAN_VERSION} AS service-@
LABEL org.opencontainers.image.title="service @" \
      org.opencontainers.image.source="https://git.example.com/services/service-@" \
      org.opencontainers.image.licenses=Apache-2.0
ENV LANG=C.UTF-8 SERVICE_HOME=/srv/service-@
ENV PATH=$SERVICE_HOME/bin:$PATH
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        ca-certificates \
        curl \
        libsqlite3-0 \
        tzdata \
    && rm -rf /var/lib/apt/lists/*
RUN <<EOF
set -e
groupadd --system --gid 10@ service
useradd --system --uid 10@ --gid service --home-dir "$SERVICE_HOME" service
install -d -o service -g service /var/lib/service "$SERVICE_HOME"
EOF
COPY <<EOF /etc/service/config.toml
[server]
home = "${SERVICE_HOME}"
listen = "0.0.0.0:8080"
workers = 4
EOF
COPY --from=service-@-build --chown=service:service /out/service-@ /usr/local/bin/
COPY --chmod=755 docker/entrypoint.sh /usr/local/bin/entrypoint.sh
ADD assets.tar.gz ${SERVICE_HOME}/assets/
WORKDIR ${SERVICE_HOME}
USER service
VOLUME /var/lib/service
EXPOSE 8080 9090/udp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=3s --retries=5 \
    CMD curl --fail --silent http://localhost:8080/healthz || exit 1
ENTRYPOINT ["entrypoint.sh"]
CMD ["service-@", "--config", "/etc/service/config.toml"]

# syntax=docker/dockerfile:1
# check=skip=SecretsUsedInArgOrEnv

# Everything the services have in common.
ARG GO_VERSION=1.25
ARG DEBIAN_VERSION=trixie-slim
ARG REGISTRY=registry.example.com/library

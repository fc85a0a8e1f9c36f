# node:8.4 as Docker Hub has it, as far as the demo can tell: Debian with node and npm in /usr/local.
FROM debian:trixie
COPY root/ /
ENV NODE_VERSION=8.4.0
CMD ["node"]

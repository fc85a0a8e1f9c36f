# python:3 as Docker Hub has it, as far as the tests can tell: `python` and `pip` that install without a virtual
# environment.
FROM debian:trixie
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 python3-pip \
 && ln -s python3 /usr/bin/python \
 && rm -rf /var/lib/apt/lists/*
ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore
CMD ["python"]

FROM ubuntu:14.04 # the base
RUN apt-get update
EXPOSE 80　30　# ports
EXPOSE 80 # web
EXPOSE　80
EMTRYPOINT ["nginx"]

FROM debian as
ENV A B=c
ENV A=b c
ENV = x
WORKDIR
RUN
COPY a
CMD ["ls" "-a"]
ENTRYPOINT ['a']
EMTRYPOINT ["a"]
EXPOSE 80:80 http
SHELL bash
HEALTHCHECK --interval=5 CMD true
HEALTHCHECK curl localhost
RUN apt-get update
    && apt-get install -y curl
RUN pip install
    -r requirements.txt
npm install
WORKDR /app
LABEL version=1.0 description=the best of all
ARG name = value
COPY --form=build a b
RUN --mount type=cache,target=/x true
VOLUME []
MAINTAINER
USER
STOPSIGNAL

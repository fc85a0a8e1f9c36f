FROM debian
RUN apt-get update &&
    apt-get install -y curl
// a comment of another language
RUN　echo full-width

FROM busybox
ENV A=b \
RUN true
RUN apt-get update && \
    apt-get install -y curl && \
COPY app /app
CMD ["app"]

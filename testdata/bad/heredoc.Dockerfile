FROM busybox
RUN echo $((1 << 2))
RUN echo never read

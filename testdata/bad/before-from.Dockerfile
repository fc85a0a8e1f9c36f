ARG A=1
RUN echo hi
CMD x
FROM busybox

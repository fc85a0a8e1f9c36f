ARG A=b # c
FROM busybox # d
ENV A=b # c
COPY a /b # c

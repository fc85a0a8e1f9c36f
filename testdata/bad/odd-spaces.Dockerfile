FROM busybox
FROM busybox　AS x
ENV A　b
LABEL　a=b
EXPOSE 80 80
COPY a　b
ADD a b c

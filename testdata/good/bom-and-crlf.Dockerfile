FROM busybox
LABEL a=1 \
      b=2
COPY <<EOF /x
line
EOF

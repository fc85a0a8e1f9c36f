FROM busybox
COPY a <<EOF
x
EOF
COPY --from=a <<EOF /x
x
EOF
COPY << EOF /x
x
EOF
RNU <<EOF
x
EOF

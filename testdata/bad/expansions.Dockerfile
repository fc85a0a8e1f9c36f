ARG A=${
FROM busybox:${A
ENV B=1
LABEL x=${B y="z" w='open
COPY ${B^^} \
     ${} "/dir
WORKDIR ${B:=x}
COPY <<EOF /x
$B ${B
EOF

FROM busybox
RUN <<EOF
echo x
  EOF
COPY onlyone
RUN <<EOF
echo x
EOF 
COPY onlyone, but inside of the document

FROM busybox
RUN [ -d /etc ] && [ "$HOME" = "/root" ]
CMD ["ls" "-a"]

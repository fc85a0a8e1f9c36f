FROM broken
RUN true

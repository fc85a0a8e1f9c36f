# escape=^
FROM scratch
RUN echo the backslash \
  is still there

FROM python:3.4
RUN groupadd uwsgi	# a comment of the shell
WORKDIR /app	# becomes part of the path
COPY app /app	# becomes sources
EXPOSE 9090 9191	# becomes ports
USER uwsgi	# becomes part of the name
CMD ["/cmd.sh"]	# no array any more

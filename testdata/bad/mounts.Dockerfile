FROM busybox
RUN --mount='"type=cache"x,target=/x' true
RUN --mount=type=cache,tagret=/x true
RUN --mount=type=bind,target true
RUN --mount=type=cache,target=/ true
RUN --mount=type=secret true
RUN --mount=type=tmpfs,target=/x,size=big true
RUN --mount=type=cache,target=/x,mode=rwx,uid=root true
RUN --mount=type=bind,target=/x,rw=maybe true
RUN --mount=type=bind,target=/x,from=$STAGE true
RUN --mount=type=tmpfs,target=/x,id=y true
RUN --device=a/b=c,name=d true
RUN --device=a/b=c,requierd true
RUN --device=required true

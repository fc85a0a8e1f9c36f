ARG A = b
ARG C =d
ARG E= f
FROM busybox
ENV A= b
ENV B=c D = e
ENV F=g =h
LABEL a=the best of all b=c d e
ENV =x
ENV = x

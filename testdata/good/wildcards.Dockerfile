FROM centos:7
MAINTAINER someone someone@example.org
RUN yum -y install gcc make
RUN mkdir -p /home/app/
COPY ./* /home/app/
COPY [ab]*.txt /home/app/
WORKDIR /home/app

#!/bin/sh
# Stand-ins for the JDK's and Tomcat's archives: same layout, a few bytes.
set -eu
cd "${1:-$(dirname "$0")}"
work=$(mktemp -d)
mkdir -p "$work/jdk-8/bin" "$work/jdk-8/lib" "$work/apache-tomcat-9/bin" "$work/apache-tomcat-9/logs"
printf '#!/bin/sh\necho "java stand-in"\n' >"$work/jdk-8/bin/java"
printf '#!/bin/sh\njava >"$CATALINA_HOME/logs/catalina.out"\necho Tomcat started.\n' >"$work/apache-tomcat-9/bin/startup.sh"
chmod 755 "$work/jdk-8/bin/java" "$work/apache-tomcat-9/bin/startup.sh"
tar -C "$work" --owner=0 --group=0 --sort=name --mtime=@1700000000 -czf jdk-8u11-linux-x64.tar.gz jdk-8
tar -C "$work" --owner=0 --group=0 --sort=name --mtime=@1700000000 -czf apache-tomcat-9.0.22.tar.gz apache-tomcat-9
rm -rf "$work"

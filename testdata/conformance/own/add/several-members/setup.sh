echo one > one; echo two > two; tar --sort=name --numeric-owner --owner=0 --group=0 --mtime=@1234567890 -cf a.tar one two
{ head -c 700 a.tar | gzip -n; tail -c +701 a.tar | gzip -n; } > a.tgz
mv a.tar b.tar; echo trailing >> b.tar; rm one two

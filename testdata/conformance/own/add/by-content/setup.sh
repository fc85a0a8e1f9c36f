for n in 1 2 3 4; do echo $n > n$n; done
tar --sort=name --numeric-owner --owner=0 --group=0 --mtime=@1234567890 -cf a.txt n1; tar --sort=name --numeric-owner --owner=0 --group=0 --mtime=@1234567890 -cf - n2 | gzip -n > b.png; tar --sort=name --numeric-owner --owner=0 --group=0 --mtime=@1234567890 -cf - n3 | bzip2 > c; tar --sort=name --numeric-owner --owner=0 --group=0 --mtime=@1234567890 -cf - n4 | xz > d.zst
: > empty.tar.gz; : > empty; head -c 20 b.png > half.tar.gz; echo text | gzip -n > text.gz; rm n?

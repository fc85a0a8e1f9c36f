echo x > x; ln -s x l; mkdir m; tar --sort=name --numeric-owner --owner=1 --group=2 --mtime=@1234567890 -cf a.tar x l m; rm -r x l m

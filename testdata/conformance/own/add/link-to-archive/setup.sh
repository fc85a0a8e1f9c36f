echo x > x; mkdir d; tar --sort=name --numeric-owner --owner=0 --group=0 --mtime=@1234567890 -cf d/a.tar x; ln -s d/a.tar link; rm x

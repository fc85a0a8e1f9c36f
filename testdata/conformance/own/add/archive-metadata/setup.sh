mkdir -m 750 d; echo f > d/f; chmod 4711 d/f; echo g > g; chmod 0 g
tar --sort=name --numeric-owner --owner=12 --group=34 --mtime=@1234567890 -czf a.tar.gz d g; rm -rf d g

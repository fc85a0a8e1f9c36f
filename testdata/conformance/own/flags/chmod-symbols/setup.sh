mkdir -p d/sub; chmod 755 d; chmod 750 d/sub
for mode in 644 755 600; do echo x > d/f$mode; chmod $mode d/f$mode; done

mkdir -p d/sub; echo f > d/sub/f; chmod 700 d; chmod 711 d/sub

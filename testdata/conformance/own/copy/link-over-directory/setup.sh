mkdir src; ln -s elsewhere src/name

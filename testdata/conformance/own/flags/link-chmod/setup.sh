mkdir -p links/real; ln -s real links/alias; echo x > links/real/x

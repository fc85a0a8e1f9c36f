long=$(printf 'd%.0s' $(seq 90)); mkdir -p "$long"; echo x > "$long/$(printf 'f%.0s' $(seq 90))"; echo u > ünïcode; echo s > short
options='--sort=name --numeric-owner --owner=0 --group=0 --mtime=@1234567890'
tar $options --format=v7 -cf v7.tar short; tar $options --format=ustar -cf ustar.tar "$long" ünïcode
tar $options --format=gnu -cf gnu.tar "$long" ünïcode short; tar $options --format=pax -cf pax.tar "$long" ünïcode short; rm -r "$long" ünïcode short

mkdir -p d/sub; echo in > d/in; echo t > target; echo s > d/sub/s
ln -s /target abs; ln -s ../../../target up; ln -s d dir-link; ln -s dir-link chain; ln -s sub/s d/nested

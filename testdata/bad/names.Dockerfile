FROM busybox AS 1st!
FRMO scratch
COPPY a b
Rum echo
apt-get install
FROM busybox base
FROM busybox AS
FROM
FROM a b c d

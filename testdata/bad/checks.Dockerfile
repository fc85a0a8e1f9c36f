# check=skip rule=all
FROM scratch

# escape=\
# escape=`
# syntax=r2d4/mocker
# check=skip=StageNameCassing;eror=true
FROM scratch

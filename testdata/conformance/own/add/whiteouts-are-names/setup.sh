python3 - <<'P'
import tarfile, io
def make(path, entries, format=tarfile.GNU_FORMAT, mode='w'):
    with tarfile.open(path, mode, format=format) as t:
        for name, kind, value in entries:
            i = tarfile.TarInfo(name)
            i.mtime = 1111111111
            i.type = {'f': tarfile.REGTYPE, 'd': tarfile.DIRTYPE, 'l': tarfile.SYMTYPE, 'h': tarfile.LNKTYPE}[kind]
            i.mode = 0o755 if kind == 'd' else 0o644
            data = value.encode() if kind == 'f' else b''
            if kind in 'lh': i.linkname = value
            i.size = len(data)
            t.addfile(i, io.BytesIO(data))
make('a.tar', [('.wh.keep', 'f', ''), ('x', 'f', 'x')])
P

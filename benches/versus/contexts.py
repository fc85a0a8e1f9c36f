"""What is built?  Directories with a Dockerfile, each made once per file system; the same bytes for every builder."""

import hashlib
import os
import pathlib
import random

MIB = 1 << 20


def write(directory: pathlib.Path, dockerfile: str) -> pathlib.Path:
    """A context; its Dockerfile is written only if it is another one."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "Dockerfile"
    if not file.exists() or file.read_text() != dockerfile:
        file.write_text(dockerfile)
    return directory


def small(directory: pathlib.Path) -> pathlib.Path:
    """10 instructions, 20 files."""
    if not directory.exists():
        write(directory, "FROM busybox\nARG MODE=fast\nENV MODE=$MODE\nLABEL mode=$MODE\nWORKDIR /app\nCOPY 1 /etc/one\n"
              "COPY . .\nRUN cat * >/dev/null\nUSER nobody\nCMD [\"sh\"]\n")
        for number in range(20):
            (directory / str(number)).write_text(f"{number}\n")
    return directory


def lines(directory: pathlib.Path) -> pathlib.Path:
    """500 lines in 10 stages."""
    if not directory.exists():
        text = []
        for stage in range(10):
            text.append(f"FROM busybox AS s{stage}")
            for number in range(23):
                text.append(f"ENV V{number}={stage}.{number} W{number}=\"$V0 {number}\"")
                text.append(f"LABEL l{number}=\"${{V{number}:-none}}\"")
            text.append("WORKDIR /work")
            text.append(f"RUN echo {stage} >/s{stage}")
        text += ["FROM busybox"] + [f"COPY --from=s{stage} /s{stage} /" for stage in range(10)]
        text += ["ENV END=1"] * (500 - len(text))
        write(directory, "\n".join(text) + "\n")
    return directory


def many(directory: pathlib.Path, files: int = 50_000, most: int = 14 << 10) -> pathlib.Path:
    """So many files of up to so many bytes, ten to a directory, a hundred directories to a directory."""
    if not directory.exists():
        write(directory, "FROM busybox\nCOPY . /app\n")
        chance = random.Random(1)
        block = chance.randbytes(most + 4096)
        for number in range(files):
            place = directory / f"{number // 1000}/{number // 10 % 100}"
            if number % 10 == 0:
                place.mkdir(parents=True)
            start = chance.randrange(4096)
            with open(place / str(number % 10), "wb", buffering=0) as file:
                file.write(b"%d" % chance.getrandbits(60) + block[start:start + chance.randrange(most)])
    return directory


def long(directory: pathlib.Path, files: int) -> pathlib.Path:
    """So many files of some bytes with names of 200 bytes, a thousand to a directory."""
    write(directory, "FROM busybox\nCOPY . /app\n")
    for number in range(files):
        place = directory / str(number // 1000)
        if number % 1000 == 0:
            place.mkdir()
        name = 3 * hashlib.sha256(b"%d" % number).hexdigest() + f"{number:08}"
        with open(place / name, "wb", buffering=0) as file:
            file.write(b"%d\n" % number)
    return directory


def flat(directory: pathlib.Path, files: int) -> pathlib.Path:
    """So many files of a hundred bytes in one directory, copied by a wildcard."""
    write(directory, "FROM busybox\nCOPY d/* /app/\n")
    (directory / "d").mkdir()
    for number in range(files):
        with open(directory / f"d/file-{number:07}", "wb", buffering=0) as file:
            file.write(b"%099d\n" % number)
    return directory


def pair(directory: pathlib.Path, files: int) -> pathlib.Path:
    """What `flat` made, with two names for each file: the second half of the files become names of the first."""
    write(directory, "FROM busybox\nCOPY . /app\n")
    for number in range(files // 2):
        second = directory / f"d/file-{files - 1 - number:07}"
        second.unlink()
        os.link(directory / f"d/file-{number:07}", second)
    return directory


def noise(path: pathlib.Path, size: int, seed: int = 0) -> pathlib.Path:
    """A file that compresses to somewhat more than half, with nothing in it that comes again at a round distance."""
    if path.exists() and path.stat().st_size == size:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    chance = random.Random(f"{size} {seed}")
    words = [b"%x" % chance.getrandbits(chance.randrange(8, 60)) for _ in range(4000)]
    text = b" ".join(chance.choices(words, k=3 * MIB // 8))
    with open(path, "wb", buffering=0) as file:
        left = size
        while left > 0:
            start = chance.randrange(len(text) - MIB)
            piece = text[start:start + chance.randrange(64 << 10, MIB)] + chance.randbytes(512 << 10)
            left -= file.write(piece[:left])
    return path


def written(directory: pathlib.Path, size: int, mark: str) -> pathlib.Path:
    """A RUN that writes so many bytes, other ones for every mark.

    They are a block again and again, whose length is odd: a builder that remembers what it has compressed in pieces of some
    size does not find a piece again.
    """
    block = 16 * MIB + 4321
    write(directory, f"FROM busybox\nCOPY block /block\nRUN {{ echo {mark}; for i in $(seq {max(1, size // block)}); "
          "do cat /block; done; } >/data\n")
    noise(directory / "block", block)
    return directory

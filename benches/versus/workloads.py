"""What is done?  Each workload makes its context once and is then asked of every builder, one after the other, in turns.

A workload is a function of a builder, a directory for it alone, and the number of the round; it returns the cost of what
counts.  What comes before (a first build, an edit) it does itself.
"""

import os
import pathlib
import random
import shutil

from builders import Builder
from meter import Cost

WORKLOADS: dict[str, "Workload"] = {}


class Workload:
    def __init__(self, name: str, title: str, rounds: int, measure, slow: bool):
        self.name, self.title, self.rounds, self.measure, self.slow = name, title, rounds, measure, slow


def workload(title: str, rounds: int = 1, slow: bool = False):
    def enter(function):
        name = function.__name__.replace("_", "-")
        WORKLOADS[name] = Workload(name, title, rounds, function, slow)
        return function

    return enter


def write(directory: pathlib.Path, dockerfile: str) -> pathlib.Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "Dockerfile").write_text(dockerfile)
    return directory


def small(directory: pathlib.Path) -> pathlib.Path:
    if not directory.exists():
        write(directory, "FROM busybox\nCOPY . /app\nWORKDIR /app\nRUN cat * >/dev/null\nCMD sh\n")
        for number in range(20):
            (directory / str(number)).write_text(f"{number}\n")
    return directory


def many(directory: pathlib.Path) -> pathlib.Path:
    """50,000 files of 7 KB on average, in 5,000 directories."""
    if not directory.exists():
        write(directory, "FROM busybox\nCOPY . /app\n")
        chance = random.Random(1)
        block = chance.randbytes(32 << 10)
        for outer in range(50):
            for inner in range(100):
                place = directory / f"{outer}/{inner}"
                place.mkdir(parents=True)
                for file in range(10):
                    start = chance.randrange(16 << 10)
                    (place / str(file)).write_bytes(b"%d" % chance.getrandbits(60) + block[start:start + chance.randrange(14 << 10)])
    return directory


def wide_file(directory: pathlib.Path) -> pathlib.Path:
    """500 lines in 10 stages."""
    if not directory.exists():
        lines = []
        for stage in range(10):
            lines.append(f"FROM busybox AS s{stage}")
            for number in range(24):
                lines.append(f"ENV V{number}={stage}.{number} W{number}=\"$V0 {number}\"")
                lines.append(f"LABEL l{number}=\"${{V{number}:-none}}\"")
            lines.append(f"RUN echo {stage} >/s{stage}")
        lines += ["FROM busybox"] + [f"COPY --from=s{stage} /s{stage} /" for stage in range(10)]
        write(directory, "\n".join(lines) + "\n")
    return directory


def cached(builder: Builder, context: pathlib.Path, tag: str, number: int) -> Cost:
    if number == 0:
        builder.build(tag, context)
    return builder.build(tag, context)


@workload("fully cached build, small context", rounds=20)
def cached_small(builder, directory, number):
    return cached(builder, small(directory / "small"), "small", number)


@workload("fully cached 500-line Dockerfile", rounds=10)
def cached_500_lines(builder, directory, number):
    return cached(builder, wide_file(directory / "wide"), "wide", number)


@workload("cold build, 50,000 files")
def cold_many(builder, directory, number):
    return builder.build("many", many(directory / "many"))


@workload("fully cached build, 50,000 files", rounds=5)
def cached_many(builder, directory, number):
    return cached(builder, many(directory / "many"), "many", number)


@workload("one file of 50,000 changed", rounds=3)
def changed_many(builder, directory, number):
    context = many(directory / "many")
    if number == 0:
        builder.build("many", context)
    (context / "25/50/5").write_text(f"changed {os.urandom(8).hex()}\n")
    return builder.build("many", context)


@workload("40 times RUN true, in a chain")
def chain(builder, directory, number):
    lines = "".join(f"RUN true {step}\n" for step in range(40))
    return builder.build("chain", write(directory / "chain", f"FROM busybox\n{lines}"))


@workload("8 independent stages of sleep 1")
def stages(builder, directory, number):
    made = "".join(f"FROM busybox AS s{stage}\nRUN sleep 1; echo {stage} >/{stage}\n" for stage in range(8))
    copies = "".join(f"COPY --from=s{stage} /{stage} /\n" for stage in range(8))
    return builder.build("stages", write(directory / "stages", f"{made}FROM busybox\n{copies}"), jobs=8)


@workload("COPY of one file of 2 GiB", slow=True)
def large_file(builder, directory, number):
    context = write(directory / "large", "FROM busybox\nCOPY data /data\n")
    noise(context / "data", 2 << 30)
    return builder.build("large", context)


@workload("RUN that writes 1 GiB", slow=True)
def large_run(builder, directory, number):
    command = "for i in $(seq 64); do cat /block; done >/data"
    context = write(directory / "run", f"FROM busybox\nCOPY block /block\nRUN {command}\n")
    noise(context / "block", 16 << 20)
    return builder.build("gigabyte", context)


def exported(compression):
    def measure(builder, directory, number):
        context = directory / "run"
        if not context.exists():
            large_run(builder, directory, 0)
        target = directory / f"{compression}.tar"
        cost = builder.export("gigabyte", context, compression, target)
        target.unlink()
        return cost

    return measure


for codec in ("gzip", "zstd", "uncompressed"):
    name = f"export-{codec}"
    WORKLOADS[name] = Workload(name, f"that image as an OCI archive, {codec}", 1, exported(codec), True)


def pushed(compression):
    def measure(builder, directory, number):
        if not (directory / "run").exists():
            large_run(builder, directory, 0)
        return builder.push("gigabyte", compression)

    return measure


for codec in ("gzip", "zstd"):
    name = f"push-{codec}"
    WORKLOADS[name] = Workload(name, f"push of that image to a local registry, {codec}", 1, pushed(codec), True)


@workload("pull of Debian from a local registry, and one RUN", rounds=2)
def pull_and_run(builder, directory, number):
    name = f"{builder.address}/debian"
    if number == 0:
        builder.push("debian", "gzip")
    builder.remove("debian", name)
    context = write(directory / "pulled", f"FROM {name}\nRUN echo {os.urandom(8).hex()}\n")
    pulled = builder.pull("debian")
    built = builder.build("pulled", context)
    builder.remove("pulled")
    return Cost(pulled.wall + built.wall, pulled.cpu + built.cpu, max(pulled.memory, built.memory))


def noise(path: pathlib.Path, size: int) -> None:
    """A file that compresses by a third: half of each block is random."""
    if path.exists() and path.stat().st_size == size:
        return
    chance = random.Random(size)
    with open(path, "wb") as file:
        words = chance.randbytes(1 << 20)
        for start in range(0, size, 2 << 20):
            file.write(chance.randbytes(1 << 20))
            file.write(words[: min(1 << 20, size - start - (1 << 20))])


def clean(directory: pathlib.Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)

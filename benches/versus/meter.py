"""What does a command cost?  Wall time, processor time and anonymous memory of everything it sets in motion.

A builder and all its processes live in a control group of their own, daemons included; what the daemon does for a
command is charged to the command.  Processes that a builder moves to groups elsewhere (BuildKit's RUNs) are not seen.
"""

import dataclasses
import os
import pathlib
import subprocess
import threading
import time

ROOT = pathlib.Path("/sys/fs/cgroup")


@dataclasses.dataclass
class Cost:
    wall: float
    """Seconds."""
    cpu: float
    """Seconds, user and system."""
    memory: int
    """Bytes: the most anonymous memory seen at once."""


class Group:
    """A control group, of whichever version the machine has."""

    def __init__(self, name: str):
        unified = (ROOT / "cgroup.controllers").exists()
        places = [ROOT] if unified else [ROOT / "cpuacct", ROOT / "memory"]
        self.paths = [place / f"versus-{os.getpid()}-{name}" for place in places]
        self.unified = unified
        for path in self.paths:
            path.mkdir(parents=True, exist_ok=True)

    def enter(self) -> None:
        """Moves the calling process here: for `preexec_fn`."""
        for path in self.paths:
            (path / "cgroup.procs").write_text(str(os.getpid()))

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        if self.unified:
            lines = dict(line.split() for line in (self.paths[0] / "cpu.stat").read_text().splitlines())
            return int(lines["usage_usec"]) / 1e6
        return int((self.paths[0] / "cpuacct.usage").read_text()) / 1e9

    def anonymous(self) -> int:
        """Bytes of anonymous memory now."""
        wanted = "anon" if self.unified else "total_rss"
        for line in (self.paths[-1] / "memory.stat").read_text().splitlines():
            name, value = line.split()
            if name == wanted:
                return int(value)
        return 0

    def remove(self) -> None:
        for path in self.paths:
            for _ in range(50):
                for process in (path / "cgroup.procs").read_text().split():
                    try:
                        os.kill(int(process), 9)
                    except ProcessLookupError:
                        pass
                try:
                    path.rmdir()
                    break
                except OSError:
                    time.sleep(0.1)

    def measure(self, command: list[str], environment: dict[str, str]) -> Cost:
        """Runs a command to its end, which must be a good one."""
        peak = base = self.anonymous()
        ended = threading.Event()

        def watch() -> None:
            nonlocal peak
            while not ended.wait(0.01):
                peak = max(peak, self.anonymous())

        watcher = threading.Thread(target=watch)
        before = self.cpu()
        watcher.start()
        started = time.monotonic()
        try:
            result = subprocess.run(command, env={**os.environ, **environment}, preexec_fn=self.enter,
                                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            wall = time.monotonic() - started
        finally:
            ended.set()
            watcher.join()
        if result.returncode != 0:
            raise SystemExit(f"failed: {' '.join(command)}\n{result.stdout.decode(errors='replace')[-4000:]}")
        # A daemon's memory is there before; it counts, what it keeps of earlier commands does not.
        return Cost(wall, self.cpu() - before, max(peak, base))


class Disk:
    """A file system of its own, in a sparse file: nobody's deleted files slow down another one's new ones."""

    def __init__(self, directory: pathlib.Path, name: str, gigabytes: int):
        self.image = directory / f"{name}.img"
        self.path = directory / name
        self.path.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(gigabytes << 30)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", self.image], check=True)
        subprocess.run(["mount", "-o", "loop", self.image, self.path], check=True)

    def used(self) -> int:
        """Bytes that files take on it."""
        subprocess.run(["sync", "-f", self.path], check=True)
        disk = os.statvfs(self.path)
        return (disk.f_blocks - disk.f_bfree) * disk.f_frsize

    def remove(self) -> None:
        subprocess.run(["umount", "-l", self.path], check=False)
        self.image.unlink()

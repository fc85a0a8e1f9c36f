"""Where does a run keep its files, and who cleans up after it?

A run has one directory, and in it file systems of its own, each in a sparse file: nobody's deleted files slow down another
one's new ones, and removing thousands of files costs one unlink. What a killed run left is removed by the next one.
"""

import ctypes
import fcntl
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import tempfile
import time

from meter import ROOT, remove_group

PREFIX = "versus-"
SHUTDOWN = 0x8004587D
"""The request of ext4 that ends a file system without writing out anything."""


class Scratch:
    """The directory of a run; leaving it, for whatever reason, leaves nothing."""

    def __init__(self, place: str | None = None):
        self.top = pathlib.Path(place or tempfile.gettempdir())

    def __enter__(self) -> "Scratch":
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, interrupted)
        remove_leftovers(self.top)
        self.path = pathlib.Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=self.top))
        return self

    def __exit__(self, *_) -> None:
        # A second Ctrl-C does not stop the cleaning.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        remove_directory(self.path)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)

    def free(self) -> int:
        """Gigabytes."""
        return shutil.disk_usage(self.path).free >> 30


def interrupted(number, _frame) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def remove_directory(directory: pathlib.Path) -> None:
    """Unmounts everything below, then removes the files: no file system is emptied file by file."""
    for _ in range(3):
        mounts = [line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
        below = sorted((mount for mount in mounts if mount.startswith(f"{directory}/")), reverse=True)
        if not below:
            break
        for mount in below:
            subprocess.run(["umount", "-l", mount], check=False, stderr=subprocess.DEVNULL)
    for image in directory.glob("*.img"):
        free_loop(image)
    shutil.rmtree(directory, ignore_errors=True)


def free_loop(image: pathlib.Path) -> None:
    """A loop device goes by itself once nothing uses its file system; a moment may pass until then."""
    for attempt in range(300):
        found = subprocess.run(["losetup", "-n", "-O", "NAME", "-j", image], capture_output=True, text=True, check=False)
        devices = found.stdout.split()
        if not devices:
            return
        if attempt == 20:
            subprocess.run(["losetup", "-d", *devices], check=False, stderr=subprocess.DEVNULL)
        time.sleep(0.1)
    print(f"{' '.join(devices)} stays: something still uses {image}")


def remove_leftovers(top: pathlib.Path) -> None:
    """Directories and control groups of runs that are no more."""
    names = {path.name for path in [*ROOT.glob(f"{PREFIX}*"), *ROOT.glob(f"*/{PREFIX}*")]}
    for name in names:
        if dead(name):
            remove_group(name, lambda name=name: kill_members(name))
    for directory in top.glob(f"{PREFIX}*"):
        if dead(directory.name):
            remove_directory(directory)


def dead(name: str) -> bool:
    """Whether the run that a name tells the process of has ended."""
    number = name.removeprefix(PREFIX).split("-")[0]
    return number.isdigit() and not pathlib.Path(f"/proc/{number}").exists()


def kill_members(name: str) -> None:
    for place in [ROOT / name, *ROOT.glob(f"*/{name}")]:
        for members in place.rglob("cgroup.procs"):
            for process in members.read_text().split():
                try:
                    os.kill(int(process), signal.SIGKILL)
                except ProcessLookupError:
                    pass


def settle() -> None:
    """Writes out what waits to be written to any of the file systems, so that it does not slow down what comes next."""
    for disk in Disk.mounted:
        disk.sync()


class Disk:
    """A file system of its own."""

    mounted: list["Disk"] = []

    def __init__(self, directory: pathlib.Path, name: str, gigabytes: int):
        self.image = directory / f"{name}.img"
        self.path = directory / name
        self.path.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(gigabytes << 30)
        # Nothing is left to be done later, while somebody is measured.
        options = ["-E", "lazy_itable_init=0,lazy_journal_init=0", "-J", "size=128"]
        subprocess.run(["mkfs.ext4", "-q", "-F", *options, self.image], check=True)
        subprocess.run(["mount", "-o", "loop,noatime", self.image, self.path], check=True)

        self.mounted.append(self)

    def sync(self) -> None:
        place = os.open(self.path, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(place) != 0:
                raise OSError(ctypes.get_errno(), f"cannot write out {self.path}")
        finally:
            os.close(place)

    def used(self) -> dict[str, int]:
        """Bytes and inodes that are taken."""
        self.sync()
        disk = os.statvfs(self.path)
        return {"bytes": (disk.f_blocks - disk.f_bfree) * disk.f_frsize, "inodes": disk.f_files - disk.f_ffree}

    def remove(self) -> None:
        self.mounted.remove(self)
        # Gigabytes wait to be written into a file that is about to go.
        place = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(place, SHUTDOWN, struct.pack("I", 2))
        except OSError:
            pass
        os.close(place)
        subprocess.run(["umount", "-l", self.path], check=False)
        free_loop(self.image)
        self.image.unlink(missing_ok=True)
        self.path.rmdir()

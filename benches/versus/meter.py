"""What does a command cost?  Wall time, processor time and memory of everything it sets in motion.

A builder and all its processes live in a control group of their own, daemons and the processes of RUN included; what a
daemon does for a command, also in the moment after it, is charged to the command.
"""

import ctypes
import dataclasses
import os
import pathlib
import signal
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path("/sys/fs/cgroup")
SHORT = 0.05
"""Seconds below which samples of memory say little."""


class Failed(Exception):
    """A command did not do what it should; the text is a line that says why."""

    said = ""
    """The end of what it printed."""


class TooLong(Failed):
    """A command was ended because it took longer than it may."""

    def __init__(self, limit: float):
        super().__init__(f"takes more than {limit:g} s")
        self.limit = limit


@dataclasses.dataclass
class Cost:
    wall: float
    """Seconds."""
    cpu: float
    """Seconds, user and system."""
    memory: int
    """Bytes: the most anonymous memory seen at once; of a short command, what was resident of its process."""
    resident: int
    """Bytes: the most that was resident of the process itself or of one it waited for, mapped files included."""
    store: dict[str, int] = dataclasses.field(default_factory=dict)
    """What the command added to the file system: `bytes` and `inodes`."""

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.wall + other.wall, self.cpu + other.cpu, max(self.memory, other.memory),
                    max(self.resident, other.resident), self.store or other.store)


# Puts itself into control groups, says so, waits for a word, and becomes the command. It is a child of a small process,
# not of Python: the kernel counts as its peak also what was resident of the process it came from.
LAUNCHER = """
( for group; do
    [ "$group" != -- ] || break
    shift; sh -c 'echo $PPID >"$0/cgroup.procs"' "$group"
  done
  shift; echo ready >&3; read -r _ <&4; exec "$@" 3>&- 4<&- ) &
echo $! >&3
"""


class Group:
    """A control group, of whichever version the machine has."""

    def __init__(self, name: str):
        self.unified = (ROOT / "cgroup.controllers").exists()
        places = [ROOT] if self.unified else [ROOT / "cpuacct", ROOT / "memory"]
        self.name = f"versus-{os.getpid()}-{name}"
        self.paths = [place / self.name for place in places]
        for path in self.paths:
            path.mkdir(parents=True, exist_ok=True)
        # Orphans come to this process, which the launcher relies on.
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)

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

    def processes(self) -> set[int]:
        """Everything that lives here or in groups below."""
        found: set[int] = set()
        for path in self.paths:
            for members in path.rglob("cgroup.procs"):
                try:
                    found.update(int(process) for process in members.read_text().split())
                except OSError:
                    pass  # the group has just gone
        return found

    def kill(self, spared: set[int] = frozenset()) -> None:
        for process in self.processes() - spared:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def remove(self) -> None:
        remove_group(self.name, self.kill)

    def settle(self, patience: float = 10) -> None:
        """Waits until nothing works here any more."""
        deadline, before = time.monotonic() + patience, self.cpu()
        while time.monotonic() < deadline:
            time.sleep(0.05)
            now = self.cpu()
            if now - before < 0.002:
                return
            before = now

    def measure(self, command: list[str], environment: dict[str, str], limit: float) -> Cost:
        """Runs a command to its end, which must be a good one and come within so many seconds."""
        self.settle()
        residents = self.processes()
        with tempfile.TemporaryFile() as output:
            process, go = self.launch(command, environment, output)
            watcher = Watcher(self, limit, residents)
            watcher.start()
            try:
                before, started = self.cpu(), time.monotonic()
                os.close(go)
                status, usage = os.wait4(process, 0)[1:]
                wall = time.monotonic() - started
            finally:
                watcher.stop()
            output.seek(max(0, output.tell() - 4000))
            said = output.read().decode(errors="replace")
        self.settle()
        if watcher.expired:
            raise TooLong(limit)
        if status != 0:
            error = Failed(reason(said) or f"ended with status {os.waitstatus_to_exitcode(status)}")
            error.said = said
            raise error
        resident = usage.ru_maxrss << 10
        memory = max(watcher.peak, watcher.base + resident) if wall < SHORT else watcher.peak
        return Cost(wall, self.cpu() - before, memory, resident)

    def launch(self, command: list[str], environment: dict[str, str], output) -> tuple[int, int]:
        """A process that becomes the command once the descriptor is closed. It is a session of its own."""
        said, say = os.pipe()
        listen, go = os.pipe()
        arguments = ["sh", "-c", f"exec 3>&{say} 4<&{listen} {say}>&- {listen}<&-\n{LAUNCHER}", "sh",
                     *map(str, self.paths), "--", *command]
        starter = subprocess.Popen(arguments, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT, start_new_session=True, pass_fds=[say, listen])
        os.close(say)
        os.close(listen)
        starter.wait()
        with os.fdopen(said) as lines:
            words = [lines.readline().strip(), lines.readline().strip()]
        return next(int(word) for word in words if word.isdigit()), go


class Watcher(threading.Thread):
    """Looks at the memory of a group while a command runs, and ends the command when its time is over."""

    def __init__(self, group: Group, limit: float, spared: set[int]):
        super().__init__(daemon=True)
        self.group, self.limit, self.spared = group, limit, spared
        self.base = self.peak = group.anonymous()
        self.expired = False
        self.ended = threading.Event()

    def run(self) -> None:
        started, pause = time.monotonic(), 0.002
        while not self.ended.wait(pause):
            passed = time.monotonic() - started
            pause = 0.002 if passed < SHORT else 0.01
            self.peak = max(self.peak, self.group.anonymous())
            if passed > self.limit:
                self.expired = True
                self.group.kill(self.spared)
                pause = 0.2

    def stop(self) -> None:
        self.ended.set()
        self.join()


def reason(said: str) -> str:
    """The line of a program's output that says why it failed: the last, or the last that is marked as one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    marked = [line for line in lines if line.lower().startswith("error")]
    return (marked or lines or [""])[-1][:300]


def remove_group(name: str, kill) -> None:
    """Ends what lives in the groups of a name and removes them, in every hierarchy and with the groups below."""
    places = [ROOT / name, *ROOT.glob(f"*/{name}")]
    for _ in range(50):
        kill()
        left = False
        for place in places:
            for path in sorted([place, *place.rglob("*")], reverse=True):
                try:
                    if path.is_dir():
                        path.rmdir()
                except OSError:
                    left = True
        if not left:
            return
        time.sleep(0.1)

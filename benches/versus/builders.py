"""How is each builder asked to do the same?  State directories are on a file system of their own each."""

import os
import pathlib
import re
import resource
import shutil
import subprocess

from meter import Cost, Disk, Group

TOP = pathlib.Path(__file__).resolve().parents[2]
REFERENCE = str(TOP / "scripts/reference.sh")


class Builder:
    name = ""

    def __init__(self, work: pathlib.Path, disk_gb: int):
        self.group = Group(self.name)
        self.disk = Disk(work, f"disk-{self.name}", disk_gb)
        self.state = self.disk.path / "state"
        self.work = work
        self.environment: dict[str, str] = {}
        self.registry: subprocess.Popen | None = None
        self.address = ""

    def version(self) -> str:
        raise NotImplementedError

    def command(self, *arguments: str) -> list[str]:
        """The whole command line of one of the builder's commands."""
        raise NotImplementedError

    def run(self, *arguments: str) -> Cost:
        return self.group.measure(self.command(*arguments), self.environment)

    def start_registry(self, prefix: list[str]) -> None:
        """Debian's registry, outside of the builder's group, reachable for the builder; `prefix` is put before it."""
        config = self.work / f"registry-{self.name}.yml"
        log = self.work / f"registry-{self.name}.log"
        storage = self.disk.path / "registry"
        config.write_text("version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: %s}}\n"
                          'http: {addr: "127.0.0.1:5050"}\n' % storage)
        if not prefix:
            config.write_text(config.read_text().replace(":5050", ":0"))
        with open(log, "wb") as output:
            self.registry = subprocess.Popen([*prefix, "docker-registry", "serve", str(config)], stdout=output,
                                             stderr=output, stdin=subprocess.DEVNULL)
        for _ in range(200):
            found = re.search(r"listening on (127\.0\.0\.1:\d+)", log.read_text())
            if found:
                self.address = found[1]
                return
            subprocess.run(["sleep", "0.05"], check=True)
        raise SystemExit(f"the registry does not start: {log.read_text()}")

    def stop(self) -> None:
        if self.registry:
            self.registry.kill()
            self.registry.wait()
        self.group.remove()
        self.disk.remove()

    def take(self, archive: pathlib.Path) -> None:
        """Takes a base image out of an archive."""
        copy = self.disk.path / archive.name
        shutil.copy(archive, copy)
        self.load(copy)
        copy.unlink()

    def load(self, archive: pathlib.Path) -> None:
        raise NotImplementedError

    def build(self, tag: str, context: pathlib.Path, jobs: int | None = None) -> Cost:
        raise NotImplementedError

    def export(self, tag: str, context: pathlib.Path, compression: str, target: pathlib.Path) -> Cost:
        """Builds what is built already into an OCI archive."""
        raise NotImplementedError

    def push(self, tag: str, compression: str) -> Cost:
        raise NotImplementedError

    def pull(self, name: str) -> Cost:
        """Gets an image that is not here."""
        raise NotImplementedError

    def remove(self, *names: str) -> None:
        raise NotImplementedError


class Rbuild(Builder):
    name = "rbuild"

    def __init__(self, work: pathlib.Path, disk_gb: int):
        super().__init__(work, disk_gb)
        self.program = os.environ["RBUILD"]
        self.environment = {"RBUILD_ROOT": str(self.state), "RBUILD_GC": "off"}
        self.start_registry([])

    def version(self) -> str:
        return subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True).stdout.strip()

    def command(self, *arguments: str) -> list[str]:
        return [self.program, *arguments]

    def load(self, archive):
        self.run("load", "-i", str(archive))

    def build(self, tag, context, jobs=None):
        return self.run("build", "-q", *(["-j", str(jobs)] if jobs else []), "-t", tag, str(context))

    def export(self, tag, context, compression, target):
        output = f"type=oci,dest={target},compression={compression}"
        return self.run("build", "--progress", "plain", "-o", output, str(context))

    def push(self, tag, compression):
        name = f"{self.address}/{tag}"
        if compression == "zstd":
            raise NotImplementedError
        self.run("tag", tag, name)
        return self.run("push", "-q", name)

    def pull(self, name):
        return self.run("pull", "-q", f"{self.address}/{name}")

    def remove(self, *names):
        self.run("rmi", "-f", *names)
        self.run("prune", "-af")


class Reference(Builder):
    """A builder that `scripts/reference.sh` installs and starts."""

    def __init__(self, work: pathlib.Path, disk_gb: int):
        super().__init__(work, disk_gb)
        # Paths below it mean the same for the builder: state, contexts and archives are all there.
        self.environment = {"TMPDIR": str(self.disk.path)}
        self.state.mkdir()
        environment = {**os.environ, **self.environment}
        started = subprocess.run([REFERENCE, "start", self.name, str(self.state)], env=environment,
                                 preexec_fn=self.group.enter, stdin=subprocess.DEVNULL)
        if started.returncode != 0:
            self.stop()
            raise SystemExit(f"{self.name} does not start")
        first = subprocess.run(["pgrep", "-P", (self.state / "pid").read_text().strip()], capture_output=True, text=True)
        self.start_registry(["nsenter", "--net", "--target", first.stdout.split()[0], "--"])

    def command(self, *arguments):
        return [REFERENCE, "exec", str(self.state), self.name, *arguments]

    def version(self):
        found = subprocess.run(self.command("--version"), env={**os.environ, **self.environment}, capture_output=True,
                               text=True, check=True)
        return found.stdout.strip()

    def stop(self):
        subprocess.run([REFERENCE, "stop", str(self.state)], env={**os.environ, **self.environment}, check=False)
        super().stop()


class Docker(Reference):
    name = "docker"

    def load(self, archive):
        self.run("load", "-i", str(archive))

    def build(self, tag, context, jobs=None):
        return self.run("build", "-q", "-t", tag, str(context))

    def export(self, tag, context, compression, target):
        output = f"type=oci,dest={target},compression={compression},force-compression=true"
        return self.run("build", "-q", "-o", output, str(context))

    def push(self, tag, compression):
        if compression != "gzip":
            raise NotImplementedError
        name = f"{self.address}/{tag}"
        self.run("tag", tag, name)
        return self.run("push", "-q", name)

    def pull(self, name):
        return self.run("pull", "-q", f"{self.address}/{name}")

    def remove(self, *names):
        self.run("rmi", "-f", *names)
        self.run("builder", "prune", "-af")


class Buildah(Reference):
    name = "buildah"

    def load(self, archive):
        self.run("pull", "-q", f"docker-archive:{archive}")

    def build(self, tag, context, jobs=None):
        # buildah wants to raise the limits of what it runs; this process's own are always allowed.
        limits = [("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)]
        allowed = [f"--ulimit={name}={resource.getrlimit(kind)[1]}" for name, kind in limits]
        options = ["--layers", "-q", "--pull=never", "--network=host", *allowed, "-t", tag]
        return self.run("build", *options, *(["--jobs", str(jobs)] if jobs else []), str(context))

    def export(self, tag, context, compression, target):
        if compression == "uncompressed":
            raise NotImplementedError
        options = ["--compression-format", compression, "--force-compression"]
        return self.run("push", "-q", *options, tag, f"oci-archive:{target}")

    def push(self, tag, compression):
        options = ["--compression-format", compression, "--force-compression", "--tls-verify=false"]
        return self.run("push", "-q", *options, tag, f"docker://{self.address}/{tag}")

    def pull(self, name):
        return self.run("pull", "-q", "--tls-verify=false", f"{self.address}/{name}")

    def remove(self, *names):
        self.run("rmi", "-f", *names)
        self.run("rmi", "--prune", "--force")


BUILDERS = {builder.name: builder for builder in (Rbuild, Docker, Buildah)}

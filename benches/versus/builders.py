"""How is each builder asked to do the same?  State, contexts and registry are on a file system of their own each.

RUN has the network of whoever builds: what each builder makes by itself is not the same.
"""

import os
import pathlib
import resource
import shutil
import subprocess

from meter import Cost, Failed, Group
from registry import Registry
from scratch import Disk, settle

TOP = pathlib.Path(__file__).resolve().parents[2]
REFERENCE = str(TOP / "scripts/reference.sh")


class Unsupported(Failed):
    """A builder has no way to be asked for this."""


class Builder:
    name = ""
    title = ""
    """For people."""
    prune: tuple[str, ...] = ()
    """The command that removes what nothing needs."""

    def __init__(self, work: pathlib.Path, disk_gb: int):
        self.limit = 600.0
        """Seconds after which a command is ended."""
        self.group = Group(self.name)
        self.disk = Disk(work, f"disk-{self.name}", disk_gb)
        self.state = self.disk.path / "state"
        self.environment: dict[str, str] = {}
        self.registry: Registry | None = None

    def version(self) -> str:
        found = subprocess.run([*self.command("--version")], env={**os.environ, **self.environment}, capture_output=True,
                               text=True, check=True)
        return found.stdout.strip()

    def command(self, *arguments: str) -> list[str]:
        """The whole command line of one of the builder's commands."""
        raise NotImplementedError

    def run(self, *arguments: str) -> Cost:
        settle()
        return self.group.measure(self.command(*arguments), self.environment, self.limit)

    def address(self) -> str:
        """Of the registry, which starts with the first question for it."""
        if self.registry is None:
            self.registry = self.start_registry()
        return self.registry.address

    def start_registry(self) -> Registry:
        return Registry(self.disk.path)

    def stop(self) -> None:
        """Ends everything; the file system stays, others' mount namespaces may still have it."""
        if self.registry:
            self.registry.stop()
        self.group.remove()

    def take(self, archive: pathlib.Path) -> None:
        """Takes a base image out of an archive."""
        copy = self.disk.path / archive.name
        shutil.copy(archive, copy)
        self.load(copy)
        copy.unlink()

    def load(self, archive: pathlib.Path) -> None:
        self.run("load", "-i", str(archive))

    def build(self, tag: str, context: pathlib.Path, jobs: int | None = None) -> Cost:
        """Builds an image into the store. A base image with the registry's address comes from there."""
        raise NotImplementedError

    def prepare(self, tag: str, context: pathlib.Path) -> None:
        """Builds without compressing anything, so that what an export or a push compresses is compressed then."""
        self.build(tag, context)

    def export(self, tag: str, context: pathlib.Path, compression: str, target: pathlib.Path) -> Cost:
        """Writes what is prepared into an OCI archive."""
        raise NotImplementedError

    def push(self, tag: str, context: pathlib.Path, compression: str) -> Cost:
        """Pushes what is prepared."""
        raise NotImplementedError

    def pull(self, name: str) -> Cost:
        """Gets an image that is not here."""
        return self.run("pull", "-q", f"{self.address()}/{name}")

    def remove(self, *names: str) -> None:
        """Removes images, which need not be there, and everything that was built."""
        for name in names:
            try:
                self.run("rmi", "-f", name)
            except Failed:
                pass
        self.run(*self.prune)


class Rbuild(Builder):
    name = title = "rbuild"
    prune = ("prune", "-af")

    def __init__(self, work: pathlib.Path, disk_gb: int):
        super().__init__(work, disk_gb)
        self.program = os.environ["RBUILD"]
        self.environment = {"RBUILD_ROOT": str(self.state), "RBUILD_GC": "off"}

    def command(self, *arguments: str) -> list[str]:
        return [self.program, *arguments]

    def build(self, tag, context, jobs=None):
        options = ["--network=host", *(["-j", str(jobs)] if jobs else [])]
        return self.run("build", "-q", *options, "-t", tag, str(context))

    def export(self, tag, context, compression, target):
        return self.built(context, f"type=oci,dest={target},compression={compression}")

    def push(self, tag, context, compression):
        name = f"{self.address()}/{tag}"
        if compression == "gzip":
            self.run("tag", tag, name)
            return self.run("push", "-q", name)
        return self.built(context, f"type=image,name={name},push=true,compression={compression}")

    def built(self, context: pathlib.Path, output: str) -> Cost:
        return self.run("build", "-q", "--network=host", "-o", output, str(context))


class Reference(Builder):
    """A builder that `scripts/reference.sh` installs and starts."""

    def __init__(self, work: pathlib.Path, disk_gb: int):
        super().__init__(work, disk_gb)
        try:
            self.start()
        except BaseException:
            self.stop()
            self.disk.remove()
            raise

    def start(self) -> None:
        # Paths below it mean the same for the builder: state, contexts and archives are all there.
        self.here = {**os.environ, "TMPDIR": str(self.disk.path)}
        self.state.mkdir()
        started = subprocess.run([REFERENCE, "start", self.name, str(self.state)], env=self.here, start_new_session=True,
                                 preexec_fn=self.group.enter, stdin=subprocess.DEVNULL)
        if started.returncode != 0:
            raise SystemExit(f"{self.title} does not start")
        # What a client is started with, rather than the script that starts it: that would take longer than some clients.
        said = subprocess.run([REFERENCE, "how", str(self.state), self.name], env=self.here, capture_output=True,
                              text=True, check=True).stdout.splitlines()
        middle = said.index("--")
        self.environment = {"TMPDIR": str(self.disk.path), **dict(line.split("=", 1) for line in said[:middle])}
        self.words = said[middle + 1:]

    def command(self, *arguments):
        return [*self.words, *arguments]

    def start_registry(self):
        first = subprocess.run(["pgrep", "-P", (self.state / "pid").read_text().strip()], capture_output=True, text=True,
                               check=True)
        return Registry(self.disk.path, 5050, ["nsenter", "--net", "--target", first.stdout.split()[0], "--"])

    def stop(self) -> None:
        subprocess.run([REFERENCE, "stop", str(self.state)], env=self.here, check=False, start_new_session=True)
        super().stop()


class Docker(Reference):
    name = "docker"
    title = "BuildKit"
    prune = ("builder", "prune", "-af")

    def built(self, context: pathlib.Path, *options: str) -> Cost:
        # An attestation is something that nobody else makes; RUN is accounted for where the rest is.
        common = ["-q", "--provenance=false", "--network=host", "--cgroup-parent", f"/{self.group.name}"]
        return self.run("build", *common, *options, str(context))

    def build(self, tag, context, jobs=None):
        return self.built(context, "-t", tag)

    def prepare(self, tag, context):
        self.built(context, "-o", "type=cacheonly")

    def export(self, tag, context, compression, target):
        return self.built(context, "-o", f"type=oci,dest={target},compression={compression},force-compression=true")

    def push(self, tag, context, compression):
        name = f"{self.address()}/{tag}"
        return self.built(context, "-o", f"type=image,name={name},push=true,compression={compression},"
                          "force-compression=true,oci-mediatypes=true,unpack=false")


class Buildah(Reference):
    name = title = "buildah"
    prune = ("rmi", "--prune", "--force")

    def load(self, archive):
        self.run("pull", "-q", f"docker-archive:{archive}")

    def build(self, tag, context, jobs=None):
        # buildah wants to raise the limits of what it runs; this process's own are always allowed.
        limits = [("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)]
        allowed = [f"--ulimit={name}={resource.getrlimit(kind)[1]}" for name, kind in limits]
        options = ["--layers", "-q", "--pull=missing", "--tls-verify=false", "--network=host", *allowed,
                   "--cgroup-parent", f"/{self.group.name}", "-t", tag]
        return self.run("build", *options, *(["--jobs", str(jobs)] if jobs else []), str(context))

    def export(self, tag, context, compression, target):
        options = {"uncompressed": ["--disable-compression"]}.get(
            compression, ["--compression-format", compression, "--force-compression"])
        return self.run("push", "-q", *options, tag, f"oci-archive:{target}")

    def push(self, tag, context, compression):
        options = ["--compression-format", compression, "--force-compression", "--tls-verify=false"]
        return self.run("push", "-q", *options, tag, f"docker://{self.address()}/{tag}")

    def pull(self, name):
        return self.run("pull", "-q", "--tls-verify=false", f"{self.address()}/{name}")


BUILDERS = {builder.name: builder for builder in (Rbuild, Docker, Buildah)}

#!/usr/bin/env python3
"""conform.py - black-box differential conformance harness for Dockerfile builders.

It builds every case (a Dockerfile plus a build context) with a candidate
builder, reads the image that comes out, reduces it to a normalised form (a
merged file tree plus the image configuration) and compares that with what a
reference builder makes of the same case.  The reference is either run live or
read from golden files recorded earlier.

    # candidate against the recorded goldens (no reference builder needed)
    conform.py --golden --candidate rbuild --cases visible

    # candidate against a live reference
    conform.py --reference buildkit --candidate buildah --cases visible

    # record goldens beside the cases
    conform.py --reference buildkit --record --cases visible

See README.md for the case format.  Only the standard library is used.  Exit
status: 0 = no failure, 1 = at least one case failed, 2 = could not run.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import datetime
import fnmatch
import functools
import gzip
import hashlib
import io
import itertools
import json
import math
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.request
import uuid

GOLDEN_FORMAT = 1
DEFAULT_TIMEOUT = 120          # seconds for one build
TEXT_LIMIT = 1024              # text files up to this size are kept for diffs

# Files which builders bind-mount into RUN containers.  A leftover stub of them
# is not interesting unless a case says "ignore_defaults": false.
DEFAULT_IGNORE = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"]

# The base images that cases may name, and where they are.  Override with
# $CONFORM_BASES ("name=source,name=source", or "none" to hand over nothing
# and let the builder resolve the plain names by itself).
DEFAULT_BASES = {
    "busybox": "docker-image://127.0.0.1:5000/library/busybox:latest",
    "debian:trixie": "docker-image://127.0.0.1:5000/library/debian:trixie",
}


class HarnessError(Exception):
    """Something is wrong with the harness' surroundings or with a case."""


def base_images() -> dict[str, str]:
    value = os.environ.get("CONFORM_BASES")
    if value is None:
        return dict(DEFAULT_BASES)
    if value.strip() in ("", "none"):
        return {}
    return dict(item.strip().split("=", 1) for item in value.split(","))


def base_archive(name: str) -> pathlib.Path | None:
    """A base image as an archive that `docker load` reads, if the directory
    $CONFORM_BASE_ARCHIVES is given: for builders that reach no registry."""
    directory = os.environ.get("CONFORM_BASE_ARCHIVES")
    return pathlib.Path(directory, name.replace(":", "-") + ".tar") if directory else None


@functools.cache
def base_layers() -> frozenset[str]:
    """The diff-ids of the base images' first layers, asked from the registry.

    Knowing them lets goldens leave the base images' files out, and lets images
    on a rebuilt base be compared.  Without a registry nothing is known, and
    trees are stored and compared in full."""

    def get(url: str) -> dict:
        accept = ("application/vnd.oci.image.manifest.v1+json, "
                  "application/vnd.oci.image.index.v1+json, "
                  "application/vnd.docker.distribution.manifest.v2+json")
        request = urllib.request.Request(url, headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)

    found = set()
    for source in base_images().values():
        host, _, path = source.removeprefix("docker-image://").partition("/")
        name, _, tag = path.partition(":")
        api = f"http://{host}/v2/{name}"
        try:
            manifest = get(f"{api}/manifests/{tag or 'latest'}")
            if "manifests" in manifest:
                manifest = get(f"{api}/manifests/{manifest['manifests'][0]['digest']}")
            config = get(f"{api}/blobs/{manifest['config']['digest']}")
            found.add(config["rootfs"]["diff_ids"][0])
        except (OSError, ValueError, LookupError):
            continue
    return frozenset(found)


# --------------------------------------------------------------------------
# Cases
# --------------------------------------------------------------------------

CASE_KEYS = {
    "about", "dockerfile", "args", "target", "secrets", "contexts", "no_cache",
    "rewrite_timestamp", "expect", "error", "line", "ignore", "ignore_defaults",
    "mtime", "created", "stamps", "steps", "same_digest", "forbid", "timeout",
    "soft", "rows", "history",
}
STEP_KEYS = {
    "name", "run", "dockerfile_from", "args", "target", "secrets", "no_cache",
    "expect", "error", "line", "cache",
}


@dataclasses.dataclass
class Case:
    """One case directory: Dockerfile, case.json, context/, contexts/, setup.sh."""

    path: pathlib.Path
    root: pathlib.Path         # the set that it belongs to
    name: str                  # "<group>/<case>"
    spec: dict

    @classmethod
    def load(cls, path: pathlib.Path, root: pathlib.Path) -> "Case":
        spec = {}
        file = path / "case.json"
        if file.exists():
            try:
                spec = json.loads(file.read_text())
            except ValueError as error:
                raise HarnessError(f"{file}: {error}") from error
        unknown = set(spec) - CASE_KEYS
        for step in spec.get("steps", []):
            unknown |= set(step) - STEP_KEYS
        if unknown:
            raise HarnessError(f"{file}: unknown keys {sorted(unknown)}")
        return cls(path, root, path.relative_to(root).as_posix(), spec)

    @property
    def steps(self) -> list[dict]:
        """The builds to make; a case without steps is one plain build."""
        return self.spec.get("steps") or [{}]

    def setting(self, step: dict, key: str, default=None):
        """A setting of a step, falling back to the one of the whole case."""
        return step.get(key, self.spec.get(key, default))

    def expected(self, step: dict) -> str:
        return self.setting(step, "expect", "ok")

    def fingerprint(self) -> str:
        """A digest over everything that determines the build's inputs.

        Modes are reduced to the executable bit (all that survives a version
        control system), and expectations that only concern the verdict are
        left out, so that rewording an error pattern keeps goldens valid.
        """
        digest = hashlib.sha256()
        for file in sorted(self.path.rglob("*")):
            rel = file.relative_to(self.path).as_posix()
            if rel == "golden.json":
                continue
            if rel == "case.json":
                verdict = ("about", "error", "line", "soft", "ignore",
                           "ignore_defaults", "timeout", "forbid", "rows")
                spec = {k: v for k, v in self.spec.items() if k not in verdict}
                data = json.dumps(spec, sort_keys=True).encode()
            elif file.is_symlink():
                data = b"->" + os.fsencode(os.readlink(file))
            elif file.is_dir():
                continue
            else:
                data = file.read_bytes()
                data += b"x" if file.stat().st_mode & 0o100 else b"-"
            digest.update(rel.encode() + b"\0" + hashlib.sha256(data).digest())
        return digest.hexdigest()


def load_cases(roots: list[pathlib.Path], pattern: str | None) -> list[Case]:
    cases: list[Case] = []
    for root in roots:
        if not root.is_dir():
            raise HarnessError(f"no such directory: {root}")
        found = {p.parent for name in ("Dockerfile", "case.json") for p in root.glob(f"*/*/{name}")}
        cases += [Case.load(path, root) for path in sorted(found)]
    if twice := sorted({a.name for a in cases for b in cases if a is not b and a.name == b.name}):
        raise HarnessError(f"several cases are called {', '.join(twice)}")
    if pattern:
        globs = pattern.split(",")
        cases = [c for c in cases
                 if any(fnmatch.fnmatchcase(c.name, g) or c.name.startswith(g.rstrip("/") + "/")
                        for g in globs)]
    return cases


class Workspace:
    """A private copy of a case's inputs, laid out as

        WORK/context/        the build context
        WORK/contexts/NAME/  further (named) contexts
        WORK/df/Dockerfile   the Dockerfile, unless the case wants it in the context

    Everything is made the same way on each run: umask 022, modes of static
    files 0644/0755, and modification times fixed.  The fixed time depends on
    the case's content because builders that transfer contexts incrementally
    take "same path, size and mtime" as "unchanged", also across builds.
    """

    def __init__(self, case: Case, root: pathlib.Path):
        self.case = case
        self.root = root
        self.context = root / "context"
        self.nonce = uuid.uuid4().hex[:16]
        self.mtime = 1_500_000_000 + int(case.fingerprint()[:7], 16) % 100_000_000
        spec = case.spec

        self._copy_static(case.path / "context", self.context)
        self._copy_static(case.path / "contexts", root / "contexts")
        if "dockerfile" in spec:
            self.dockerfile = self.context / spec["dockerfile"]
        else:
            self.dockerfile = root / "df" / "Dockerfile"
        self.dockerfile.parent.mkdir(parents=True, exist_ok=True)
        if (case.path / "Dockerfile").exists():
            self.place_dockerfile("Dockerfile")
        # A Dockerfile-specific ignore file travels with the Dockerfile.
        ignore = case.path / "Dockerfile.dockerignore"
        if ignore.exists():
            shutil.copyfile(ignore, str(self.dockerfile) + ".dockerignore")

        if (case.path / "setup.sh").exists():
            self.run_script(f". {shlex.quote(str(case.path / 'setup.sh'))}")
        self._fix_times()

    def place_dockerfile(self, name: str) -> None:
        """Install a Dockerfile of the case, replacing @NONCE@ by a token that
        is unique to this run (for cache ids, or to start from a cold cache)."""
        data = (self.case.path / name).read_bytes()
        self.dockerfile.write_bytes(data.replace(b"@NONCE@", self.nonce.encode()))

    def run_script(self, script: str) -> None:
        """Run a set-up or step script with the context as working directory."""
        environment = dict(
            os.environ, LC_ALL="C.UTF-8", TZ="UTC", CASE=str(self.case.path),
            WORK=str(self.root), CONTEXT=str(self.context),
            DOCKERFILE=str(self.dockerfile), NONCE=self.nonce)
        done = subprocess.run(
            ["sh", "-euc", "umask 022\n" + script], cwd=self.context,
            env=environment, stdin=subprocess.DEVNULL, capture_output=True)
        if done.returncode != 0:
            raise HarnessError(
                f"{self.case.name}: set-up failed: {done.stderr.decode(errors='replace')[-500:]}")

    @staticmethod
    def _copy_static(source: pathlib.Path, target: pathlib.Path) -> None:
        target.mkdir(parents=True, exist_ok=True)
        target.chmod(0o755)
        if not source.is_dir():
            return
        for directory, dirs, files in os.walk(source):
            here = target / pathlib.Path(directory).relative_to(source)
            for name in dirs + files:
                old, new = pathlib.Path(directory) / name, here / name
                if old.is_symlink():
                    new.symlink_to(os.readlink(old))
                elif old.is_dir():
                    new.mkdir()
                    new.chmod(0o755)
                elif name != ".gitkeep":     # lets a repository hold an empty directory
                    shutil.copyfile(old, new)
                    new.chmod(0o755 if old.stat().st_mode & 0o100 else 0o644)

    def _fix_times(self) -> None:
        """Set the case's fixed time on all that set-up did not date itself."""
        recent = time.time() - 86400
        paths = [os.fsencode(self.root)]
        for directory, dirs, files in os.walk(os.fsencode(self.root)):
            paths += [os.path.join(directory, name) for name in dirs + files]
        for path in reversed(paths):         # children before their directory
            if os.lstat(path).st_mtime > recent:
                os.utime(path, (self.mtime, self.mtime), follow_symlinks=False)


# --------------------------------------------------------------------------
# Builder adapters
# --------------------------------------------------------------------------

@dataclasses.dataclass
class Request:
    """What to build, in terms that every builder knows."""

    context: pathlib.Path
    dockerfile: pathlib.Path
    output: pathlib.Path                       # a path the image is written to
    args: dict[str, str | None]
    target: str | None = None
    secrets: list[dict] = dataclasses.field(default_factory=list)
    contexts: dict[str, str] = dataclasses.field(default_factory=dict)
    no_cache: bool = False
    rewrite_timestamp: bool = False


@dataclasses.dataclass
class Outcome:
    """How a build ended."""

    status: int
    log: str
    seconds: float
    timed_out: bool = False

    @property
    def ok(self) -> bool:
        return self.status == 0 and not self.timed_out


def run_command(command: list[str], timeout: float, env: dict | None = None) -> Outcome:
    """Run a command in its own process group and kill the group on time-out."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=dict(os.environ, **(env or {})), start_new_session=True)
        except OSError as error:
            raise HarnessError(f"cannot run {command[0]}: {error}") from error
        timed_out = False
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            timed_out = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        log.seek(0)
        text = log.read().decode("utf-8", "replace")
    return Outcome(process.returncode, text, time.monotonic() - started, timed_out)


def first_line(command: list[str]) -> str:
    """The first line a command prints, e.g. its version."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise HarnessError(f"cannot run {command[0]}: {error}") from error
    return (done.stdout or done.stderr).decode(errors="replace").strip().split("\n")[0]


class Adapter:
    """A builder. build() runs it; the image, if any, is at request.output."""

    name = "?"

    def __init__(self) -> None:
        self.bases = base_images()

    def version(self) -> str:
        raise NotImplementedError

    def build(self, request: Request, timeout: float) -> Outcome:
        raise NotImplementedError

    def prepare(self) -> None:
        """Called once before the first build."""

    def scratch_root(self) -> str | None:
        """Where workspaces must lie (None: the system's temporary directory)."""
        return None

    @staticmethod
    def must(command: list[str]) -> None:
        """Run a command that prepares; a failure of it is no case's fault."""
        outcome = run_command(command, 600)
        if not outcome.ok:
            raise HarnessError(f"{shlex.join(command)}: {outcome.log.strip()[-500:]}")

    @staticmethod
    def by_name(contexts: dict[str, str]) -> dict[str, str]:
        """Contexts in which base images are called by their plain names,
        for builders that were given the images beforehand."""
        names = {source: f"docker-image://{name}" for name, source in base_images().items()}
        return {name: names.get(source, source) for name, source in contexts.items()}

    # Options shared by the builders that have Docker's command line.
    def common_flags(self, request: Request, context_flag: str = "--build-context") -> list[str]:
        flags = []
        for key, value in request.args.items():
            flags += ["--build-arg", key if value is None else f"{key}={value}"]
        if request.target:
            flags += ["--target", request.target]
        for secret in request.secrets:
            flags += ["--secret", secret_flag(secret)]
        for name, source in {**self.bases, **request.contexts}.items():
            flags += [context_flag, f"{name}={source}"]
        if request.no_cache:
            flags.append("--no-cache")
        return flags


def secret_flag(secret: dict) -> str:
    return ",".join(f"{key}={secret[key]}" for key in ("id", "src", "env") if key in secret)


class RBuild(Adapter):
    """rbuild itself; the binary is $RBUILD (default: rbuild on $PATH)."""

    name = "rbuild"

    def __init__(self) -> None:
        super().__init__()
        self.command = shlex.split(os.environ.get("RBUILD", "rbuild"))

    def version(self) -> str:
        return first_line([*self.command, "--version"])

    def build(self, request: Request, timeout: float) -> Outcome:
        output = f"type=oci,dest={request.output}"
        if request.rewrite_timestamp:
            output += ",rewrite-timestamp=true"
        return run_command(
            [*self.command, "build", *self.common_flags(request),
             "-f", str(request.dockerfile), "-o", output, str(request.context)], timeout)


class BuildKit(Adapter):
    """buildctl against $BUILDKIT_HOST, with the built-in Dockerfile frontend."""

    name = "buildkit"

    def __init__(self) -> None:
        super().__init__()
        self.buildctl = os.environ.get("BUILDCTL") or shutil.which("buildctl") or "buildctl"
        self.address = os.environ.get("BUILDKIT_HOST", "unix:///run/buildkit/buildkitd.sock")

    def version(self) -> str:
        line = first_line([self.buildctl, "--addr", self.address, "debug", "info"])
        return line.replace("BuildKit:", "").strip()

    def build(self, request: Request, timeout: float) -> Outcome:
        output = f"type=oci,dest={request.output}"
        if request.rewrite_timestamp:
            output += ",rewrite-timestamp=true"
        command = [
            self.buildctl, "--addr", self.address, "build", "--progress=plain",
            "--frontend", "dockerfile.v0", "-o", output,
            "--local", f"context={request.context}",
            "--local", f"dockerfile={request.dockerfile.parent}",
            "--opt", f"filename={request.dockerfile.name}",
        ]
        for key, value in request.args.items():
            value = os.environ.get(key) if value is None else value
            if value is not None:
                command += ["--opt", f"build-arg:{key}={value}"]
        if request.target:
            command += ["--opt", f"target={request.target}"]
        for secret in request.secrets:
            command += ["--secret", secret_flag(secret)]
        for name, source in {**self.bases, **request.contexts}.items():
            if "://" not in source:            # a directory
                command += ["--local", f"{name}={source}"]
                source = f"local:{name}"
            command += ["--opt", f"context:{name}={source}"]
        if request.no_cache:
            command.append("--no-cache")
        return run_command(command, timeout)


class Buildah(Adapter):
    """buildah with layer caching.

    The image is written in Docker's format through a dir: directory, because
    an OCI-format build of buildah drops HEALTHCHECK, SHELL and ONBUILD.  Base
    images have their plain names: they are found through registries.conf, or
    come from $CONFORM_BASE_ARCHIVES.  $BUILDAH is the command line (default:
    buildah), $CONFORM_BUILDAH_FLAGS are further flags of `buildah build`.
    """

    name = "buildah"

    def __init__(self) -> None:
        super().__init__()
        self.bases = {}
        self.flags = shlex.split(os.environ.get("CONFORM_BUILDAH_FLAGS", "--network=host"))
        self.command = shlex.split(os.environ.get("BUILDAH", "buildah"))
        self.env = {}
        # Debian's crun is too old for the run-time configuration buildah writes.
        if "BUILDAH_RUNTIME" not in os.environ and shutil.which("runc"):
            self.env["BUILDAH_RUNTIME"] = shutil.which("runc")

    def version(self) -> str:
        return first_line([*self.command, "--version"])

    def prepare(self) -> None:
        for name in base_images():
            if archive := base_archive(name):
                self.must([*self.command, "pull", "-q", f"docker-archive:{archive}"])

    def build(self, request: Request, timeout: float) -> Outcome:
        tag = "localhost/conform-" + uuid.uuid4().hex[:12]
        request = dataclasses.replace(request, contexts=self.by_name(request.contexts))
        command = [*self.command, "build", "--layers", "--format=docker",
                   "--identity-label=false", *self.flags, *self.common_flags(request)]
        epoch = request.args.get("SOURCE_DATE_EPOCH")
        if epoch:
            command += ["--source-date-epoch", epoch]
        if request.rewrite_timestamp:
            command.append("--rewrite-timestamp")
        command += ["-t", tag, "-f", str(request.dockerfile), str(request.context)]
        outcome = run_command(command, timeout, self.env)
        if outcome.ok:
            push = run_command([*self.command, "push", "--quiet", tag, f"dir:{request.output}"],
                               timeout, self.env)
            outcome.status, outcome.log = push.status, outcome.log + push.log
            run_command([*self.command, "untag", tag, tag], timeout, self.env)
        return outcome


class Docker(Adapter):
    """The Docker Engine: `docker build` with BuildKit, then `docker save`.

    $CONFORM_DOCKER is the client's command line (e.g. "sudo
    docker") and $CONFORM_DOCKER_ROOT the
    directory that the client sees as "/", if it runs in a chroot.
    """

    name = "docker"

    def __init__(self) -> None:
        super().__init__()
        self.command = shlex.split(os.environ.get("CONFORM_DOCKER", "docker"))
        self.root = os.environ.get("CONFORM_DOCKER_ROOT", "").rstrip("/")

    def scratch_root(self) -> str | None:
        return f"{self.root}/tmp" if self.root else None

    def inside(self, path) -> str:
        return str(path).removeprefix(self.root)

    def version(self) -> str:
        return first_line([*self.command, "version", "--format", "Docker Engine {{.Server.Version}}"])

    def prepare(self) -> None:
        for name, source in self.bases.items():
            if archive := base_archive(name):
                self.must([*self.command, "load", "-q", "-i", self.inside(archive)])
                continue
            image = source.removeprefix("docker-image://")
            run_command([*self.command, "pull", "-q", image], 600)
            run_command([*self.command, "tag", image, name], 60)
        self.bases = {}

    def build(self, request: Request, timeout: float) -> Outcome:
        tag = "conform-" + uuid.uuid4().hex[:12]
        request = dataclasses.replace(
            request, contexts={k: self.inside(v) for k, v in self.by_name(request.contexts).items()},
            secrets=[{k: self.inside(v) if k == "src" else v for k, v in s.items()}
                     for s in request.secrets])
        outcome = run_command(
            [*self.command, "build", *self.common_flags(request), "-t", tag,
             "-f", self.inside(request.dockerfile), self.inside(request.context)],
            timeout, {"DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"})
        if outcome.ok:
            saved = run_command([*self.command, "save", "-o", self.inside(request.output), tag], timeout)
            outcome.status, outcome.log = saved.status, outcome.log + saved.log
            run_command([*self.command, "rmi", tag], timeout)
        return outcome


ADAPTERS = {cls.name: cls for cls in (RBuild, BuildKit, Buildah, Docker)}


# --------------------------------------------------------------------------
# Reading images
# --------------------------------------------------------------------------

class Inode:
    """A file-system object. Paths that share one Inode are hard links."""

    __slots__ = ("type", "mode", "uid", "gid", "size", "sha256", "text",
                 "target", "rdev", "xattrs", "mtime")

    def __init__(self, type: str, mode: int, uid: int = 0, gid: int = 0):
        self.type, self.mode, self.uid, self.gid = type, mode, uid, gid
        self.size = self.sha256 = self.text = self.target = self.rdev = self.mtime = None
        self.xattrs: dict[str, str] = {}


Tree = dict[str, Inode]                       # absolute path -> object


class ImageStore:
    """Blobs of a built image: an OCI layout in a tar archive, or the
    directory that the dir: transport writes."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.tar = None if path.is_dir() else tarfile.open(path)
        if self.tar:
            self.members = {m.name.removeprefix("./"): m for m in self.tar.getmembers()}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.tar:
            self.tar.close()

    def open(self, digest: str) -> io.BufferedIOBase:
        algorithm, _, value = digest.partition(":")
        if self.tar:
            name = f"blobs/{algorithm}/{value}"
            if name not in self.members:
                raise HarnessError(f"archive lacks blob {digest}")
            return self.tar.extractfile(self.members[name])
        return open(self.path / value, "rb")

    def json(self, digest: str) -> dict:
        with self.open(digest) as file:
            data = file.read()
        if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
            raise HarnessError(f"blob {digest} does not have its digest")
        return json.loads(data)

    def manifest(self) -> tuple[str, dict]:
        """The digest and content of the (first real) image manifest."""
        if not self.tar:
            data = (self.path / "manifest.json").read_bytes()
            return "sha256:" + hashlib.sha256(data).hexdigest(), json.loads(data)
        if "oci-layout" not in self.members or "index.json" not in self.members:
            raise HarnessError("output is not an OCI image layout")
        index = json.load(self.tar.extractfile(self.members["index.json"]))
        while True:
            entries = [m for m in index["manifests"]
                       if m.get("platform", {}).get("os") != "unknown"]   # attestations
            if not entries:
                raise HarnessError("index names no image")
            digest = entries[0]["digest"]
            document = self.json(digest)
            if "manifests" not in document:
                return digest, document
            index = document


class HashingReader:
    """Passes reads through and hashes what is read."""

    def __init__(self, file):
        self.file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.sha256.update(data)
        return data

    def finish(self) -> str:
        while self.read(1 << 20):
            pass
        return "sha256:" + self.sha256.hexdigest()


@contextlib.contextmanager
def decompressed(raw: HashingReader, head: bytes):
    """A layer's tar stream, whatever its compression."""
    if head[:2] == b"\x1f\x8b":
        yield gzip.GzipFile(fileobj=raw)
    elif head == b"\x28\xb5\x2f\xfd":         # zstd is not in the standard library
        with tempfile.TemporaryFile() as packed:
            shutil.copyfileobj(raw, packed)
            packed.seek(0)
            process = subprocess.Popen(["zstd", "-dcq"], stdin=packed, stdout=subprocess.PIPE)
            yield process.stdout
            process.stdout.close()
            if process.wait() != 0:
                raise HarnessError("zstd failed on a layer")
    else:
        yield raw


TAR_TYPES = {
    tarfile.REGTYPE: "file", tarfile.AREGTYPE: "file", tarfile.CONTTYPE: "file",
    tarfile.GNUTYPE_SPARSE: "file", tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "symlink",
    tarfile.CHRTYPE: "char", tarfile.BLKTYPE: "block", tarfile.FIFOTYPE: "fifo",
}


def absolute(name: str) -> str:
    return os.path.normpath("/" + name.lstrip("/"))


def read_layer(stream, forbid: list[bytes]) -> tuple[list, list[str]]:
    """Parse a layer into [(path, Inode | link target path)], in archive order,
    and name the places where forbidden byte strings occur."""
    entries: list[tuple[str, Inode | str]] = []
    leaks: list[str] = []
    with tarfile.open(fileobj=stream, mode="r|", encoding="utf-8", errors="surrogateescape") as tar:
        for member in tar:
            path = absolute(member.name)
            if any(word in os.fsencode(path) for word in forbid):
                leaks.append(f"path {path!r}")
            if member.type == tarfile.LNKTYPE:
                entries.append((path, absolute(member.linkname)))
                continue
            kind = TAR_TYPES.get(member.type)
            if kind is None:
                raise HarnessError(f"layer has an entry of unknown type {member.type!r}: {path}")
            inode = Inode(kind, member.mode & 0o7777, member.uid, member.gid)
            inode.mtime = math.floor(member.mtime)
            if kind == "symlink":
                inode.target = member.linkname
                inode.mode = 0o777            # has no meaning on Linux
            elif kind in ("char", "block"):
                inode.rdev = f"{member.devmajor}:{member.devminor}"
            elif kind == "file":
                digest, size, head, tail = hashlib.sha256(), 0, b"", b""
                with tar.extractfile(member) as content:
                    while chunk := content.read(1 << 20):
                        digest.update(chunk)
                        size += len(chunk)
                        if len(head) <= TEXT_LIMIT:
                            head += chunk[:TEXT_LIMIT + 1]
                        if any(word in tail + chunk for word in forbid):
                            leaks.append(f"content of {path!r}")
                        tail = chunk[-256:]
                inode.size, inode.sha256 = size, digest.hexdigest()
                if size <= TEXT_LIMIT:
                    with contextlib.suppress(UnicodeDecodeError):
                        inode.text = head.decode("utf-8")
            for key, value in member.pax_headers.items():
                name = key.removeprefix("SCHILY.xattr.")
                if name != key and (name == "security.capability" or name.startswith("user.")):
                    inode.xattrs[name] = value.encode("utf-8", "surrogateescape").hex()
            entries.append((path, inode))
    return entries, leaks


# Parsed layers by digest; base layers recur in nearly every image.
_layer_cache: dict[str, list] = {}
_layer_lock = threading.Lock()


def layer_entries(store: ImageStore, digest: str, diff_id: str | None,
                  forbid: list[bytes]) -> tuple[list, list[str]]:
    if not forbid:
        with _layer_lock:
            if digest in _layer_cache:
                return _layer_cache[digest], []
    with store.open(digest) as file:
        head = file.read(4)
        file.seek(0)
        raw = HashingReader(file)
        with decompressed(raw, head) as unpacked:
            stream = HashingReader(unpacked)
            entries, leaks = read_layer(stream, forbid)
            if stream.finish() != diff_id:
                raise HarnessError(f"layer {digest}: its content does not have the diff-id {diff_id}")
        if raw.finish() != digest:
            raise HarnessError(f"layer {digest} does not have its digest")
    if not leaks:
        with _layer_lock:
            if len(_layer_cache) > 200:
                _layer_cache.clear()
            _layer_cache[digest] = entries
    return entries, leaks


def follow_parent(tree: Tree, path: str) -> str:
    """Resolve symbolic links in all but the last component of a path."""
    todo, done, hops = path.strip("/").split("/"), "", 0
    last = todo.pop()
    while todo:
        part = todo.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            done = done.rpartition("/")[0]
            continue
        here = f"{done}/{part}"
        node = tree.get(here)
        if node and node.type == "symlink" and hops < 40:
            hops += 1
            if node.target.startswith("/"):
                done = ""
            todo = node.target.split("/") + todo
        else:
            done = here
    return f"{done}/{last}"


def remove_below(tree: Tree, path: str) -> None:
    prefix = path.rstrip("/") + "/"
    for key in [key for key in tree if key.startswith(prefix)]:
        del tree[key]


def apply_layer(tree: Tree, entries: list) -> None:
    """Lay a layer over a tree, as a container runtime would unpack it."""
    # White-outs concern the layers below only, so they come first.
    for path, item in entries:
        directory, _, base = path.rpartition("/")
        if not base.startswith(".wh."):
            continue
        if base == ".wh..wh..opq":
            remove_below(tree, follow_parent(tree, directory) if directory else "")
        elif not base.startswith(".wh..wh."):
            victim = follow_parent(tree, f"{directory}/{base[4:]}")
            remove_below(tree, victim)
            tree.pop(victim, None)
    for path, item in entries:
        if path == "/" or path.rpartition("/")[2].startswith(".wh."):
            continue
        path = follow_parent(tree, path)
        parent = path.rpartition("/")[0]
        missing = []
        while parent and (parent not in tree or tree[parent].type != "dir"):
            missing.append(parent)
            parent = parent.rpartition("/")[0]
        for parent in reversed(missing):       # a parent the layer does not mention
            tree[parent] = Inode("dir", 0o755)
        if isinstance(item, str):
            source = follow_parent(tree, item)
            if source not in tree:
                raise HarnessError(f"hard link {path} -> {item}: no such file")
            item = tree[source]
        old = tree.get(path)
        if old is not None and old.type == "dir" and item.type != "dir":
            remove_below(tree, path)
        tree[path] = item


def tree_to_json(tree: Tree) -> dict[str, dict]:
    groups: dict[int, list[str]] = {}
    for path, inode in tree.items():
        if inode.type == "file":
            groups.setdefault(id(inode), []).append(path)
    result = {}
    for path in sorted(tree):
        inode = tree[path]
        entry = {"type": inode.type, "mode": f"{inode.mode:04o}", "uid": inode.uid, "gid": inode.gid}
        for key in ("size", "sha256", "text", "target", "rdev", "mtime"):
            value = getattr(inode, key)
            if value is not None:
                entry[key] = value
        if inode.xattrs:
            entry["xattrs"] = dict(sorted(inode.xattrs.items()))
        links = groups.get(id(inode), ())
        if len(links) > 1:
            entry["links"] = sorted(links)
        result[path.encode("utf-8", "backslashreplace").decode()] = entry
    return result


def read_image(path: pathlib.Path, forbid: list[str]) -> dict:
    """Reduce a built image to its normalised, JSON-able form."""
    words = [word.encode() for word in forbid]
    with ImageStore(path) as store:
        digest, manifest = store.manifest()
        config = store.json(manifest["config"]["digest"])
        leaks = ["image configuration"] if any(
            word in json.dumps(config, ensure_ascii=False).encode() for word in words) else []
        tree: Tree = {}
        base = None
        diff_ids = config.get("rootfs", {}).get("diff_ids", [])
        for number, layer in enumerate(manifest.get("layers") or ()):
            diff_id = diff_ids[number] if number < len(diff_ids) else None
            entries, found = layer_entries(store, layer["digest"], diff_id, words)
            leaks += [f"layer {number + 1}: {place}" for place in found]
            apply_layer(tree, entries)
            if number == 0 and diff_id in base_layers():
                base = {"diff_id": diff_id, "tree": tree_to_json(tree)}
        history = config.get("history") or []
        return {
            "digest": digest,
            "config": normalise_config(config),
            "layers": len(manifest.get("layers") or ()),
            "history": ["empty" if h.get("empty_layer") else "layer" for h in history],
            "texts": [[h.get("created_by"), h.get("comment")] for h in history],
            "created": [config.get("created"), *[h.get("created") for h in history]],
            "tree": tree_to_json(tree),
            "base": base,
            "leaks": leaks,
        }


def normalise_config(image: dict) -> dict:
    """The configuration, with absent, null and empty all the same, and sets sorted."""
    config = image.get("config") or {}
    health = config.get("Healthcheck") or {}
    value = {
        "architecture": image.get("architecture"),
        "os": image.get("os"),
        "variant": image.get("variant"),
        "author": image.get("author"),
        "Env": config.get("Env"),
        "Cmd": config.get("Cmd"),
        "Entrypoint": config.get("Entrypoint"),
        "WorkingDir": config.get("WorkingDir"),
        "User": config.get("User"),
        "ExposedPorts": sorted(config.get("ExposedPorts") or ()),
        "Volumes": sorted(config.get("Volumes") or ()),
        "Labels": config.get("Labels"),
        "StopSignal": config.get("StopSignal"),
        "Healthcheck": {k: v for k, v in health.items() if v},
        "OnBuild": config.get("OnBuild"),
        "Shell": config.get("Shell"),
        "ArgsEscaped": config.get("ArgsEscaped"),
    }
    return {key: item for key, item in value.items() if item}


# --------------------------------------------------------------------------
# Running a case with one builder
# --------------------------------------------------------------------------

def run_case(case: Case, adapter: Adapter, keep_log: bool = True) -> dict:
    """Build all steps of a case. The result is JSON-able:

    {"steps": [{"ok", "status", "seconds", "timed_out", "log", "digest", "stamps"}],
     "image": normalised image of the last successful step, or None}
    """
    spec = case.spec
    forbid = spec.get("forbid", [])
    result: dict = {"steps": [], "image": None}
    seen: dict[str, dict[str, int]] = {}       # stamp path -> content -> identity
    with tempfile.TemporaryDirectory(prefix="conform-", dir=adapter.scratch_root()) as scratch:
        work = Workspace(case, pathlib.Path(scratch))
        for number, step in enumerate(case.steps):
            if "dockerfile_from" in step:
                work.place_dockerfile(step["dockerfile_from"])
            if "run" in step:
                work.run_script(step["run"])
            output = work.root / f"image-{number}"
            request = Request(
                context=work.context, dockerfile=work.dockerfile, output=output,
                args={**spec.get("args", {}), **step.get("args", {})},
                target=case.setting(step, "target"),
                secrets=[resolve_secret(s, work) for s in case.setting(step, "secrets", [])],
                contexts={name: resolve_context(value, work)
                          for name, value in spec.get("contexts", {}).items()},
                no_cache=case.setting(step, "no_cache", False),
                rewrite_timestamp=spec.get("rewrite_timestamp", False))
            outcome = adapter.build(request, spec.get("timeout", DEFAULT_TIMEOUT))
            entry = {"ok": outcome.ok, "status": outcome.status,
                     "seconds": round(outcome.seconds, 2), "timed_out": outcome.timed_out}
            if keep_log:
                entry["log"] = outcome.log[-20000:]
            if outcome.ok:
                image = read_image(output, forbid)
                entry["digest"] = image["digest"]
                entry["leaks"] = image["leaks"]
                entry["stamps"] = {}
                for path in spec.get("stamps", []):
                    content = image["tree"].get(path, {}).get("sha256", "absent")
                    identities = seen.setdefault(path, {})
                    entry["stamps"][path] = identities.setdefault(content, len(identities))
                result["image"] = image
                shutil.rmtree(output) if output.is_dir() else output.unlink()
            result["steps"].append(entry)
    return result


def resolve_secret(secret: dict, work: Workspace) -> dict:
    """In case.json: {"id", "text"} for a file made on the fly, {"id", "src"} for
    one relative to WORK, {"id", "env"} for an environment variable."""
    secret = dict(secret)
    if "text" in secret:
        file = work.root / ("secret-" + re.sub(r"\W", "_", secret["id"]))
        file.write_text(secret.pop("text"))
        secret["src"] = str(file)
    elif "src" in secret:
        secret["src"] = str(work.root / secret["src"])
    return secret


def resolve_context(value: str, work: Workspace) -> str:
    """A named context: "dir:PATH" (relative to WORK), "base:NAME" (one of the
    base images), or anything else as it is."""
    kind, _, rest = value.partition(":")
    if kind == "dir":
        return str(work.root / rest)
    if kind == "base":
        return base_images().get(rest, f"docker-image://{rest}")
    return value


# --------------------------------------------------------------------------
# Goldens
# --------------------------------------------------------------------------

class Goldens:
    """Recorded reference results: <dir>/<group>/<case>/golden.json, where
    <dir> is the case's set unless another one is given.

    A tree on a base image is stored as the difference from the base image's
    layer; those layers' trees are stored once, in <dir>/_bases/.

    Where no reference does what is wanted, a golden is written by hand. Its
    reference is {"name": "hand", "version": why}; it may leave out whatever
    follows from the rest or is not to be compared (see `by_hand`).
    """

    def __init__(self, root: pathlib.Path | None):
        self.root = root
        self.bases: dict[str, dict] = {}
        self.lock = threading.Lock()

    def directory(self, case: Case) -> pathlib.Path:
        return self.root or case.root

    def file(self, case: Case) -> pathlib.Path:
        return self.directory(case) / case.name / "golden.json"

    def is_by_hand(self, case: Case) -> bool:
        file = self.file(case)
        return file.exists() and json.loads(file.read_text())["reference"]["name"] == "hand"

    def save(self, case: Case, adapter: str, version: str, result: dict) -> None:
        if self.is_by_hand(case):
            return
        result = json.loads(json.dumps(result))      # a private copy
        for step in result["steps"]:
            step.pop("seconds", None)
            # What the reference said is for human readers only.
            step["log"] = "" if step["ok"] else error_excerpt(step.pop("log", ""))
        image = result["image"]
        if image:
            base, tree = image.pop("base"), image["tree"]
            timed = case.spec.get("mtime", ())
            for path, entry in tree.items():         # keep times only where they count
                if not any(fnmatch.fnmatchcase(path, pattern) for pattern in timed):
                    entry.pop("mtime", None)
            if not case.spec.get("created"):
                image.pop("created")
            if not case.spec.get("history"):
                image.pop("texts")
            if base:
                key = self.save_base(base, self.directory(case))
                old = self.bases[key]["tree"]
                image["base"] = key
                image["tree"] = {p: e for p, e in tree.items() if old.get(p) != e}
                image["removed"] = sorted(p for p in old if p not in tree)
        document = {
            "format": GOLDEN_FORMAT,
            "reference": {"name": adapter, "version": version},
            "recorded": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "case": case.fingerprint(),
            "result": result,
        }
        file = self.file(case)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(pretty(document) + "\n")

    def save_base(self, base: dict, directory: pathlib.Path) -> str:
        with self.lock:
            for entry in base["tree"].values():
                entry.pop("mtime", None)
            content = pretty(base)
            key = hashlib.sha256(content.encode()).hexdigest()[:16]
            file = directory / "_bases" / f"{key}.json"
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(content + "\n")
            return self.bases.setdefault(key, base) and key

    def load_base(self, key: str, directory: pathlib.Path) -> dict:
        with self.lock:
            if key not in self.bases:
                self.bases[key] = json.loads((directory / "_bases" / f"{key}.json").read_text())
            return self.bases[key]

    def load(self, case: Case) -> dict | None:
        file = self.file(case)
        if not file.exists():
            return None
        document = json.loads(file.read_text())
        if document.get("format") != GOLDEN_FORMAT:
            raise HarnessError(f"{file}: unknown format")
        if document["reference"]["name"] == "hand":
            self.by_hand(case, document)
        document["stale"] = document["case"] != case.fingerprint()
        image = document["result"]["image"]
        if image and image.get("base"):
            base = self.load_base(image["base"], self.directory(case))
            tree = {p: e for p, e in base["tree"].items() if p not in set(image["removed"])}
            tree.update(image["tree"])
            image["tree"], image["base"] = tree, base
        return document


    @staticmethod
    def by_hand(case: Case, document: dict) -> None:
        """Complete a golden that was written by hand. In its tree, a path's
        entry is a line `dir 0755 0:0`, `file 0644 0:0 "text"`,
        `symlink 0777 0:0 "target"`, or an object as in recorded ones. What is
        not there of config, layers and history is not compared."""
        document["case"] = case.fingerprint()
        result = document.setdefault("result", {})
        wanted = [case.expected(step) == "ok" for step in case.steps]
        result.setdefault("steps", [{"ok": ok, "status": 0 if ok else 1, "timed_out": False, "log": ""}
                                    for ok in wanted])
        image = result.setdefault("image", None)
        if not image:
            return
        image.setdefault("removed", [])
        for path, entry in image["tree"].items():
            if not isinstance(entry, str):
                continue
            kind, mode, owner, *text = entry.split(" ", 3)
            uid, gid = map(int, owner.split(":"))
            full = {"type": kind, "mode": mode, "uid": uid, "gid": gid}
            if kind == "file":
                full["text"] = json.loads(text[0])
                data = full["text"].encode()
                full["size"], full["sha256"] = len(data), hashlib.sha256(data).hexdigest()
            elif kind == "symlink":
                full["target"] = json.loads(text[0])
            image["tree"][path] = full


def pretty(document: dict) -> str:
    """JSON with one tree entry per line: small, and readable in a diff."""
    trees: list[dict] = []

    def lift(value, key=None):
        if key == "tree":
            trees.append(value)
            return f"@tree{len(trees) - 1}@"
        if isinstance(value, dict):
            return {k: lift(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [lift(v) for v in value]
        return value

    text = json.dumps(lift(document), indent=1, ensure_ascii=False)
    for number, tree in enumerate(trees):
        lines = [f"  {json.dumps(p)}: {json.dumps(e)}" for p, e in sorted(tree.items())]
        text = text.replace(f'"@tree{number}@"', "{\n" + ",\n".join(lines) + "\n }", 1)
    return text


def error_excerpt(log: str) -> str:
    """The part of a failed build's log that tells why (its last lines)."""
    lines = [line for line in log.strip().split("\n") if line.strip()]
    return "\n".join(lines[-12:])


# --------------------------------------------------------------------------
# Comparison
# --------------------------------------------------------------------------

@dataclasses.dataclass
class Diff:
    key: str                    # e.g. "config.Env", "tree:/etc/passwd", "error"
    text: str
    soft: bool = False


SOFT_CONFIG = {"ArgsEscaped"}   # deprecated, without effect on Linux


def compare(case: Case, reference: dict, candidate: dict) -> list[Diff]:
    diffs: list[Diff] = []
    for number, step in enumerate(case.steps):
        ref, cand = reference["steps"][number], candidate["steps"][number]
        label = ""
        if len(case.steps) > 1:
            label = f"step {number + 1} ({step.get('name', 'build')}): "
        if cand["timed_out"]:
            diffs.append(Diff("hang", label + "did not end in time"))
            continue
        if "panicked at" in cand.get("log", ""):
            diffs.append(Diff("panic", label + "panicked: " + grep(cand["log"], "panicked at")))
        elif cand["status"] < 0 or cand["status"] in (132, 134, 135, 136, 139):
            diffs.append(Diff("crash", label + f"was killed by a signal (status {cand['status']})"))
        if ref["ok"] and not cand["ok"]:
            diffs.append(Diff("outcome", label + "failed, reference succeeds:\n"
                              + indent(error_excerpt(cand.get("log", "")))))
        elif cand["ok"] and not ref["ok"]:
            diffs.append(Diff("outcome", label + "succeeded, reference fails with:\n"
                              + indent(error_excerpt(ref.get("log", "")))))
        elif not cand["ok"]:
            diffs += [Diff(d.key, label + d.text)
                      for d in check_error(case, step, cand.get("log", ""))]
        else:
            for path, identity in ref.get("stamps", {}).items():
                diffs += compare_stamp(case, number, path, label, reference, candidate)
            diffs += [Diff("leak", label + f"forbidden content in {place}")
                      for place in cand.get("leaks", ())]
    for group in case.spec.get("same_digest", []):
        digests = [candidate["steps"][i].get("digest") for i in group]
        if len(set(digests)) != 1:
            diffs.append(Diff("digest", f"steps {[i + 1 for i in group]} should give the same image, "
                              f"got {', '.join(str(d)[:19] for d in digests)}"))
    if reference["image"] and candidate["image"]:
        diffs += compare_images(case, reference["image"], candidate["image"])
    for diff in diffs:
        if any(fnmatch.fnmatchcase(diff.key, pattern) for pattern in case.spec.get("soft", ())):
            diff.soft = True
    return diffs


def compare_stamp(case: Case, number: int, path: str, label: str,
                  reference: dict, candidate: dict) -> list[Diff]:
    """Compare cache behaviour: a stamp's value identifies one execution of a
    RUN instruction, so which earlier builds show the same value tells which
    executions a build has reused.  Steps marked "cache": "any" (where both
    reuse and execution are right) take no part in this."""
    if case.steps[number].get("cache") == "any":
        return []
    earlier = [i for i in range(number) if case.steps[i].get("cache") != "any"]

    def identity(result, step):
        return result["steps"][step].get("stamps", {}).get(path)

    def reused(result):
        return [i for i in earlier if identity(result, i) == identity(result, number)]

    def told(result):
        steps = ", ".join(str(i + 1) for i in reused(result))
        return f"as in step {steps}" if steps else "executed anew"

    if reused(reference) != reused(candidate):
        return [Diff(f"cache:{path}", f"{label}stamp {path}: {told(candidate)}, "
                     f"reference: {told(reference)}")]
    return []


def check_error(case: Case, step: dict, log: str) -> list[Diff]:
    """Is a failure explained well enough?"""
    diffs = []
    pattern = case.setting(step, "error")
    if pattern and not re.search(pattern, log, re.MULTILINE):
        diffs.append(Diff("message", f"failed as expected, but no message matches /{pattern}/:\n"
                          + indent(error_excerpt(log))))
    lines = case.setting(step, "line")
    if lines is not None:
        lines = lines if isinstance(lines, list) else [lines]
        if not any(names_line(log, line) for line in lines):
            diffs.append(Diff("line", f"failed as expected, but without naming line "
                              f"{' or '.join(map(str, lines))} of the Dockerfile:\n"
                              + indent(error_excerpt(log))))
    return diffs


def names_line(log: str, line: int) -> bool:
    """"Dockerfile:3", "app.Dockerfile:3:1", "line 3", "line: 3", "on line #3"..."""
    return bool(re.search(rf"(?i)(dockerfile[\w.\-]*\"?:{line}\b|\bline\s*[:#]?\s*{line}\b)", log))


def compare_images(case: Case, reference: dict, candidate: dict) -> list[Diff]:
    diffs: list[Diff] = []
    cand = candidate["config"]
    ref = reference.get("config", cand)
    for key in sorted(set(ref) | set(cand)):
        old, new = ref.get(key), cand.get(key)
        if old != new:
            # "/a//b/" and "/a/b" are the same directory.
            soft = key in SOFT_CONFIG or (
                key == "WorkingDir" and old and new and absolute(old) == absolute(new))
            diffs.append(Diff(f"config.{key}", f"config {key}: {show(new)}, "
                              f"reference: {show(old)}", bool(soft)))
    if case.spec.get("created") and reference["created"] != candidate["created"]:
        diffs.append(Diff("created", f"created times: {candidate['created']}, "
                          f"reference: {reference['created']}"))
    if reference.get("layers", candidate["layers"]) != candidate["layers"]:
        diffs.append(Diff("layers", f"{candidate['layers']} layers, "
                          f"reference: {reference['layers']}", True))
    if reference.get("history", candidate["history"]) != candidate["history"]:
        diffs.append(Diff("history", f"history {candidate['history']}, "
                          f"reference: {reference['history']}", True))
    if case.spec.get("history") and reference["texts"] != candidate["texts"]:
        diffs += [Diff("texts", f"history {show(new)}, reference: {show(old)}")
                  for old, new in itertools.zip_longest(reference["texts"], candidate["texts"]) if old != new]
    return diffs + compare_trees(case, reference, candidate)


def compare_trees(case: Case, reference: dict, candidate: dict) -> list[Diff]:
    diffs: list[Diff] = []
    ignore = list(case.spec.get("ignore", ())) + list(case.spec.get("stamps", ()))
    if case.spec.get("ignore_defaults", True):
        ignore += DEFAULT_IGNORE
    timed = case.spec.get("mtime", ())

    def relevant(image) -> dict[str, dict]:
        tree = {}
        base = image.get("base") or {"tree": {}}
        for path, entry in image["tree"].items():
            if any(fnmatch.fnmatchcase(path, pattern) for pattern in ignore):
                continue
            entry = dict(entry)
            if not any(fnmatch.fnmatchcase(path, pattern) for pattern in timed):
                entry.pop("mtime", None)
            tree[path] = entry
        return tree

    ref, cand = relevant(reference), relevant(candidate)
    rbase, cbase = reference.get("base"), candidate.get("base")
    if rbase and cbase and rbase["diff_id"] != cbase["diff_id"]:
        # Built on different base images: compare only what the build changed.
        diffs.append(Diff("base", f"base layer {cbase['diff_id']}, reference: {rbase['diff_id']} "
                          "(base images differ: only changes to them are compared)", True))
        ref, cand = changes(ref, rbase["tree"]), changes(cand, cbase["tree"])
    for path in sorted(set(ref) | set(cand)):
        old, new = ref.get(path), cand.get(path)
        if old == new:
            continue
        if new is None:
            diffs.append(Diff(f"tree:{path}", f"{show_path(path)}: missing, reference has {brief(old)}"))
        elif old is None:
            diffs.append(Diff(f"tree:{path}", f"{show_path(path)}: unexpected {brief(new)}"))
        else:
            keys = [k for k in sorted(set(old) | set(new)) if old.get(k) != new.get(k)]
            if "text" in keys and "sha256" in keys:
                keys.remove("sha256")          # the text says more
            # BuildKit's layers lose user.* attributes: keeping them is no failure.
            soft = keys == ["xattrs"] and capability(old) == capability(new)
            parts = [f"{k} {show(new.get(k))}, reference: {show(old.get(k))}" for k in keys]
            diffs.append(Diff(f"tree:{path}", f"{show_path(path)}: " + "; ".join(parts), soft))
    return diffs


def capability(entry: dict) -> str | None:
    return entry.get("xattrs", {}).get("security.capability")


def changes(tree: dict, base: dict) -> dict:
    """What a tree has different from its base; a removed path maps to a marker."""
    def plain(entry):
        return {k: v for k, v in entry.items() if k != "mtime"}
    delta = {p: e for p, e in tree.items() if p not in base or plain(base[p]) != plain(e)}
    delta.update({p: {"type": "removed", "mode": "", "uid": 0, "gid": 0}
                  for p in base if p not in tree})
    return delta


def show(value) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else text[:300] + "..."


def show_path(path: str) -> str:
    return path if path.isprintable() else repr(path)


def brief(entry: dict) -> str:
    text = f"{entry['type']} {entry['mode']} {entry['uid']}:{entry['gid']}"
    for key in ("size", "target", "rdev", "text"):
        if key in entry:
            text += f" {key}={show(entry[key])}"
    return text


def indent(text: str) -> str:
    return "\n".join("    " + line for line in text.split("\n"))


def grep(text: str, word: str) -> str:
    return next((line.strip() for line in text.split("\n") if word in line), "")


# --------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------

@dataclasses.dataclass
class Verdict:
    case: str
    status: str                 # PASS, SOFT, FAIL, or BAD (the case itself is at fault)
    diffs: list[Diff]
    seconds: float = 0.0


def self_check(case: Case, result: dict) -> list[Diff]:
    """Does the reference do what the case says? If not, the case is wrong."""
    problems = []
    for number, step in enumerate(case.steps):
        entry = result["steps"][number]
        wanted = case.expected(step) == "ok"
        if entry["ok"] != wanted:
            problems.append(Diff("case", f"step {number + 1}: case expects "
                                 f"{'success' if wanted else 'failure'}, reference does otherwise:\n"
                                 + indent(error_excerpt(entry.get("log", "")))))
        elif not entry["ok"]:
            problems += check_error(case, step, entry.get("log", ""))
        problems += [Diff("leak", f"forbidden content in {place}") for place in entry.get("leaks", ())]
    for group in case.spec.get("same_digest", []):
        if len({result["steps"][i].get("digest") for i in group}) != 1:
            problems.append(Diff("digest", f"reference gives different digests in steps {group}"))
    return problems


class Harness:
    def __init__(self, options: argparse.Namespace):
        self.options = options
        here = pathlib.Path(__file__).resolve().parent
        sets = options.cases or [here / "visible", here / "own"]
        self.sets = [pathlib.Path(directory).resolve() for directory in sets]
        golden = options.golden if options.golden not in (None, "") else None
        self.goldens = Goldens(golden and pathlib.Path(golden).resolve())
        self.reference = self.adapter(options.reference)
        self.candidate = self.adapter(options.candidate)
        self.versions = {a.name: a.version() for a in (self.reference, self.candidate) if a}
        for adapter in (self.reference, self.candidate):
            if adapter:
                adapter.prepare()

    @staticmethod
    def adapter(name: str | None) -> Adapter | None:
        if name is None:
            return None
        if name not in ADAPTERS:
            raise HarnessError(f"unknown adapter {name!r} (there are: {', '.join(ADAPTERS)})")
        return ADAPTERS[name]()

    def judge(self, case: Case) -> Verdict:
        started = time.monotonic()
        try:
            status, diffs = self._judge(case)
        except HarnessError as error:
            status, diffs = "FAIL", [Diff("harness", str(error))]
        except Exception as error:           # e.g. an archive that cannot be parsed
            status, diffs = "FAIL", [Diff("harness", f"{type(error).__name__}: {error}")]
        return Verdict(case.name, status, diffs, time.monotonic() - started)

    def _judge(self, case: Case) -> tuple[str, list[Diff]]:
        notes: list[Diff] = []
        if self.reference:
            reference = run_case(case, self.reference)
            problems = self_check(case, reference)
            if problems:
                return "BAD", problems
            if self.options.record:
                self.goldens.save(case, self.reference.name,
                                  self.versions[self.reference.name], reference)
        else:
            golden = self.goldens.load(case)
            if golden is None:
                return "BAD", [Diff("golden", "no golden recorded")]
            reference = golden["result"]
            if golden["stale"]:
                notes.append(Diff("golden", "the case changed after its golden was recorded", True))
        if not self.candidate:
            return "PASS", notes
        diffs = notes + compare(case, reference, run_case(case, self.candidate))
        if any(not diff.soft for diff in diffs):
            return "FAIL", diffs
        return ("SOFT" if diffs else "PASS"), diffs

    def print_verdict(self, verdict: Verdict) -> None:
        print(f"{verdict.status:4}  {verdict.case:56} {verdict.seconds:6.1f}s")
        limit = None if self.options.verbose else 12
        for diff in verdict.diffs[:limit]:
            mark = "~" if diff.soft else "-"
            print(f"      {mark} " + diff.text.replace("\n", "\n        "))
        if limit and len(verdict.diffs) > limit:
            print(f"      ... {len(verdict.diffs) - limit} more differences (--verbose shows all)")
        sys.stdout.flush()

    def run(self) -> int:
        cases = load_cases(self.sets, self.options.only)
        if not cases:
            raise HarnessError("no cases selected")
        for name, version in self.versions.items():
            print(f"# {name}: {version}")
        verdicts: list[Verdict] = []
        with concurrent.futures.ThreadPoolExecutor(self.options.jobs) as pool:
            futures = [pool.submit(self.judge, case) for case in cases]
            try:
                for future in futures:         # in order, each as soon as it is there
                    verdicts.append(future.result())
                    self.print_verdict(verdicts[-1])
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        self.summarise(verdicts)
        return 1 if any(v.status in ("FAIL", "BAD") for v in verdicts) else 0

    def summarise(self, verdicts: list[Verdict]) -> None:
        groups: dict[str, list[Verdict]] = {}
        for verdict in verdicts:
            groups.setdefault(verdict.case.split("/")[0], []).append(verdict)
        print()
        for group, members in sorted(groups.items()):
            good = sum(v.status in ("PASS", "SOFT") for v in members)
            print(f"{group:20} {good:4} / {len(members)}")
        passed = sum(v.status in ("PASS", "SOFT") for v in verdicts)
        soft = sum(v.status == "SOFT" for v in verdicts)
        bad = sum(v.status == "BAD" for v in verdicts)
        if self.options.json:
            document = {
                "versions": self.versions, "passed": passed, "soft": soft,
                "failed": len(verdicts) - passed,
                "cases": [dataclasses.asdict(v) for v in verdicts]}
            pathlib.Path(self.options.json).write_text(json.dumps(document, indent=1) + "\n")
        if soft:
            print(f"({soft} of the passed have soft differences)")
        if bad:
            print(f"({bad} of the failed are cases that the reference itself does not fulfil, or without golden)")
        print(f"{passed} passed, {len(verdicts) - passed} failed")


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Differential conformance tests for Dockerfile builders.",
        epilog="Adapters: " + ", ".join(ADAPTERS))
    parser.add_argument("--reference", metavar="ADAPTER", help="builder to compare with (live)")
    parser.add_argument("--candidate", metavar="ADAPTER", help="builder under test")
    parser.add_argument("--cases", metavar="DIR", action="append",
                        help="case set, may be repeated (default: visible/ and own/ beside this file)")
    parser.add_argument("--only", metavar="GLOB",
                        help="only cases whose group/name matches (several: comma-separated)")
    parser.add_argument("--golden", metavar="DIR", nargs="?", const="",
                        help="compare with recorded results (default: those beside the cases)")
    parser.add_argument("--record", action="store_true",
                        help="store the reference's results as goldens")
    parser.add_argument("--json", metavar="OUT", help="write the verdicts to a JSON file")
    parser.add_argument("--jobs", metavar="N", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--verbose", "-v", action="store_true", help="show all differences")
    options = parser.parse_args()
    if options.record and not options.reference:
        parser.error("--record needs --reference")
    if not options.record and not options.candidate and not options.reference:
        parser.error("--candidate is needed")
    if options.candidate and not options.reference and options.golden is None:
        parser.error("give --reference ADAPTER or --golden")
    try:
        return Harness(options).run()
    except HarnessError as error:
        print(f"conform: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

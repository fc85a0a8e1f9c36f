"""What is done?  Each workload is asked of every builder, in turns, for a number of rounds.

A workload is a function of a site (a builder, a directory on its file system, the number of the round); it returns the cost
of what counts.  What comes before (a first build, an edit) it does itself.  The workloads of a scene share file systems, and
so what was built and made: one that needs something makes it unless an earlier one has.
"""

import dataclasses
import os
import pathlib
from typing import Callable

import contexts
from builders import BUILDERS, Builder
from meter import Cost, Failed

GIB = 1 << 30
EVERYBODY = tuple(BUILDERS)


@dataclasses.dataclass
class Site:
    builder: Builder
    directory: pathlib.Path
    round: int
    shrink: int
    """What is large is divided by it: 1 unless the harness itself is tried."""
    patience: float
    """Seconds that what comes before may take; more than what counts, since much of it is slow on purpose."""

    def before(self, work: Callable[[], object]) -> None:
        """Does something that does not count."""
        limit, self.builder.limit = self.builder.limit, self.patience
        try:
            work()
        except Failed as error:
            failed = Failed(f"{error}, before what counts")
            failed.said = error.said
            raise failed from error
        finally:
            self.builder.limit = limit

    def built(self, tag: str, context: pathlib.Path, prepare: bool = False) -> pathlib.Path:
        """Builds once."""
        mark = self.directory / f".built-{tag}"
        if not mark.exists():
            self.before(lambda: (self.builder.prepare if prepare else self.builder.build)(tag, context))
            mark.touch()
        return context


@dataclasses.dataclass
class Workload:
    name: str
    title: str
    scene: str
    measure: Callable[[Site], Cost]
    budget: float | None = None
    """Seconds."""
    rounds: int = 1
    slow: tuple[str, ...] = ()
    """Builders that a quick run does not ask for it."""


@dataclasses.dataclass
class Scene:
    gigabytes: int
    """What all builders together need of the disk."""
    images: list[str]


SCENES = {"small": Scene(3, ["busybox"]), "many": Scene(9, ["busybox"]), "debian": Scene(4, []),
          "large": Scene(20, ["busybox"]), "layer": Scene(25, ["busybox"])}
WORKLOADS: dict[str, Workload] = {}


def workload(title: str, scene: str, **more):
    def enter(function):
        name = more.pop("name", function.__name__.replace("_", "-"))
        WORKLOADS[name] = Workload(name, title, scene, function, **more)
        return function

    return enter


@workload("fully cached, small context", "small", budget=0.002, rounds=20)
def cached_small(site):
    context = site.built("small", contexts.small(site.directory / "small"))
    return site.builder.build("small", context)


@workload("fully cached, 500 lines", "small", budget=0.005, rounds=10, slow=("buildah",))
def cached_lines(site):
    context = site.built("lines", contexts.lines(site.directory / "lines"))
    return site.builder.build("lines", context)


@workload("40 × RUN true in a chain", "small", budget=0.2, rounds=3)
def chain(site):
    lines = "".join(f"RUN true {site.round} {step}\n" for step in range(40))
    return site.builder.build("chain", contexts.write(site.directory / "chain", f"FROM busybox\n{lines}"))


@workload("8 independent stages of sleep 1", "small", budget=1.1, rounds=2)
def stages(site):
    made = "".join(f"FROM busybox AS s{stage}\nRUN sleep 1; echo {site.round} >/{stage}\n" for stage in range(8))
    copies = "".join(f"COPY --from=s{stage} /{stage} /\n" for stage in range(8))
    context = contexts.write(site.directory / "stages", f"{made}FROM busybox\n{copies}")
    return site.builder.build("stages", context, jobs=8)


def fifty_thousand(site: Site) -> pathlib.Path:
    return contexts.many(site.directory / "many", 50_000 // site.shrink)


@workload("cold build, 50,000 files", "many", budget=1.7)
def cold_many(site):
    context = fifty_thousand(site)
    before = site.builder.disk.used()
    cost = site.builder.build("many", context)
    (site.directory / ".built-many").touch()
    after = site.builder.disk.used()
    cost.store = {kind: after[kind] - before[kind] for kind in after}
    return cost


@workload("fully cached, 50,000 files", "many", budget=0.15, rounds=5)
def cached_many(site):
    return site.builder.build("many", site.built("many", fifty_thousand(site)))


@workload("one of 50,000 files changed", "many", budget=0.8, rounds=3)
def changed_many(site):
    context = site.built("many", fifty_thousand(site))
    (context / "1/50/5").write_text(f"changed {os.urandom(8).hex()}\n")
    return site.builder.build("many", context)


@workload("pull Debian (gzip), run one step", "debian", budget=0.45, rounds=3)
def pull_and_run(site):
    name = f"{site.builder.address()}/debian"
    if site.round == 0:
        site.builder.registry.fill(os.environ["VERSUS_DEBIAN"], "debian")
    else:
        site.before(lambda: site.builder.remove("pulled", name))
    context = contexts.write(site.directory / "pulled", f"FROM {name}\nRUN echo {site.round} >/round\n")
    return pulled(site, lambda: site.builder.build("pulled", context))


def pulled(site: Site, work: Callable[[], Cost]) -> Cost:
    """What fetches nothing from the registry has not pulled."""
    fetched = site.builder.registry.fetched()
    cost = work()
    if site.builder.registry.fetched() == fetched:
        raise Failed("pulled nothing: the image was still there")
    return cost


@workload("COPY of a 2 GiB file", "large", budget=4, slow=EVERYBODY)
def large_file(site):
    context = contexts.write(site.directory / "large", "FROM busybox\nCOPY data /data\n")
    contexts.noise(context / "data", 2 * GIB // site.shrink)
    return site.builder.build("large", context)


def gigabyte(site: Site, mark: str) -> pathlib.Path:
    """A context of its own, whose RUN writes a layer that nobody has compressed yet."""
    return contexts.written(site.directory / f"gigabyte-{mark}", GIB // site.shrink, mark)


@workload("RUN that writes 1 GiB, image stored", "layer", slow=EVERYBODY)
def run_gigabyte(site):
    context = gigabyte(site, "run")
    site.before(lambda: site.builder.prepare("base", contexts.write(site.directory / "base", "FROM busybox\nRUN true\n")))
    return site.builder.build("run", context)


def exported(compression):
    def measure(site):
        context = site.built("export", gigabyte(site, "export"), prepare=True)
        target = site.directory / f"{compression}.tar"
        cost = site.builder.export("export", context, compression, target)
        target.unlink()
        return cost

    return measure


for codec in ("uncompressed", "gzip", "zstd"):
    workload(f"that layer into an OCI archive, {codec}", "layer", name=f"export-{codec}", slow=EVERYBODY)(exported(codec))


def pushed(compression):
    def measure(site):
        tag = f"push-{compression}"
        context = site.built(tag, gigabyte(site, tag), prepare=True)
        return site.builder.push(tag, context, compression)

    return measure


for codec, seconds in (("gzip", 3.5), ("zstd", 2)):
    workload(f"push a 1 GiB RUN layer, {codec}", "layer", name=f"push-{codec}", budget=seconds, slow=EVERYBODY)(pushed(codec))


@workload("pull that image (gzip)", "layer", slow=EVERYBODY)
def pull_gigabyte(site):
    builder, tag, name = site.builder, "push-gzip", f"{site.builder.address()}/push-gzip"
    mark = site.directory / ".built-removed"
    if not mark.exists():
        context = site.built(tag, gigabyte(site, tag), prepare=True)
        site.before(lambda: builder.push(tag, context, "gzip"))
        mark.touch()
    site.before(lambda: builder.remove(tag, name))
    return pulled(site, lambda: builder.pull(tag))

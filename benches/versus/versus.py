#!/usr/bin/env python3
"""The same work, asked of rbuild, Docker's BuildKit and buildah in one run, in turns, on a fresh file system each.

Wants root, $RBUILD (the program) and the archives of base images that `scripts/versus.sh` makes. Of several rounds the
fastest counts: other work on the machine only ever adds. What is slow gets fewer rounds. Results are kept in a file for each
workload; what is there already, from the same program, is not measured again, so a run that was ended can be continued.
"""

import argparse
import dataclasses
import datetime
import hashlib
import json
import math
import os
import pathlib
import sys
import time

import report
from builders import BUILDERS, Builder
from meter import Failed, TooLong
from scratch import Scratch
from workloads import SCENES, WORKLOADS, Site, Workload

ENOUGH = 15
"""Seconds after which a builder has no further rounds of a workload."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--builders", default=",".join(BUILDERS), help="default: %(default)s")
    parser.add_argument("--only", default="", help=f"some of {' '.join(WORKLOADS)}")
    parser.add_argument("--quick", action="store_true", help="leave out what takes minutes; some rounds only")
    parser.add_argument("--again", action="store_true", help="measure also what is there already")
    parser.add_argument("--limit", type=float, help="seconds that a command may take [default: 120, quick: 40]")
    parser.add_argument("--shrink", type=int, default=1, help="to try the harness: files and layers so many times smaller")
    parser.add_argument("--archives", type=pathlib.Path, required=True, help="has busybox.tar")
    parser.add_argument("--results", type=pathlib.Path, required=True, help="directory of the results")
    parser.add_argument("--update", type=pathlib.Path, help="put a table and a plot of all results into this page")
    options = parser.parse_args()
    options.limit = options.limit or (40 if options.quick else 120)
    builders = options.builders.split(",")
    wanted = [name for name in options.only.split(",") if name] or list(WORKLOADS)
    for name in [name for name in wanted if name not in WORKLOADS] + [name for name in builders if name not in BUILDERS]:
        parser.error(f"there is no `{name}`")
    if options.update and options.shrink != 1:
        parser.error("results of shrunk workloads do not go into a page")

    run = Run(options, builders)
    chosen = [WORKLOADS[name] for name in WORKLOADS if name in wanted]
    run.measure(chosen)
    results = run.comparable()
    if not results:
        return 1
    print(report.table(results))
    (options.results / "versus.svg").write_text(report.plot(results))
    if options.update:
        report.update(options.update, "versus", report.table(results), report.plot(results), "The times as bars")
    return 0


class Run:
    def __init__(self, options: argparse.Namespace, builders: list[str]):
        self.options, self.names = options, builders
        self.results = options.results
        self.results.mkdir(parents=True, exist_ok=True)
        self.started = datetime.datetime.now().isoformat(timespec="seconds")
        with open(os.environ["RBUILD"], "rb") as program:
            self.program = hashlib.file_digest(program, "sha256").hexdigest()

    def measure(self, workloads: list[Workload]) -> None:
        """Whatever is missing, scene by scene."""
        for scene in SCENES:
            missing = [(workload, names) for workload in workloads
                       if workload.scene == scene and (names := self.missing(workload))]
            if missing:
                with Scratch() as scratch:
                    self.play(scene, missing, scratch)

    def missing(self, workload: Workload) -> list[str]:
        found = {} if self.options.again else self.load(workload)["costs"]
        return [name for name in self.names if not (self.options.quick and name in workload.slow)
                if name not in found or not self.alike(found[name])]

    def alike(self, cost: dict) -> bool:
        """Whether it was measured beside the same program, at the same size."""
        return cost["program"] == self.program and cost["shrink"] == self.options.shrink

    def comparable(self) -> list[dict]:
        """The results that belong together."""
        results = [json.loads(file.read_text()) for file in self.results.glob("*.json")]
        for found in results:
            found["costs"] = {name: cost for name, cost in found["costs"].items() if self.alike(cost)}
        return report.ordered([found for found in results if found["costs"]])

    def load(self, workload: Workload) -> dict:
        file = self.results / f"{workload.name}.json"
        return json.loads(file.read_text()) if file.exists() else {"costs": {}}

    def play(self, name: str, missing: list, scratch: Scratch) -> None:
        """A scene: file systems, daemons, base images, then its workloads."""
        scene, builders = SCENES[name], []
        kinds = [kind for kind in self.names if any(kind in names for _, names in missing)]
        needed = scene.gigabytes * len(kinds) // len(BUILDERS) // self.options.shrink
        if scratch.free() < needed:
            raise SystemExit(f"{scratch.top} has {scratch.free()} GB left, and `{name}` may need {needed}: set TMPDIR")
        try:
            for kind in kinds:
                # Sparse: how large it is is not what it takes.
                builders.append(BUILDERS[kind](scratch.path, 2 * scene.gigabytes + 8))
                for image in scene.images:
                    builders[-1].take(self.options.archives / f"{image}.tar")
            for workload, names in missing:
                found = self.rounds(workload, [builder for builder in builders if builder.name in names])
                self.keep(workload, found, builders)
        finally:
            taken = sum(builder.disk.image.stat().st_blocks << 9 for builder in builders)
            print(f"{time.strftime('%T')} `{name}` took {taken / 1e9:.1f} GB of disk", file=sys.stderr)
            for builder in builders:
                builder.stop()
            for builder in builders:
                builder.disk.remove()

    def rounds(self, workload: Workload, builders: list[Builder]) -> dict[str, dict]:
        """The fastest round of each builder, or why it has none."""
        found: dict[str, dict] = {}
        spent = dict.fromkeys((builder.name for builder in builders), 0.0)
        rounds, enough = (min(workload.rounds, 5), ENOUGH / 3) if self.options.quick else (workload.rounds, ENOUGH)
        for number in range(rounds):
            # Who comes first is another one each time.
            for builder in builders[number % len(builders):] + builders[:number % len(builders)]:
                if spent[builder.name] >= enough:
                    continue
                started = time.monotonic()
                cost = self.one(workload, builder, number)
                spent[builder.name] += enough if "limit" in cost else time.monotonic() - started
                best = found.get(builder.name)
                if best is None or "wall" in cost and cost["wall"] < best.get("wall", math.inf):
                    found[builder.name] = {**cost, "round": number}
        said = {name: cost.get("reason") or f"{cost['wall']:.4f} s, {cost['cpu']:.4f} s, {cost['memory'] >> 20} MiB"
                for name, cost in found.items()}
        print(f"{time.strftime('%T')} {workload.title}: {said}", file=sys.stderr, flush=True)
        return found

    def one(self, workload: Workload, builder: Builder, number: int) -> dict:
        directory = builder.disk.path / "contexts"
        directory.mkdir(exist_ok=True)
        builder.limit = self.options.limit
        try:
            return dataclasses.asdict(workload.measure(Site(builder, directory, number, self.options.shrink,
                                                            2.5 * self.options.limit)))
        except Failed as error:
            print(f"{workload.name}, {builder.title}: {error}\n{error.said}", file=sys.stderr)
            # What only came before says nothing about how long this takes.
            limit = {"limit": error.limit} if isinstance(error, TooLong) else {}
            return {"reason": str(error), **limit}

    def keep(self, workload: Workload, found: dict[str, dict], builders: list[Builder]) -> None:
        costs = self.load(workload)["costs"]
        for builder in builders:
            if builder.name in found:
                costs[builder.name] = {**found[builder.name], "version": builder.version(), "run": self.started,
                                       "program": self.program, "shrink": self.options.shrink}
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        machine = {"processors": os.cpu_count(), "memory": memory, "kernel": os.uname().release}
        result = {"name": workload.name, "title": workload.title, "budget": workload.budget, "at": self.started,
                  "machine": machine, "costs": costs}
        file = self.results / f"{workload.name}.json"
        part = file.with_suffix(".part")
        part.write_text(json.dumps(result, indent=1) + "\n")
        part.rename(file)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ninterrupted; what was measured is kept", file=sys.stderr)
        sys.exit(130)

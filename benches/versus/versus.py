#!/usr/bin/env python3
"""The same work, asked of rbuild, Docker's BuildKit and buildah in one run, in turns, on a fresh file system each.

    versus.py [--builders rbuild,docker] [--workloads cached-small,cold-many] [--quick] [--update docs/performance.md]

Wants root, $RBUILD (the program) and the archives of base images that `scripts/versus.sh` makes. Of several rounds the
fastest counts: other work on the machine only ever adds. --update puts the table and a plot into a page.
"""

import argparse
import json
import os
import pathlib
import sys
import tempfile

from builders import BUILDERS
from report import plot, table
from workloads import WORKLOADS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--builders", default="rbuild,docker,buildah")
    parser.add_argument("--workloads", default="")
    parser.add_argument("--quick", action="store_true", help="leave out what takes minutes")
    parser.add_argument("--archives", type=pathlib.Path, required=True, help="has busybox.tar and debian.tar")
    parser.add_argument("--disk", type=int, default=40, help="GB of each file system image, sparse")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--update", type=pathlib.Path)
    options = parser.parse_args()
    chosen = [name for name in WORKLOADS if not options.workloads or name in options.workloads.split(",")]
    chosen = [name for name in chosen if not (options.quick and WORKLOADS[name].slow)]

    results: dict = {"machine": machine(), "versions": {}, "workloads": {}, "store": {}}
    with tempfile.TemporaryDirectory(prefix="versus-") as name:
        work = pathlib.Path(name)
        builders = []
        try:
            for kind in options.builders.split(","):
                builders.append(BUILDERS[kind](work, options.disk))
                results["versions"][kind] = builders[-1].version()
                for image in ("busybox", "debian"):
                    builders[-1].take(options.archives / f"{image}.tar")
            for workload in (WORKLOADS[name] for name in chosen):
                results["workloads"][workload.name] = measure(workload, builders)
            results["store"] = {builder.name: builder.disk.used() for builder in builders}
        finally:
            for builder in builders:
                builder.stop()
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    print(table(results))
    if options.update:
        update(options.update, results)


def measure(workload, builders) -> dict:
    """The fastest round of each builder."""
    found: dict = {"title": workload.title, "costs": {}}
    directories = {builder.name: builder.disk.path / "contexts" for builder in builders}
    for number in range(workload.rounds):
        for builder in builders:
            directories[builder.name].mkdir(exist_ok=True)
            try:
                cost = workload.measure(builder, directories[builder.name], number)
            except NotImplementedError:
                continue
            best = found["costs"].get(builder.name)
            if best is None or cost.wall < best["wall"]:
                found["costs"][builder.name] = {"wall": cost.wall, "cpu": cost.cpu, "memory": cost.memory}
    print(workload.title, {name: f"{cost['wall']:.3f} s" for name, cost in found["costs"].items()}, file=sys.stderr)
    return found


def machine() -> dict:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"processors": os.cpu_count(), "memory": memory, "kernel": os.uname().release}


def update(page: pathlib.Path, results: dict) -> None:
    """Replaces what is between the page's marks."""
    begin, end = "<!-- versus -->\n", "<!-- /versus -->\n"
    text = page.read_text()
    before, rest = text.split(begin)
    after = rest.split(end)[1]
    image = page.parent / "versus.svg"
    image.write_text(plot(results))
    page.write_text(f"{before}{begin}{table(results)}\n![The same as a plot]({image.name})\n{end}{after}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""How do rbuild's time and memory grow with the work?  Curves over stages, context files and bytes of a layer.

Each point is measured on a fresh file system of its own. Fails if memory passes 200 MiB, or if time grows more than linearly:
from any point of a curve to any larger one, user+sys may grow SLACK times as much as the work. Wall time informs: it depends on
how fast the disk takes gigabytes.

Wants root and $RBUILD (the program), and busybox.tar of `scripts/versus.sh`.
"""

import argparse
import datetime
import json
import os
import pathlib
import sys
from typing import Callable

import contexts
import report
from builders import Builder, Rbuild
from chart import curves, seconds, size
from meter import Cost, Failed
from scratch import Scratch

SLACK = 1.5
SLACK_OF_BYTES = 2.5
"""Virtual machines that give free memory back to their host pay for touching it again, a page of the page cache up to eight
times as much as one that was just freed: small files are faster for no merit of whoever writes them."""
FLOOR = 0.02
"""Seconds of user+sys below which a time is rather that of starting than of the work."""
GB = 1_000_000_000
Times = dict[str, Cost]


def stages(builder: Builder, directory: pathlib.Path, count: int) -> Times:
    """Stages of 50 vertices each, all of them needed: RUN that writes, RUN that does not, COPY, WORKDIR."""
    kinds = ("RUN echo {0} >/f{1}", "COPY f /c{1}", "RUN true {0} {1}", "WORKDIR /w{1}", "COPY f /d{1}/")
    text = []
    for stage in range(count):
        text.append(f"FROM busybox AS s{stage}")
        text += [kinds[vertex % 5].format(stage, vertex) for vertex in range(50)]
    text += ["FROM busybox"] + [f"COPY --from=s{stage} /f0 /r{stage}" for stage in range(count)]
    context = contexts.write(directory, "\n".join(text) + "\n")
    (context / "f").write_text("f\n")
    return {"cold": builder.build("t", context), "cached": builder.build("t", context)}


def files(builder: Builder, directory: pathlib.Path, count: int) -> Times:
    """COPY of so many files of half a kilobyte."""
    context = contexts.many(directory, count, 1024)
    times = {"cold": builder.build("t", context), "cached": builder.build("t", context)}
    (context / "0/0/5").write_text("changed\n")
    return {**times, "one changed": builder.build("t", context)}


def names(builder: Builder, directory: pathlib.Path, count: int) -> Times:
    """COPY of so many files of one directory by a wildcard; then of as many names, two for each file."""
    context = contexts.flat(directory, count)
    changed = context / "d/file-0000005"
    times = {"wildcard": builder.build("t", context), "wildcard, cached": builder.build("t", context)}
    changed.write_text("changed\n")
    times["wildcard, one changed"] = builder.build("t", context)
    contexts.pair(context, count)
    times |= {"hard links": builder.build("t", context), "hard links, cached": builder.build("t", context)}
    changed.write_text("changed again\n")
    return {**times, "hard links, one changed": builder.build("t", context)}


def long(builder: Builder, directory: pathlib.Path, count: int) -> Times:
    """COPY of so many files with names of 200 bytes."""
    context = contexts.long(directory, count)
    times = {"cold": builder.build("t", context), "cached": builder.build("t", context)}
    (context / "0/new").write_text("new\n")
    return {**times, "one new": builder.build("t", context)}


def run(builder: Builder, directory: pathlib.Path, gigabytes: float) -> Times:
    """RUN that writes so much; then an archive of it."""
    context = contexts.written(directory, int(gigabytes * GB), "scale")
    times = {"RUN": builder.build("t", context)}
    for codec in ("gzip", "zstd"):
        target = directory.parent / f"{codec}.tar"
        times[f"archive, {codec}"] = builder.export("t", context, codec, target)
        target.unlink()
    return times


def copy(builder: Builder, directory: pathlib.Path, gigabytes: float) -> Times:
    """COPY of one file. It has no holes: those are neither read nor written."""
    context = contexts.write(directory, "FROM busybox\nCOPY data /data\n")
    contexts.noise(context / "data", int(gigabytes * GB))
    return {"COPY": builder.build("t", context), "cached": builder.build("t", context)}


class Curve:
    def __init__(self, title: str, unit: str, work: Callable, points: list, full: list, room: float):
        self.title, self.unit, self.work, self.points, self.full, self.room = title, unit, work, points, full, room
        """`full` are the points of --full; `room` is the gigabytes of disk for a unit of the work."""


CURVES = {
    "stages": Curve("Stages of 50 vertices", "stages", stages, [10, 50, 200], [], 0.005),
    "files": Curve("Files in the context", "files", files, [1000, 10_000, 100_000, 500_000, 1_000_000], [], 14e-6),
    "names": Curve("Files of one directory", "files", names, [100_000, 500_000], [], 14e-6),
    "long": Curve("Files with names of 200 bytes", "files", long, [100_000, 500_000], [], 14e-6),
    "run": Curve("RUN that writes a layer", "GB", run, [0.1, 1, 4], [20], 3.2),
    "copy": Curve("COPY of one file", "GB", copy, [0.1, 1, 4], [20], 2.2),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(CURVES), help="default: %(default)s")
    parser.add_argument("--full", action="store_true", help="also layers of 20 GB")
    parser.add_argument("--shrink", type=int, default=1, help="to try the harness: everything so many times smaller")
    parser.add_argument("--limit", type=float, default=1800, help="seconds that a command may take [default: %(default)s]")
    parser.add_argument("--archives", type=pathlib.Path, required=True, help="has busybox.tar")
    parser.add_argument("--results", type=pathlib.Path, required=True, help="directory of the results")
    parser.add_argument("--update", type=pathlib.Path, help="put a table and a plot of all results into this page")
    options = parser.parse_args()
    wanted = options.only.split(",")
    for name in wanted:
        if name not in CURVES:
            parser.error(f"there is no `{name}`")
    if options.update and options.shrink != 1:
        parser.error("results of shrunk work do not go into a page")

    options.results.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        curve = CURVES[name]
        points = [point / options.shrink if curve.unit == "GB" else max(1, point // options.shrink)
                  for point in curve.points + (curve.full if options.full else [])]
        found = [measure(curve, point, options) for point in points]
        result = {"name": name, "title": curve.title, "unit": curve.unit, "at": datetime.date.today().isoformat(),
                  "shrink": options.shrink, "points": found}
        (options.results / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    results = [json.loads(file.read_text()) for name in CURVES if (file := options.results / f"{name}.json").exists()]
    results = [result for result in results if result["shrink"] == options.shrink]
    broken = [line for result in results for line in judge(result)]
    text = table(results, broken)
    print(text)
    (options.results / "scale.svg").write_text(plot(results))
    if options.update:
        report.update(options.update, "scale", text, plot(results), "The times as curves")
    return 1 if broken else 0


def measure(curve: Curve, point: float, options: argparse.Namespace) -> dict:
    """One point, or why there is none."""
    with Scratch() as scratch:
        needed = 1 + curve.room * point
        if scratch.free() < needed:
            reason = f"needs {needed:.0f} GB of disk, {scratch.free()} are left"
            print(f"{curve.title}, {point:g}: {reason}", file=sys.stderr)
            return {"size": point, "reason": reason}
        builder = Rbuild(scratch.path, int(2 * needed) + 4)
        try:
            builder.limit = options.limit
            builder.take(options.archives / "busybox.tar")
            costs = curve.work(builder, builder.disk.path / "context", point)
        except Failed as error:
            print(f"{curve.title}, {point:g}: {error}\n{error.said}", file=sys.stderr)
            return {"size": point, "reason": str(error), "failed": True}
        finally:
            builder.stop()
            builder.disk.remove()
    print(f"{curve.title}, {point:g}:", {work: f"{cost.wall:.3f} s, {cost.cpu:.3f} s, {cost.memory >> 20} MiB, resident "
          f"{cost.resident >> 20} MiB" for work, cost in costs.items()}, file=sys.stderr, flush=True)
    return {"size": point, "costs": {work: vars(cost) for work, cost in costs.items()}}


def judge(result: dict) -> list[str]:
    """What is not as it should be, in sentences."""
    broken = [f"{result['title']}, {point['size']:g} {result['unit']}: {point['reason']}"
              for point in result["points"] if point.get("failed")]
    measured = [point for point in result["points"] if "costs" in point]
    for point in measured:
        for work, cost in point["costs"].items():
            place = f"{result['title']}, {point['size']:g} {result['unit']}, {work}"
            if cost["memory"] > report.MEMORY:
                broken.append(f"{place}: {size(cost['memory'])} of memory, {size(report.MEMORY)} are allowed")
            growth = factor(measured, point, work)
            allowed = SLACK_OF_BYTES if result["unit"] == "GB" else SLACK
            if growth > allowed:
                broken.append(f"{place}: user+sys grew {growth:.1f} times as much as the work, {allowed} are allowed")
    return broken


def factor(measured: list[dict], point: dict, work: str) -> float:
    """By how much time has grown more than the work has, since the smaller point for which that is most."""
    times = [max(FLOOR, other["costs"][work]["cpu"]) / other["size"] for other in measured
             if other["size"] < point["size"] and work in other["costs"]]
    return max(FLOOR, point["costs"][work]["cpu"]) / point["size"] / min(times) if times else 1.0


def table(results: list[dict], broken: list[str]) -> str:
    out = ["| work | size | wall | user+sys | growth ÷ linear | peak memory | resident |", "|---|---|---|---|---|---|---|"]
    for result in results:
        measured = [point for point in result["points"] if "costs" in point]
        for work in measured[0]["costs"] if measured else []:
            for point in measured:
                cost, growth = point["costs"][work], factor(measured, point, work)
                out.append(f"| {result['title']}, {work} | {point['size']:,.10g} {result['unit']} | {seconds(cost['wall'])} | "
                           f"{seconds(cost['cpu'])} | {'' if point is measured[0] else f'{growth:.2f}'} | "
                           f"{size(cost['memory'])} | {size(cost['resident'])} |")
    text = "\n".join(out) + "\n\n"
    left = [f"{result['title']}, {point['size']:g} {result['unit']}: not measured, {point['reason']}."
            for result in results for point in result["points"] if "reason" in point and not point.get("failed")]
    verdict = ["**Broken:** " + line + "." for line in broken] or ["Memory is bounded and time grows no more than linearly."]
    return text + "\n".join(f"- {line}" for line in [*verdict, *left]) + "\n"


def plot(results: list[dict]) -> str:
    panels = []
    for result in results:
        measured = [point for point in result["points"] if "costs" in point]
        works = {work: [(point["size"], point["costs"][work]["wall"]) for point in measured]
                 for work in (measured[0]["costs"] if measured else [])}
        if works:
            panels.append({"title": result["title"], "unit": result["unit"], "curves": works})
    return curves(panels)


if __name__ == "__main__":
    os.environ.setdefault("RBUILD", "rbuild")
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

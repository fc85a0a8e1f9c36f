"""How do the results look?  A table in Markdown and a plot, between the marks of a page."""

import pathlib

from chart import bars, seconds, size
from workloads import WORKLOADS

TITLES = {"rbuild": "rbuild", "docker": "BuildKit", "buildah": "buildah"}
MEMORY = 200 << 20
"""Bytes that rbuild may take, whatever it does."""


def table(results: list[dict]) -> str:
    """Time, processor time and peak memory of each builder, and how many times as long as rbuild the others take."""
    names = [name for name in TITLES if any(name in found["costs"] for found in results)]
    peers = [name for name in names if name != "rbuild"]
    out = ["| work | budget | " + " | ".join(TITLES[name] for name in names) + " | "
           + " | ".join(f"{TITLES[name]} ÷ rbuild" for name in peers) + " |",
           "|---|---|" + "---|" * (len(names) + len(peers))]
    remarks: list[str] = []
    for found in results:
        costs = found["costs"]
        cells = [cell(costs.get(name), TITLES[name], remarks) for name in names]
        ratios = [ratio(costs.get("rbuild"), costs.get(name), remarks) for name in peers]
        out.append(f"| {found['title']} | {verdict(found)} | " + " | ".join([*cells, *ratios]) + " |")
    text = "\n".join(out) + "\n\n"
    text += "Each cell: wall time, user+sys, peak memory.\n"
    for number, remark in enumerate(remarks, 1):
        text += f"{number}. {remark}\n" if number > 1 else f"\n{number}. {remark}\n"
    return f"{about(results, names)}\n\n{text}\n{totals(results, names)}"


def cell(cost: dict | None, name: str, remarks: list[str]) -> str:
    if cost is None:
        return ""
    if "reason" in cost:
        mark = remarked(f"{name}: {cost['reason']}", remarks)
        return f"> {seconds(cost['limit'])} {mark}" if "limit" in cost else f"– {mark}"
    return f"**{seconds(cost['wall'])}**, {seconds(cost['cpu'])}, {size(cost['memory'])}"


def remarked(remark: str, remarks: list[str]) -> str:
    if remark not in remarks:
        remarks.append(remark)
    return f"({remarks.index(remark) + 1})"


def ratio(own: dict | None, other: dict | None, remarks: list[str]) -> str:
    """Of two times in one run; those of different runs are marked."""
    if not own or not other or "wall" not in own or ("wall" not in other and "limit" not in other):
        return "–"
    times = (other["wall"] if "wall" in other else other["limit"]) / own["wall"]
    shown = f"{'' if 'wall' in other else '> '}{times:.{0 if times >= 10 else 1}f}"
    return shown if own["run"] == other["run"] else f"{shown} {remarked('measured in different runs', remarks)}"


def verdict(found: dict) -> str:
    own = found["costs"].get("rbuild", {})
    if found["budget"] is None:
        return "–"
    said = "not measured" if "wall" not in own else "met" if own["wall"] <= found["budget"] else "**missed**"
    return f"{seconds(found['budget'])}, {said}"


def about(results: list[dict], names: list[str]) -> str:
    last = max(results, key=lambda found: found["at"])
    machine = last["machine"]
    versions = "; ".join(next(found["costs"][name]["version"] for found in results if name in found["costs"])
                         for name in names).replace("Docker version", "BuildKit of Docker")
    return (f"{last['at'][:10]}, {machine['processors']} processors, {size(machine['memory'])}, "
            f"Linux {machine['kernel']}. {versions}.")


def totals(results: list[dict], names: list[str]) -> str:
    """What is one figure for each builder."""
    peaks, stores = [], []
    for name in names:
        costs = [(found["costs"][name], found["title"]) for found in results if "wall" in found["costs"].get(name, {})]
        if costs:
            cost, title = max(costs, key=lambda pair: pair[0]["memory"])
            peaks.append(f"{TITLES[name]} {size(cost['memory'])} ({title})")
        stores += [f"{TITLES[name]} {size(cost['store']['bytes'])} in {cost['store']['inodes']:,} inodes"
                   for cost, _ in costs if cost["store"]]
    text = f"Most memory in any of these: {', '.join(peaks)}; rbuild may take {size(MEMORY)}.\n"
    return text + (f"What the cold build of 50,000 files adds to the store: {', '.join(stores)}.\n" if stores else "")


def plot(results: list[dict]) -> str:
    names = [name for name in TITLES if any(name in found["costs"] for found in results)]
    rows = []
    for found in results:
        values = {TITLES[name]: (cost["wall"], False) if "wall" in cost else (cost["limit"], True)
                  for name, cost in found["costs"].items() if "wall" in cost or "limit" in cost}
        rows.append({"title": found["title"], "budget": found["budget"], "values": values})
    return bars(rows, [TITLES[name] for name in names])


def ordered(results: list[dict]) -> list[dict]:
    places = list(WORKLOADS)
    return sorted((found for found in results if found["name"] in places), key=lambda found: places.index(found["name"]))


def update(page: pathlib.Path, mark: str, text: str, image: str, alternative: str) -> None:
    """Puts a text and a plot between two marks of a page; plots are in a directory that is called like the page."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->\n"
    before, rest = page.read_text().split(begin)
    after = rest.split(end)[1]
    file = page.with_suffix("") / f"{mark}.svg"
    file.parent.mkdir(exist_ok=True)
    file.write_text(image)
    page.write_text(f"{before}{begin}{text}\n![{alternative}]({file.parent.name}/{file.name})\n{end}{after}")

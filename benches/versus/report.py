"""How do the results look?  A table in Markdown, and a plot in SVG."""

import html

COLOURS = {"rbuild": "#b7410e", "docker": "#1d63ed", "buildah": "#6a6a6a"}


def seconds(value: float) -> str:
    return f"{value * 1000:.1f} ms" if value < 0.1 else f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def bytes_(value: float) -> str:
    return f"{value / (1 << 20):.0f} MiB" if value < 10 << 30 else f"{value / (1 << 30):.1f} GiB"


def table(results: dict) -> str:
    """Wall, processor time and peak memory of each; the ratio says how many times longer than rbuild."""
    builders = list(results["versions"])
    machine = results["machine"]
    lines = [f"{machine['processors']} processors, {bytes_(machine['memory'])}, Linux {machine['kernel']}. "
             + "; ".join(f"{name}: {version}" for name, version in results["versions"].items()) + ".", "",
             "| work | " + " | ".join(f"{name}: wall, user+sys, memory" for name in builders) + " | times rbuild |",
             "|---|" + "---|" * (len(builders) + 1)]
    for found in results["workloads"].values():
        cells, ratios = [], []
        own = found["costs"].get("rbuild")
        for name in builders:
            cost = found["costs"].get(name)
            cells.append("–" if cost is None else
                         f"{seconds(cost['wall'])}, {seconds(cost['cpu'])}, {bytes_(cost['memory'])}")
            if cost and own and name != "rbuild":
                ratios.append(f"{name} {cost['wall'] / own['wall']:.1f}")
        lines.append(f"| {found['title']} | " + " | ".join(cells) + f" | {', '.join(ratios)} |")
    stores = [f"{name} {bytes_(size)}" for name, size in results["store"].items()]
    return "\n".join(lines) + f"\n\nDisk after all of it: {', '.join(stores)}.\n"


def plot(results: dict) -> str:
    """Bars of wall time on a logarithmic scale."""
    import math

    builders = list(results["versions"])
    rows = list(results["workloads"].values())
    height, left, width = 16, 330, 520
    times = [cost["wall"] for row in rows for cost in row["costs"].values()]
    low, high = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)))
    place = lambda value: left + width * (math.log10(value) - low) / max(1, high - low)
    group = height * len(builders) + 12
    total = group * len(rows) + 50
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 90}" height="{total}" '
           'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="white"/>']
    for power in range(low, high + 1):
        x = place(10.0**power)
        out.append(f'<line x1="{x:.0f}" y1="24" x2="{x:.0f}" y2="{total - 10}" stroke="#ddd"/>')
        out.append(f'<text x="{x:.0f}" y="16" text-anchor="middle" fill="#555">{seconds(10.0**power)}</text>')
    for index, row in enumerate(rows):
        y = 34 + group * index
        out.append(f'<text x="{left - 8}" y="{y + group / 2 - 4:.0f}" text-anchor="end">{html.escape(row["title"])}</text>')
        for number, name in enumerate(builders):
            cost = row["costs"].get(name)
            if cost is None:
                continue
            top, end = y + height * number, place(cost["wall"])
            out.append(f'<rect x="{left}" y="{top}" width="{max(1, end - left):.0f}" height="{height - 3}" '
                       f'fill="{COLOURS.get(name, "#999")}"/>')
            out.append(f'<text x="{max(left + 1, end) + 4:.0f}" y="{top + 11}" fill="#333">{name} {seconds(cost["wall"])}</text>')
    return "\n".join(out) + "\n</svg>\n"

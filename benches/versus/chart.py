"""How do figures become a picture?  Bars and curves in SVG, on logarithmic scales, readable on light and dark pages."""

import html
import math

STYLE = """<style>
text { fill: #24292f } .quiet { fill: #57606a } .grid { stroke: #d0d7de } .bad { fill: #a40e26 }
.c0 { fill: #c2410c; stroke: #c2410c } .c1 { fill: #2563eb; stroke: #2563eb } .c2 { fill: #6b7280; stroke: #6b7280 }
.guide { stroke: #57606a; stroke-dasharray: 4 4 } .budget { stroke: #24292f; stroke-width: 2 } .curve { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .quiet { fill: #9198a1 } .grid { stroke: #3d444d } .bad { fill: #ff9492 }
.c0 { fill: #fb923c; stroke: #fb923c } .c1 { fill: #60a5fa; stroke: #60a5fa } .c2 { fill: #9ca3af; stroke: #9ca3af }
.guide { stroke: #9198a1 } .budget { stroke: #e6edf3 } .curve { fill: none } }
</style>"""
LOW = 0.001
"""Seconds: what takes less is drawn as if it took this."""


def seconds(value: float) -> str:
    if value < 1:
        return f"{value * 1000:.1f} ms" if value < 0.01 else f"{value * 1000:.0f} ms"
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s" if value < 100 else f"{value:.0f} s"


def size(value: float) -> str:
    return f"{value / (1 << 20):.0f} MiB" if value < 10 << 30 else f"{value / (1 << 30):.1f} GiB"


def power_of_ten(value: float) -> str:
    return f"{value:g} s" if value >= 1 else f"{value * 1000:g} ms"


def text(x: float, y: float, words: str, more: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}"{more}>{html.escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def picture(width: float, height: float, parts: list[str]) -> str:
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
            f'height="{height:.0f}" font-family="system-ui, sans-serif" font-size="12">')
    return "\n".join([head, STYLE, *parts, "</svg>"]) + "\n"


class Scale:
    """Where a value is between two ends, on a logarithmic axis that begins and ends at powers of ten."""

    def __init__(self, values: list[float], start: float, end: float):
        self.low = math.floor(math.log10(min(values)))
        self.high = max(self.low + 1, math.ceil(math.log10(max(values))))
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        return self.start + (self.end - self.start) * (math.log10(value) - self.low) / (self.high - self.low)

    def powers(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def bars(rows: list[dict], names: list[str]) -> str:
    """Rows are {title, budget, values: {name: (seconds, is it a limit that was passed)}}; names have a colour each."""
    left, width, thick, gap = 300, 500, 13, 14
    height = thick * len(names) + gap
    bottom = 60 + height * len(rows)
    scale = Scale([LOW] + [max(LOW, value) for row in rows for value, _ in row["values"].values()], left, left + width)
    out = []
    for power in scale.powers():
        out += [line(scale(power), 50, scale(power), bottom - gap, "grid"),
                text(scale(power), 44, power_of_ten(power), ' text-anchor="middle" class="quiet"')]
    for number, name in enumerate(names):
        out += [f'<rect x="{left + 110 * number}" y="10" width="12" height="12" class="c{number}"/>',
                text(left + 110 * number + 18, 20, name)]
    out += [line(left + 110 * len(names), 9, left + 110 * len(names), 23, "budget"),
            text(left + 110 * len(names) + 8, 20, "budget of " + names[0])]
    for index, row in enumerate(rows):
        top = 58 + height * index
        out.append(text(left - 10, top + thick * len(names) / 2 + 4, row["title"], ' text-anchor="end"'))
        for number, name in enumerate(names):
            y = top + thick * number
            if name not in row["values"]:
                out.append(text(left + 5, y + 10, "–", ' class="quiet"'))
                continue
            value, limit = row["values"][name]
            end = scale(max(LOW, value))
            out += [f'<rect x="{left}" y="{y}" width="{max(1.0, end - left):.1f}" height="{thick - 2}" stroke="none" '
                    f'class="c{number}"/>',
                    text(max(left, end) + 5, y + 10, ("> " if limit else "") + seconds(value), ' class="quiet" font-size="11"')]
        if row["budget"]:
            x = scale(max(LOW, row["budget"]))
            out.append(line(x, top - 2, x, top + thick + 1, "budget"))
    return picture(left + width + 80, bottom, out)


def curves(panels: list[dict]) -> str:
    """Panels are {title, unit, curves: {name: [(x, seconds)]}}; a dashed line shows how steep linear growth is."""
    wide, high, space = 300, 220, 70
    columns = min(2, len(panels))
    out = []
    for index, panel in enumerate(panels):
        left = space + (wide + space) * (index % columns)
        top = 40 + (high + 90) * (index // columns)
        points = [point for curve in panel["curves"].values() for point in curve]
        across = Scale([x for x, _ in points], left, left + wide)
        up = Scale([max(LOW, y) for _, y in points], top + high, top)
        out.append(text(left, top - 14, panel["title"], ' font-weight="bold"'))
        for power in across.powers():
            out += [line(across(power), top, across(power), top + high, "grid"),
                    text(across(power), top + high + 16, f"{power:,.10g}", ' text-anchor="middle" class="quiet"')]
        for power in up.powers():
            out += [line(left, up(power), left + wide, up(power), "grid"),
                    text(left - 6, up(power) + 4, power_of_ten(power), ' text-anchor="end" class="quiet"')]
        out.append(text(left + wide / 2, top + high + 32, panel["unit"], ' text-anchor="middle" class="quiet"'))
        end, most = next(iter(panel["curves"].values()))[-1]
        start = max(10.0**across.low, end / max(LOW, most) * 10.0**up.low)
        out.append(line(across(start), up(max(LOW, most) * start / end), across(end), up(max(LOW, most)), "guide"))
        for number, (name, curve) in enumerate(panel["curves"].items()):
            places = [(across(x), up(max(LOW, y))) for x, y in curve]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            out.append(f'<polyline points="{path}" class="c{number} curve" style="fill: none"/>')
            out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" class="c{number}"/>' for x, y in places]
            out += [f'<rect x="{left + 100 * number}" y="{top + high + 42}" width="10" height="10" class="c{number}"/>',
                    text(left + 100 * number + 15, top + high + 51, name)]
    rows = (len(panels) + columns - 1) // columns
    return picture(space + (wide + space) * columns, 40 + (high + 90) * rows, out)

"""Line charts in SVG."""

import math

from datasets.page import escape, figure

COLOURS = ("#1965b0", "#dc050c", "#4eb265", "#f1932d", "#882e72", "#777777")
WIDTH, HEIGHT = 370, 190
LEFT, RIGHT, TOP, BOTTOM = 58, 10, 10, 26
MOST_POINTS = 400


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers from low to high."""
    step = 10 ** math.floor(math.log10((high - low) / about))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= about + 0.5)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def thin(points: list) -> list:
    """Means of neighbours, so that at most MOST_POINTS (x, y) are left."""
    size = math.ceil(len(points) / MOST_POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)] if size > 1 else [[p] for p in points]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def chart(title: str, curves: dict[str, list]) -> str:
    """Curves {name: [(images seen, value), ...]} in one pair of axes; values that are not finite are left out."""
    curves = {name: thin([(x, y) for x, y in points if math.isfinite(y)]) for name, points in curves.items()}
    curves = {name: points for name, points in curves.items() if points}
    if not curves:
        return ""
    xs = [x for points in curves.values() for x, _ in points]
    ys = [y for points in curves.values() for _, y in points]
    x0, x1 = min(xs), max(max(xs), min(xs) + 1)
    margin = (max(ys) - min(ys)) * 0.05 or abs(max(ys)) * 0.05 or 1.0
    y0, y1 = min(ys) - margin, max(ys) + margin

    def at(x, y):
        across = LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
        down = HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)
        return f"{across:.1f},{down:.1f}"

    parts, legend = [], []
    for tick in ticks(y0, y1):
        x, y = at(x0, tick).split(",")
        parts.append(f'<line x1="{x}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" stroke="#e5e5e5"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{float(y) + 4}" text-anchor="end">{tick:.4g}</text>')
    for tick in ticks(x0, x1):
        x = at(tick, y0).split(",")[0]
        label = f"{tick / 1000:g}k" if tick >= 1000 else f"{tick:g}"
        parts.append(f'<text x="{x}" y="{HEIGHT - 8}" text-anchor="middle">{label}</text>')
    for i, (name, points) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        if len(points) == 1:
            x, y = at(*points[0]).split(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>')
        path = " ".join(at(*point) for point in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        legend.append(f'<span style="color:{colour}">&#9644; {escape(name)}</span>')
    drawing = f'<svg width="{WIDTH}" height="{HEIGHT}" font-size="11" fill="#555">{"".join(parts)}</svg>'
    names = f"<div>{' &nbsp; '.join(legend)}</div>" if list(curves) != [title] else ""
    return figure(title, drawing, names)

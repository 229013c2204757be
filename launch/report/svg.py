"""Small line charts as inline SVG: no script, no network, readable in a mail attachment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 420, 170
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 22


def line_chart(
    lines: Mapping[str, Points],
    *,
    band: Sequence[tuple[float, float, float]] = (),
    reference: float | None = None,
    limits: tuple[float, float] | None = None,
) -> str:
    """One chart of one or a few lines over steps.

    Args:
        lines: label -> (x, finite y) points in order of x; empty lines are left out.
        band: (x, low, high) around the lines.
        reference: a dashed horizontal line.
        limits: lowest and highest y; default: what the values need.

    Raises:
        ValueError: there is nothing to draw.
    """
    drawn = {label: points for label, points in lines.items() if points}
    xs = [x for points in drawn.values() for x, _ in points]
    if not xs:
        raise ValueError("a chart needs at least one point")
    ys = [y for points in drawn.values() for _, y in points] + [y for _, *ends in band for y in ends]
    low, high = limits or _padded(min(ys), max(ys))
    first, last = min(xs), max(xs)

    def place(x: float, y: float) -> str:
        across = (x - first) / (last - first) if last > first else 0.5
        up = (min(max(y, low), high) - low) / (high - low)
        return f"{LEFT + across * (WIDTH - LEFT - RIGHT):.1f},{TOP + (1 - up) * (HEIGHT - TOP - BOTTOM):.1f}"

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(", ".join(drawn))}">']
    for value in (low, (low + high) / 2, high):
        start, end = place(first, value).split(",")[1], place(last, value).split(",")[1]
        parts.append(f'<path class="grid" d="M{LEFT},{start} L{WIDTH - RIGHT},{end}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{float(start) + 4:.1f}" text-anchor="end">{_number(value)}</text>')
    for x, anchor in ((first, "start"), (last, "end")) if last > first else ((first, "middle"),):
        at = place(x, low).split(",")[0]
        parts.append(f'<text x="{at}" y="{HEIGHT - 6}" text-anchor="{anchor}">{_number(x)}</text>')
    if reference is not None:
        height = place(first, reference).split(",")[1]
        parts.append(f'<path class="reference" d="M{LEFT},{height} L{WIDTH - RIGHT},{height}"/>')
    if band:
        corners = [place(x, top) for x, _, top in band] + [place(x, bottom) for x, bottom, _ in reversed(band)]
        kind = "band" if len(band) > 1 else "band single"
        parts.append(f'<polygon class="{kind}" points="{" ".join(corners)}"/>')
    for number, points in enumerate(drawn.values()):
        path = " ".join(place(x, y) for x, y in points)
        parts.append(f'<polyline class="line line{number}" points="{path}"/>')
        if len(points) <= 30:
            for x, y in points:
                left, top = place(x, y).split(",")
                parts.append(f'<circle class="dot dot{number}" cx="{left}" cy="{top}" r="2.5"/>')
    parts.append("</svg>")
    return "".join(parts)


def _padded(low: float, high: float) -> tuple[float, float]:
    """A little air around the values; what is never negative starts at zero."""
    air = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return (0.0 if low >= 0 else low - air, high + air)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"

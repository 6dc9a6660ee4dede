"""A line plot as SVG: logarithmic on both axes, so that a cost in proportion is a line of slope 1."""

import math
from collections.abc import Mapping, Sequence

import msgspec

WIDTH, HEIGHT, MARGIN = 640, 360, 64
COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700")


class Point(msgspec.Struct, frozen=True):
    """`x`: times the smallest size. `y`: what it costs."""

    x: float
    y: float


def svg(lines: Mapping[str, Sequence[Point]], *, x_label: str, y_label: str) -> str:
    points = [point for line in lines.values() for point in line]
    scale = _Scale(
        (min(p.x for p in points), max(p.x for p in points)),
        (min(p.y for p in points), max(p.y for p in points)),
    )
    drawn = [_line(number, name, line, scale) for number, (name, line) in enumerate(lines.items())]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
    box = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    return "\n".join([head, box, *scale.axes(x_label, y_label), *drawn, "</svg>", ""])


class _Scale:
    def __init__(self, xs: tuple[float, float], ys: tuple[float, float]) -> None:
        self._xs = xs
        self._ys = (10 ** math.floor(math.log10(ys[0])), 10 ** math.ceil(math.log10(ys[1])))

    def place(self, point: Point) -> tuple[float, float]:
        x = _share(point.x, self._xs) * (WIDTH - 3 * MARGIN) + MARGIN
        y = HEIGHT - MARGIN - _share(point.y, self._ys) * (HEIGHT - 2 * MARGIN)
        return round(x, 1), round(y, 1)

    def axes(self, x_label: str, y_label: str) -> list[str]:
        drawn = [_text(WIDTH / 2 - MARGIN, HEIGHT - 16, x_label), _text(8, MARGIN - 32, y_label)]
        value = self._ys[0]
        while value <= self._ys[1] * 1.001:
            _, y = self.place(Point(self._xs[0], value))
            drawn.append(f'<path d="M{MARGIN} {y}H{WIDTH - 2 * MARGIN}" stroke="#d0d7de"/>')
            drawn.append(_text(8, y + 4, f"{value:g}"))
            value *= 10
        for times in (1, 2, 4, 8):
            x, _ = self.place(Point(times, self._ys[0]))
            drawn.append(_text(x - 16, HEIGHT - MARGIN + 20, f"{times} times"))
        return drawn


def _share(value: float, between: tuple[float, float]) -> float:
    low, high = map(math.log, between)
    return (math.log(value) - low) / (high - low or 1.0)


def _line(number: int, name: str, line: Sequence[Point], scale: _Scale) -> str:
    colour = COLOURS[number % len(COLOURS)]
    places = [scale.place(point) for point in line]
    path = "L".join(f"{x} {y}" for x, y in places)
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in places)
    label = _text(places[-1][0] + 8, places[-1][1] + 4 + (number % 2) * 12, name, colour)
    return f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}{label}'


def _text(x: float, y: float, text: str, colour: str = "#24292f") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="12" fill="{colour}">{text}</text>'

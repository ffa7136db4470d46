"""The picture of mean ranks over data sets, after Demšar: methods that do not differ are joined."""

from collections.abc import Sequence
from html import escape

import numpy as np

from tupelo.evaluation.ranks import Ranks

WIDTH, SIDE, ROW = 720, 190, 20  # pixels: of all, of the names on each side, of a line
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
INK, FAINT, ACCENT = "#1d2329", "#9aa4ae", "#4a3f9f"


def rank_picture(ranks: Ranks, names: Sequence[str]) -> str:
    """SVG: an axis of ranks with every method, the critical difference, groups that are alike.

    Args:
        ranks: of the methods.
        names: of the methods, in the same order.
    """
    k = len(names)
    order = np.argsort(ranks.mean, kind="stable")
    groups = ranks.cliques()
    half = (k + 1) // 2
    top = 62  # of the axis
    below = top + 14 + 9 * len(groups)
    height = below + 14 + ROW * half + 8

    def x(rank: float | int) -> float:
        return SIDE + (rank - 1) / max(1, k - 1) * (WIDTH - 2 * SIDE)

    drawn = [_line(x(1), top, x(k), top, INK, 1.2)]
    for rank in range(1, k + 1):
        drawn += [
            _line(x(rank), top - 5, x(rank), top, INK, 1.2),
            _text(x(rank), top - 10, str(rank), "middle", size=11),
        ]
    reach = x(1 + min(ranks.critical, k - 1))
    drawn += [
        _line(x(1), 24, reach, 24, ACCENT, 2),
        _line(x(1), 20, x(1), 28, ACCENT, 2),
        _line(reach, 20, reach, 28, ACCENT, 2),
        _text(x(1), 13, f"critical difference {ranks.critical:.2f}", "start", size=11),
    ]
    for place, group in enumerate(groups):
        height_of = top + 12 + 9 * place
        low, high = (float(ranks.mean[group[side]]) for side in (0, -1))
        drawn.append(_line(x(low) - 4, height_of, x(high) + 4, height_of, ACCENT, 4))
    for place, method in enumerate(order):
        mean = float(ranks.mean[method])
        at = x(mean)
        left = place < half
        line = place if left else k - 1 - place
        y = below + 10 + ROW * line
        edge = SIDE - 12 if left else WIDTH - SIDE + 12
        drawn += [
            f'<polyline points="{at:.1f},{top} {at:.1f},{y} {edge},{y}" fill="none" '
            f'stroke="{FAINT}" stroke-width="1"/>',
            _text(edge + (-5 if left else 5), y + 4, f"{names[method]} ({mean:.2f})",
                  "end" if left else "start"),
        ]  # fmt: skip
    said = ", ".join(f"{names[method]} {ranks.mean[method]:.2f}" for method in order)
    title = f"Mean ranks over {ranks.sets} data sets: {said}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" role="img" font-family="{FONT}">'
        f'<title>{escape(title)}</title><rect width="100%" height="100%" fill="white"/>'
        + "".join(drawn)
        + "</svg>\n"
    )


def _line(
    x0: float | int,
    y0: float | int,
    x1: float | int,
    y1: float | int,
    colour: str,
    width: float | int,
) -> str:
    return (
        f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="{colour}" '
        f'stroke-width="{width:g}" stroke-linecap="round"/>'
    )


def _text(x: float | int, y: float | int, text: str, anchor: str, *, size: int = 13) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="{INK}">{escape(text)}</text>'
    )

"""Orderings that `benchmarks/ensembles.py` looks for, and whether they came out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

from results import Page

Cells = Callable[[str], dict]
"""Name of a setting -> its cell, for one data set, inputs and seed; KeyError if not measured."""

BAGS = tuple(f"DREML, D = {d}" for d in ("4", "12", "32", "C"))
BOOSTED = ("BIER, additive", "BIER, eta", "BIER, eta + activation", "BIER, eta + adversarial")
HEADS = ("2-heads", "4-heads", "8-heads", "4-heads + L_div")


class Claim(NamedTuple):
    """A statement that holds where a number is above zero.

    Attributes:
        text: what is claimed.
        inputs: "maps", "features", or "long" for more steps over maps.
        margin: the number, in points of R@1 or in the units of what is compared.
        points: show it as points.
    """

    text: str
    inputs: str
    margin: Callable[[Cells], float]
    points: bool = True


def _above(one: str, other: str, key: str = "recall@1") -> Callable[[Cells], float]:
    return lambda cell: cell(one)[key] - cell(other)[key]


def _rising(names: Sequence[str], key: str = "recall@1") -> Callable[[Cells], float]:
    return lambda cell: min(cell(b)[key] - cell(a)[key] for a, b in pairwise(names))


def _grows(cell: Cells) -> float:
    at = [_at(cell, BAGS[1], count)["recall@1"] for count in (1, 4, 12, 24)]
    return min(b - a for a, b in pairwise(at))


def _at(cell: Cells, bags: str, count: int) -> dict[str, float]:
    return cell(bags)["curve"][str(count)]


def _gain(cell: Cells, bags: str) -> float:
    last = _at(cell, bags, 24)
    return last["recall@1"] - last["mean_recall@1"]


def _small_against_big(cell: Cells) -> float:
    """The smallest bags of which no more than 24 have as many dimensions as there are classes."""
    for bags in BAGS[1:3]:
        found = cell(bags)
        count = max(1, found["classes"] // found["dimensions"])
        if str(count) in found["curve"]:
            many = found["curve"][str(count)]["recall@1"]
            return many - _at(cell, BAGS[3], 1)["recall@1"]
    raise KeyError(BAGS[3])


def _best_bags(cell: Cells) -> float:
    middle = max(_at(cell, bags, 24)["recall@1"] for bags in BAGS[1:3])
    return middle - _at(cell, BAGS[3], 24)["recall@1"]


def _over_best(cell: Cells, names: Iterable[str]) -> float:
    return min(
        found["recall@1"] - max(one["recall@1"] for one in found["alone"])
        for found in map(cell, names)
    )


def _cosines(cell: Cells, names: Iterable[str]) -> list[float]:
    return [cell(name)["self_cosine"] for name in names]


ABE = tuple(f"ABE-{m}" for m in (2, 4, 8))
ALIKE = tuple(f"{name}, no L_div" for name in ABE)

ASSERTED = (
    Claim("DREML (a): 24 members above the best of them, D = 12", "features",
          lambda c: _at(c, BAGS[1], 24)["recall@1"] - _at(c, BAGS[1], 24)["best_recall@1"]),
    Claim("DREML (a): 1 < 4 < 12 < 24 members, D = 12 (smallest step)", "features", _grows),
    Claim("DREML (b): 24 independent bags above one shared bag, D = 12", "features",
          lambda c: _at(c, BAGS[1], 24)["recall@1"]
          - _at(c, "DREML, D = 12, one bag", 24)["recall@1"]),
    Claim("DREML (c): mean member D = 4 < 12 < 32 < C (smallest step)", "features",
          lambda c: min(
              _at(c, b, 24)["mean_recall@1"] - _at(c, a, 24)["mean_recall@1"]
              for a, b in pairwise(BAGS)
          )),
    Claim("DREML (c): gain over the mean member D = 4 > 12 > 32 > C (smallest step)", "features",
          lambda c: min(_gain(c, a) - _gain(c, b) for a, b in pairwise(BAGS))),
    Claim("DREML (d): many small bags above one classifier of as many dimensions", "features",
          _small_against_big),
    *(
        Claim(f"ABE A1: cosine of {name} above 0.85 (minus 0.85)", "maps",
              lambda c, name=name: c(name)["self_cosine"] - 0.85, points=False)
        for name in ALIKE
    ),
    *(
        Claim(f"ABE A1: cosine of {name} below 0.5 (0.5 minus)", "maps",
              lambda c, name=name: 0.5 - c(name)["self_cosine"], points=False)
        for name in ABE
    ),
    Claim("ABE A1: cosine of heads within 0.2 of 0 (0.2 - largest)", "maps",
          lambda c: 0.2 - max(map(abs, _cosines(c, HEADS))), points=False),
    *(
        Claim(f"ABE A2: gap of {name} with L_div above that without", "maps",
              _above(name, f"{name}, no L_div", "gap"))
        for name in ABE
    ),
    Claim("BIER B1: correlation of no boost above that of boosting, additive", "features",
          _above("BIER, no boost", "BIER, additive", "correlation"), points=False),
    Claim("BIER B1: correlation of no boost above that of boosting, eta", "features",
          _above("BIER, no boost", "BIER, eta", "correlation"), points=False),
    Claim("BIER B1: correlation of boosting above that with activation", "features",
          _above("BIER, eta", "BIER, eta + activation", "correlation"), points=False),
    Claim("BIER B1: correlation of boosting above that with adversarial", "features",
          _above("BIER, eta", "BIER, eta + adversarial", "correlation"), points=False),
    Claim("BIER B4: boosting, additive, above a single embedding", "features",
          _above("BIER, additive", "single, deviance")),
    Claim("BIER B4: boosting, eta, above a single embedding", "features",
          _above("BIER, eta", "single, deviance")),
    Claim("BIER B4: boosting, additive, above no boost", "features",
          _above("BIER, additive", "BIER, no boost")),
    Claim("BIER B4: boosting, eta, above no boost", "features",
          _above("BIER, eta", "BIER, no boost")),
    Claim("BIER B5: ensemble at least its best learner, all variants (smallest)", "features",
          lambda c: _over_best(c, ("BIER, no boost", *BOOSTED))),
)  # fmt: skip

OPEN = (
    *(
        Claim(f"ABE-{m} above {m}-heads", "maps", _above(f"ABE-{m}", f"{m}-heads"))
        for m in (2, 4, 8)
    ),
    Claim("ABE-1 < 2 < 4 < 8 (smallest step)", "maps", _rising(("ABE-1", *ABE))),
    Claim("ABE-8 above the single embedding", "maps", _above("ABE-8", "single, contrastive")),
    Claim("ABE-8 with L_div above ABE-8 without", "maps", _above("ABE-8", "ABE-8, no L_div")),
    Claim("8-heads above the single embedding", "maps", _above("8-heads", "single, contrastive")),
    Claim("300 steps: ABE-4 above 4-heads", "long", _above("ABE-4", "4-heads")),
    Claim("300 steps: ABE-4 above the single embedding", "long",
          _above("ABE-4", "single, contrastive")),
    Claim("300 steps: ABE-4 with L_div above ABE-4 without", "long",
          _above("ABE-4", "ABE-4, no L_div")),
    Claim("L_div helps 4 heads (published: no gain)", "maps",
          _above("4-heads + L_div", "4-heads")),
    Claim("100 steps: boosting, additive, above single", "maps",
          _above("BIER, additive", "single, deviance")),
    Claim("100 steps: boosting, eta, above single", "maps",
          _above("BIER, eta", "single, deviance")),
    Claim("100 steps: correlation of no boost above boosting, eta", "maps",
          _above("BIER, no boost", "BIER, eta", "correlation"), points=False),
    Claim("800 steps: activation adds to boosting", "features",
          _above("BIER, eta + activation", "BIER, eta")),
    Claim("800 steps: adversarial adds to boosting", "features",
          _above("BIER, eta + adversarial", "BIER, eta")),
    Claim("DREML: an intermediate D is best, 24 members (12 or 32 over C)", "features",
          _best_bags),
    Claim("DREML as wide as the others above the single embedding", "maps",
          _above("DREML", "single, contrastive")),
)  # fmt: skip


def write(page: Page, datasets: Mapping[str, str], seeds: Sequence[int]) -> None:
    """What must come out, and what may not be asserted, each with the seeds in which it holds."""
    for title, text, claims in (
        (
            "What came out",
            "Orderings that should hold at any size, numbered as in the specification: the mean "
            "margin over seeds, in points of R@1 unless cosines or correlations are compared; the "
            "seeds in which it is above zero (B5: at least zero).",
            ASSERTED,
        ),
        (
            "What may not be asserted at this size",
            "Published at full scale, or measured elsewhere with either sign; as it is here.",
            OPEN,
        ),
    ):
        rows = []
        for claim in claims:
            row, held, measured = [claim.text], 0, 0
            for dataset in datasets:
                margins = _margins(page, dataset, seeds, claim)
                good = sum(_holds(claim, margin) for margin in margins)
                held, measured = held + good, measured + len(margins)
                shown = _shown(claim, margins)
                row.append(f"{shown} ({good} of {len(margins)})" if margins else "")
            planned = len(datasets) * len(seeds)
            rows.append([*row, _verdict(held, measured, planned)])
        page.table(title, text, ["claim", *datasets, ""], rows)


def _holds(claim: Claim, margin: float) -> bool:
    return margin >= 0 if "at least" in claim.text else margin > 0


def _verdict(held: int, measured: int, planned: int) -> str:
    if not measured:
        return "not measured"
    word = "came out" if held == measured else "did **not** come out"
    rest = "" if measured == planned else f", {planned} planned"
    return f"{word}: {held} of {measured}{rest}"


def _shown(claim: Claim, margins: Sequence[float]) -> str:
    if not margins:
        return ""
    mean = fmean(margins)
    return f"{100 * mean:+.1f}" if claim.points else f"{mean:+.3f}"


def _margins(page: Page, dataset: str, seeds: Sequence[int], claim: Claim) -> list[float]:
    found = []
    for seed in seeds:

        def cell(name: str, seed: int = seed) -> dict:
            return page.numbers["cells"][f"{dataset}/{claim.inputs}/{name}/{seed}"]

        try:
            found.append(claim.margin(cell))
        except KeyError:
            continue
    return found

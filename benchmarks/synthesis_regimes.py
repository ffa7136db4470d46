"""Second part of `benchmarks/synthesis.py`: the settings in which the published gains should show.

* The removal ordering of HDML, five seeds: full HDML against HDML without one of its parts.
* HDML as published, on pretrained features, with training that saturates.
* IAA in the small setting of its specification, from pixels.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean

from results import Page, seeds_summary
from synthesis_cells import (
    AUGMENTED,
    HARDNESS_AWARE,
    OFFICIAL,
    RATIOS,
    REMOVALS,
    Plan,
    base,
    cell,
    drawn,
)
from tupelo.models import Embedder
from tupelo.synthesis import IntraClassAugmented
from tupelo.types import Objective

SYNTHESIS = (*HARDNESS_AWARE, *AUGMENTED)
FIVE, THREE = tuple(range(5)), tuple(range(3))

_REMOVAL = Plan(
    steps=800, epoch=100, batches="triplets", classes=40, y=128, z=64, rates=(5e-4,), cosine=False,
    f="linear", keep=136,
)  # fmt: skip
# The ratios between J_recon and J_soft are published for pooled features of a pretrained network,
# whose rows have squared norms of thousands; those of the frozen features here have 150.
REMOVAL = {
    "features as they are": _REMOVAL,
    "spread 4": replace(_REMOVAL, spread=4.0),
    "spread 10": replace(_REMOVAL, spread=10.0),
}
ORDERED = ("no J_soft", "no J_recon", "detached")  # full HDML should be above these

PUBLISHED = Plan(
    steps=800, epoch=100, batches="triplets", classes=40, z=64, rates=(7e-5,), cosine=False,
    f="pretrained",
)  # fmt: skip
REGIMES: dict[str, tuple[str, Plan]] = {
    "cars196, triplets, as published": ("cars196", PUBLISHED),
    "cars196, triplets, 16 dimensions": ("cars196", replace(PUBLISHED, z=16)),
    "cars196, triplets, 16 dimensions, rate 5e-4": (
        "cars196",
        replace(PUBLISHED, z=16, rates=(5e-4,)),
    ),
    "cars196, triplets, 24 classes, rate 5e-4": (
        "cars196",
        replace(PUBLISHED, keep=24, classes=12, rates=(5e-4,)),
    ),
    "cars196, n pairs, as published": (
        "cars196",
        replace(PUBLISHED, batches="n-pair", classes=20, steps=600),
    ),
    "cub200_half, triplets, as published": ("cub200_half", replace(PUBLISHED, classes=24)),
    "cub200_half, triplets, 16 dimensions": (
        "cub200_half",
        replace(PUBLISHED, classes=24, z=16),
    ),
}
ARMS = ("plain", "HDML")


def arms(regime: str) -> tuple[str, ...]:
    """All removals in the first regime."""
    return tuple(REMOVALS) if regime == next(iter(REGIMES)) else ARMS


TOY = Plan(
    steps=900, epoch=60, classes=30, per_class=4, z=64, rates=(1e-3,), cosine=False, keep=157,
    batch_norm=False,
)  # fmt: skip
TOY_METHODS = ("MS", "contrastive")
TOY_VARIANTS = {
    "plain": None,
    **AUGMENTED,
    "IAA, isotropic": {"variance": "isotropic"},
    "IAA, around the mean": {"centre": "mean"},
}


def removal(setting: str, arm: str, seed: int) -> dict:
    """One arm of the removal ordering."""
    plan = REMOVAL[setting]
    options = REMOVALS[arm]
    if options is not None:
        options = {**RATIOS, "alpha": 1.0, **options}
    return cell("omniglot", plan, seed, partial(drawn, plan, options))


def published(regime: str, arm: str, seed: int) -> dict:
    """One arm of one regime, with the published constants."""
    dataset, plan = REGIMES[regime]
    options = REMOVALS[arm]
    if options is not None:
        options = {**OFFICIAL, **options}
    return cell(dataset, plan, seed, partial(drawn, plan, options))


def toy(method: str, variant: str, seed: int) -> dict:
    """One cell of IAA's small setting: synthesis from step 300, estimates every 60 steps."""

    def make(model: Embedder, n_classes: int) -> Objective:
        inner, options = base(method, n_classes), TOY_VARIANTS[variant]
        if options is None:
            return inner
        return IntraClassAugmented(inner, n_classes, TOY.z, start_after=5, every=1, **options)

    return cell("omniglot_pixels", TOY, seed, make)


def cells(*, first: bool) -> dict[str, tuple]:
    """Cells of what must be asserted, or of the search for the published gain."""
    if not first:
        return {
            f"regime/{regime}/{arm}/{seed}": (published, regime, arm, seed)
            for seed in THREE
            for regime in REGIMES
            for arm in arms(regime)
        }
    toys = {
        f"toy/{method}/{variant}/{seed}": (toy, method, variant, seed)
        for seed in THREE
        for method in TOY_METHODS
        for variant in TOY_VARIANTS
    }
    removals = {
        f"removal/{setting}/{arm}/{seed}": (removal, setting, arm, seed)
        for setting in REMOVAL
        for seed in FIVE
        for arm in REMOVALS
    }
    return toys | removals


def conclude(page: Page) -> None:
    """What the specifications allow to assert, and whether it came out."""
    lines = []
    for setting in REMOVAL:
        full = _values(page, f"removal/{setting}/HDML", FIVE)
        for arm in (*ORDERED, "plain"):
            other = _values(page, f"removal/{setting}/{arm}", FIVE)
            if full and len(full) == len(other):
                lines.append(_claim(f"Full HDML above {arm}, {setting}", full, other))
    for method in TOY_METHODS:
        plain, here = (_values(page, f"toy/{method}/{v}", THREE) for v in ("plain", "IAA"))
        if plain and len(plain) == len(here):
            gate = "by 2 points or more in the mean, small setting"
            lines.append(_claim(f"IAA above plain {method}, {gate}", here, plain, least=0.02))
        identity = _values(page, f"toy/{method}/IAA, identity", THREE)
        if method == "MS" and plain and len(plain) == len(identity):
            lines.append(_claim("Identity covariance below plain MS", plain, identity))
    for regime in REGIMES:
        plain, here = (_values(page, f"regime/{regime}/{a}", THREE) for a in ("plain", "HDML"))
        if plain and len(plain) == len(here):
            lines.append(_claim(f"Published gain of HDML in: {regime}", here, plain))
    if lines:
        page.text("What came out", "R@1 in points, mean over seeds.\n\n" + "\n".join(lines))


def _claim(text: str, above: Sequence[float], below: Sequence[float], least: float = 0.0) -> str:
    gains = [a - b for a, b in zip(above, below, strict=True)]
    seeds = sum(gain > 0 for gain in gains)
    holds = fmean(gains) >= least if least else fmean(gains) > 0
    verdict = "came out" if holds else "did **not** come out"
    return (
        f"* {text}: {verdict}, {100 * fmean(gains):+.1f} points; the sign holds in {seeds} of "
        f"{len(gains)} seeds."
    )


def write(page: Page) -> None:
    """The three tables."""
    _table(
        page, "Removing parts of HDML",
        "Triplets on frozen features of 136 characters of omniglot, f linear to 128, embedding 64, "
        "40 triplets a batch, 800 steps at 5e-4; alpha 1, ratios as published. J_m, J_syn, "
        "lambda, w and the accuracy of the classifier on synthetic features are means over the "
        "last tenth of the steps. Spread: the standard deviation that the frozen features are "
        "brought to; as they are it is 0.37.",
        [(s, arm, f"removal/{s}/{arm}") for s in REMOVAL for arm in REMOVALS], FIVE,
    )  # fmt: skip
    _table(
        page, "Where the published gain of HDML is",
        "Published constants (alpha 90, beta 1e4, S 1e4, sums over the batch, weight decay 5e-3 "
        "inside the loss, squared distances of un-normalised rows), batches drawn as triplets "
        "(cars196 40, cub200_half 24) or as n pairs (20). f is pretrained: 256 principal "
        "components of ImageNet features and a residual block that starts at zero. Rate 7e-5, "
        "800 steps (n pairs 600), unless said otherwise.",
        [(r, arm, f"regime/{r}/{arm}") for r in REGIMES for arm in arms(r)], THREE,
    )  # fmt: skip
    _table(
        page, "IAA in the small setting",
        "Omniglot at 14 px, 157 training characters, MLP 196-256-64 from scratch without batch "
        "normalisation, 900 steps of 30 x 4 at 1e-3, synthesis from step 300, estimates every 60.",
        [(m, v, f"toy/{m}/{v}") for m in TOY_METHODS for v in TOY_VARIANTS], THREE,
    )  # fmt: skip


SHOWN = ("J_m", "J_syn", "lambda", "w", "label_accuracy")


def _table(
    page: Page, title: str, text: str, rows: Sequence[tuple[str, str, str]], seeds: Sequence[int]
) -> None:
    found = page.numbers["cells"]
    table, generates = [], any("HDML" in arm for _, arm, _ in rows)
    for setting, arm, key in rows:
        runs = [found[f"{key}/{seed}"] for seed in seeds if f"{key}/{seed}" in found]
        if len(runs) < len(seeds):
            continue
        plain = _values(page, key.replace(arm, "plain"), seeds)
        gain = fmean(run["recall@1"] for run in runs) - fmean(plain)
        row = [setting, arm, seeds_summary([run["recall@1"] for run in runs])]
        row.append("" if arm == "plain" else f"{100 * gain:+.1f}")
        row.append(seeds_summary([run["map@r"] for run in runs]))
        late = [run["statistics"] for run in runs]
        for name in SHOWN if generates else ():
            wanted = "loss" if arm == "plain" and name == "J_m" else name
            has = all(wanted in one for one in late)
            row.append(f"{fmean(one[wanted] for one in late):.3g}" if has else "")
        table.append(row)
    if table:
        shown = ("J_m", "J_syn", "lambda", "w", "accuracy") if generates else ()
        header = ["setting", "variant", "R@1", "gain", "MAP@R", *shown]
        page.table(title, f"{text} Seeds: {len(seeds)}.", header, table)


def _values(page: Page, key: str, seeds: Sequence[int], name: str = "recall@1") -> list[float]:
    found = page.numbers["cells"]
    return [found[f"{key}/{seed}"][name] for seed in seeds if f"{key}/{seed}" in found]

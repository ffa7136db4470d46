"""The numbers of a run: what stands in front, what stands in the table, and what each means."""

import math
from collections.abc import Mapping
from typing import NamedTuple

Scores = Mapping[str, float | int]

NAMES = {
    "triplet_accuracy": "Triplet accuracy",
    "negative_elbo": "-ELBO",
    "map@r": "MAP@R",
    "r_precision": "R-precision",
    "recall@1": "Recall@1",
    "recall@2": "Recall@2",
    "recall@4": "Recall@4",
    "recall@8": "Recall@8",
    "precision@2": "Precision@2",
    "precision@4": "Precision@4",
    "precision@8": "Precision@8",
    "mrr": "MRR",
    "nmi": "NMI",
    "ami": "AMI",
    "f1": "F1 of pairs",
}
HEADLINES = ("triplet_accuracy", "negative_elbo", "map@r", "recall@1", "r_precision", "nmi")
LOWER = ("negative_elbo",)  # is better
MEANINGS = {
    "triplet_accuracy": (
        "Share of random triplets of these pictures whose other class is strictly farther from "
        "the anchor than its own, by distance between posterior means. 0 to 1; chance is 0.5."
    ),
    "negative_elbo": (
        "What a picture is away from its reconstruction, plus the divergence of its posterior "
        "from the prior: mean over pictures, nats. Lower is better."
    ),
    "map@r": (
        "A picture with R relatives looks at its R nearest neighbours: the share of relatives "
        "there, counting more the nearer they come. 0 to 1; the score to compare runs by."
    ),
    "r_precision": (
        "The share of relatives among the R nearest neighbours, whatever their order. 0 to 1."
    ),
    "recall@1": "Share of pictures whose nearest neighbour is a relative. 0 to 1.",
    "recall@2": "Share of pictures with a relative among the 2 nearest. Never below Recall@1.",
    "recall@4": "The same among the 4 nearest.",
    "recall@8": "The same among the 8 nearest.",
    "precision@2": (
        "Mean share of relatives among the 2 nearest. 0 to 1, but below 1 where pictures have "
        "fewer relatives than that."
    ),
    "precision@4": "The same among the 4 nearest.",
    "precision@8": "The same among the 8 nearest.",
    "mrr": "Mean of 1 / rank of the nearest relative. 0 to 1, and 1 when it always comes first.",
    "nmi": (
        "How well k-means clusters, as many as classes, agree with the classes. 0 to 1; high by "
        "chance alone where classes are many and small. ± is the standard deviation over starts of "
        "k-means."
    ),
    "ami": "The same corrected for chance: 0 is what chance gives, 1 full agreement.",
    "f1": "How far the pairs put into one cluster and the pairs of one class agree. 0 to 1.",
}


class Line(NamedTuple):
    """A score: its name, numbers as text ("" where there is none), better or worse, meaning."""

    name: str
    before: str
    after: str
    change: str
    better: bool | None
    meaning: str


def headlines(before: Scores, after: Scores) -> list[Line]:
    """The few scores that stand in front."""
    return [_line(name, before, after) for name in HEADLINES if _shown(name, before, after)]


def table(before: Scores, after: Scores) -> list[Line]:
    """All scores."""
    return [_line(name, before, after) for name in NAMES if _shown(name, before, after)]


def counts(after: Scores, *, own: bool) -> str:
    """How many pictures the scores are means over, in a sentence; `own`: they are the gallery."""
    if "n_queries" not in after or "n_gallery" not in after:
        return ""
    queries, gallery = int(after["n_queries"]), int(after["n_gallery"])
    unmatched = int(after.get("n_unmatched", 0))
    sentence = (
        f"{queries:,} pictures searched each other."
        if own
        else f"{queries:,} queries searched a gallery of {gallery:,} pictures."
    )
    if unmatched:
        sentence += (
            f" {unmatched:,} of them {'has' if unmatched == 1 else 'have'} no relative to find "
            "there and are left out of the means."
        )
    return sentence


def _shown(name: str, before: Scores, after: Scores) -> bool:
    return name in before or name in after


def _line(name: str, before: Scores, after: Scores) -> Line:
    change = after[name] - before[name] if name in before and name in after else math.nan
    return Line(
        NAMES[name],
        _number(name, before),
        _number(name, after),
        "" if math.isnan(change) else f"{change:+.4f}",
        None if math.isnan(change) or abs(change) < 5e-5 else (change > 0) != (name in LOWER),
        MEANINGS[name],
    )


def _number(name: str, scores: Scores) -> str:
    if name not in scores:
        return ""
    spread = scores.get(f"{name}_std")
    return f"{scores[name]:.4f}" + ("" if spread is None else f" ± {spread:.4f}")

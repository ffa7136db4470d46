"""The section of a run that trained several learners: each by itself, and how alike they are."""

from collections.abc import Mapping, Sequence
from typing import Any

from tupelo.sections import Bars, Curves, Part, Section, Table

TEXT = (
    "Each learner searches with its own part of the embedding; together they search with all of "
    "it. An ensemble is worth its learners where it finds clearly more than the mean of them, and "
    "it does so the less they agree."
)
CORRELATION = (
    " Dimensions of different learners have a mean absolute correlation of {:.3f} over the "
    "pictures (0: they say different things; 1: the same)."
)
COSINE = (
    " The rows that two learners give one picture have a mean cosine of {:.3f} (1: equal learners)."
)
OF_VALIDATION = ("val/recall@1", "val/mean_recall@1")


def learners_section(
    results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> Section | None:
    """Table and curves of the learners; None for a run without them.

    Args:
        results: of `results.json`.
        rows: of `metrics.csv`.
    """
    measured = results.get("learners")
    if not isinstance(measured, Mapping) or not measured.get("alone"):
        return None
    alone = measured["alone"]
    names = [str(number) for number in range(1, len(alone) + 1)]
    table: list[list[str | float | int]] = [
        [name, one["width"], one["recall@1"], one["map@r"]]
        for name, one in zip(names, alone, strict=True)
    ]
    table += [
        ["mean", "", measured["mean_recall@1"], measured["mean_map@r"]],
        [
            "together",
            sum(one["width"] for one in alone),
            measured["recall@1"],
            measured["map@r"],
        ],
        ["together above mean", "", measured["gap"], measured["map@r"] - measured["mean_map@r"]],
    ]
    text = TEXT
    if "correlation" in measured:
        text += CORRELATION.format(measured["correlation"])
    if "self_cosine" in measured:
        text += COSINE.format(measured["self_cosine"])
    shown: list[Part] = [Table(["learner", "width", "Recall@1", "MAP@R"], table)]
    if len(alone) > 1:
        bars = [one["recall@1"] for one in alone]
        shown.append(
            Bars([*names, "together"], [*bars, measured["recall@1"]], "Recall@1 of each learner")
        )
    if any(OF_VALIDATION[1] in row for row in rows):
        shown.append(Curves(OF_VALIDATION, "Recall@1, validation"))
    return Section("Learners", text, shown)

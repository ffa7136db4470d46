"""What goes together: losses, selection, batches, synthesis, memory, ensembles and tags.

It is decided here alone: the recipe, the objective that is built from it, the table in the
documentation and its tests all ask `refusal` and `advice`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tupelo.recipes.names import (
    CLASS_LOSSES,
    PAIR_LOSSES,
    PAIR_SUMS,
    RAW_ROWS,
    TUPLE_LOSSES,
    Batches,
    Ensemble,
    LossName,
    Negatives,
    Positives,
    Synthesis,
)


class Combination(NamedTuple):
    """What is compared, how it is chosen, and what is added to it.

    Attributes:
        loss: by its name.
        positives: rule, or "all"; None where there is nothing to choose.
        negatives: rule; None where all are weighed, or there is nothing to choose.
        synthesis: "none", "hdml" or "iaa".
        memory: recent embeddings are further candidates.
        batches: how they are drawn.
        normalize: unit rows are compared; None as is usual for the loss.
        tags: pictures have several labels.
        ensemble: "none", "heads", "abe", "bier" or "dreml".
    """

    loss: LossName
    positives: Positives | None = None
    negatives: Negatives | None = None
    synthesis: Synthesis = "none"
    memory: bool = False
    batches: Batches = "classes"
    normalize: bool | None = None
    tags: bool = False
    ensemble: Ensemble = "none"


def completed(combination: Combination) -> Combination:
    """With the positives and negatives that are usual for what is given.

    >>> completed(Combination("margin")).negatives
    'distance-weighted'
    """
    loss, positives, negatives = combination[:3]
    if loss in CLASS_LOSSES or combination.batches != "classes":
        return combination
    if loss in TUPLE_LOSSES:
        usual = "semi-hard" if loss == "triplet" else "distance-weighted"
        return combination._replace(positives=positives or "easiest", negatives=negatives or usual)
    if combination.synthesis == "hdml" and loss == "n-pair" and positives != "all":  # on tuples
        return combination._replace(
            positives=positives or "random", negatives=negatives or "random"
        )
    return combination._replace(positives=positives or "all")


def usual_batches(combination: Combination) -> Batches:
    """How batches are drawn where it is not said: N-pair with HDML as its authors do.

    >>> usual_batches(Combination("n-pair", synthesis="hdml"))
    'n-pair'
    """
    chosen = combination.positives or combination.negatives
    as_published = combination.loss == "n-pair" and combination.synthesis == "hdml"
    return "n-pair" if as_published and not chosen else "classes"


def compares_unit_rows(combination: Combination) -> bool:
    """Whether rows are brought to unit length before they are compared."""
    if combination.normalize is None:
        return combination.loss not in RAW_ROWS
    return combination.normalize


def refusal(combination: Combination) -> str:
    """Why a completed combination cannot be trained, and what can; "" where it can.

    >>> refusal(Combination("softmax", memory=True)).partition(":")[0]
    '--memory cannot be used with --loss softmax'
    """
    asked = (_of_ensemble, _of_class_loss, _of_batches, _of_chosen, _of_synthesis, _of_tags)
    return next((reason for check in asked if (reason := check(combination))), "")


def advice(combination: Combination) -> tuple[str, ...]:
    """What is allowed but probably not meant, one sentence each.

    >>> advice(Combination("margin", "easiest", "distance-weighted", synthesis="iaa"))[0][:40]
    '--negatives distance-weighted leaves out'
    """
    said = []
    weighted = combination.negatives == "distance-weighted"
    if weighted and combination.synthesis == "iaa":
        said.append(
            "--negatives distance-weighted leaves out most of the negatives that --synthesis iaa "
            "makes, as the authors of IAA report; semi-hard or random uses them"
        )
    window = combination.negatives == "semi-hard"
    if window and not compares_unit_rows(combination):
        said.append(
            "--negatives semi-hard looks for distances up to 0.2 beyond the positive, a window "
            f"made for unit rows, and --loss {combination.loss} compares rows of any length; where "
            "the window is empty, the negative is drawn at random"
        )
    return tuple(said)


def _of_ensemble(c: Combination) -> str:
    if c.ensemble == "none":
        return ""
    if c.synthesis == "hdml":
        return (
            f"--synthesis hdml cannot be used with --ensemble {c.ensemble}: what is generated is "
            "embedded again, and a generator for each learner and its head is not published; take "
            "--synthesis iaa, or leave one of them out"
        )
    if c.ensemble == "bier" and c.loss in CLASS_LOSSES:
        return (
            f"--ensemble bier cannot be used with --loss {c.loss}: boosting weighs pairs of "
            "pictures, and this loss compares pictures with a learned row per class; take a pair "
            "or tuple loss, or --ensemble abe"
        )
    if c.ensemble == "bier":
        return _of_boosting(c)
    return ""


def _of_boosting(c: Combination) -> str:
    if c.memory:
        return (
            "--memory cannot be used with --ensemble bier: a pair is weighted by what all learners "
            "so far make of it, and a memory keeps rows of one learner; leave it out, or take "
            "--ensemble abe"
        )
    if c.loss == "n-pair" and c.batches == "n-pair":
        return (
            "--batches n-pair cannot be used with --loss n-pair and --ensemble bier, which weighs "
            "tuples by their hinge, and N-pair has none; take --batches classes, or --loss triplet"
        )
    if c.batches == "pairs":
        return (
            "--batches pairs cannot be used with --ensemble bier, which was published with all "
            "pairs of a batch and weighs these; take --batches classes"
        )
    if not compares_unit_rows(c):
        return (
            f"--ensemble bier cannot be used with --loss {c.loss} on rows of any length: boosting "
            "adds up cosines of its learners; give --normalize"
        )
    return ""


def _of_class_loss(c: Combination) -> str:
    if c.loss not in CLASS_LOSSES:
        return ""
    for name, value in (("positives", c.positives), ("negatives", c.negatives)):
        if value is not None:
            return (
                f"--{name} {value} cannot be used with --loss {c.loss}: it compares pictures "
                f"with a learned row per class, so there are no {name} to choose; leave --{name} "
                "out or take a pair or tuple loss"
            )
    if c.memory:
        return (
            f"--memory cannot be used with --loss {c.loss}: it compares pictures with a learned "
            "row per class, not with other pictures; leave --memory out"
        )
    if c.normalize is not None:
        return (
            f"--normalize cannot be set for --loss {c.loss}, which always compares unit rows; "
            "leave it out"
        )
    return ""


def _of_batches(c: Combination) -> str:
    if c.batches == "classes":
        return ""
    if c.batches == "pairs" and c.loss not in PAIR_SUMS:
        return (
            f"--batches pairs cannot be used with --loss {c.loss}: each batch is drawn as pairs, "
            f"for --loss {', '.join(PAIR_SUMS[:-1])} or {PAIR_SUMS[-1]}; take one of these, or "
            "--batches classes"
        )
    if (
        c.batches != "pairs"
        and c.loss not in TUPLE_LOSSES
        and not (c.loss == "n-pair" and c.batches == "n-pair")
    ):
        takes = "triplet, margin or n-pair" if c.batches == "n-pair" else "triplet or margin"
        return (
            f"--batches {c.batches} cannot be used with --loss {c.loss}: each batch is drawn as "
            f"tuples, for --loss {takes}; take one of these, or --batches classes"
        )
    for name, value in (("positives", c.positives), ("negatives", c.negatives)):
        if value is not None:
            return (
                f"--{name} {value} cannot be used with --batches {c.batches}: the tuples are those "
                f"the batch is drawn as; leave --{name} out, or take --batches classes"
            )
    added = "--memory" if c.memory else "--synthesis iaa" if c.synthesis == "iaa" else ""
    if added:
        return (
            f"{added} cannot be used with --batches {c.batches}: the tuples are those the batch "
            "is drawn as, so further candidates would never be compared; take --batches classes"
        )
    return ""


def _of_chosen(c: Combination) -> str:
    if c.loss in TUPLE_LOSSES and c.positives == "all":
        return (
            f"--positives all cannot be used with --loss {c.loss}, which takes one positive an "
            "anchor; take easiest, random or hardest, or --loss all-triplets"
        )
    if c.loss in PAIR_LOSSES and c.negatives is not None and c.positives == "all":
        return (
            f"--negatives {c.negatives} cannot be used with --loss {c.loss} and all positives: "
            "the negative of an anchor is chosen after its one positive; give --positives random, "
            "easiest or hardest too, or leave --negatives out, as a pair loss weighs all itself"
        )
    if c.negatives == "distance-weighted" and not compares_unit_rows(c):
        return (
            f"--negatives distance-weighted cannot be used with --loss {c.loss}: it is defined "
            "for distances of unit rows, and here rows of any length are compared; take random or "
            "hardest, or compare unit rows with --normalize"
        )
    return ""


def _of_synthesis(c: Combination) -> str:
    if c.synthesis != "hdml":
        return ""
    if c.loss in CLASS_LOSSES:
        return (
            f"--synthesis hdml cannot be used with --loss {c.loss}: it makes harder negatives of "
            "tuples, and this loss compares pictures with a learned row per class; take --loss "
            "triplet, margin or n-pair, or --synthesis iaa"
        )
    if c.loss in PAIR_LOSSES and c.loss != "n-pair":
        return (
            f"--synthesis hdml cannot be used with --loss {c.loss}: it makes harder negatives of "
            "tuples, and this loss weighs all pairs of the batch at once; take --loss triplet, "
            "margin or n-pair, or --synthesis iaa"
        )
    if c.positives == "all":
        return (
            f"--positives all cannot be used with --loss {c.loss} and --synthesis hdml, which "
            "makes harder negatives of tuples with one positive; take random, easiest or hardest"
        )
    if c.memory:
        return (
            "--memory cannot be used with --synthesis hdml: its negatives are pulled and embedded "
            "again with gradients, and of remembered pictures only rows without gradient are "
            "left; take --synthesis iaa"
        )
    return ""


def _of_tags(c: Combination) -> str:
    if not c.tags:
        return ""
    if c.loss in CLASS_LOSSES:
        return (
            f"--loss {c.loss} needs one label a picture, and these have tags; take a pair or "
            "tuple loss, such as --loss margin, for which a shared tag makes a positive"
        )
    if c.synthesis != "none":
        return (
            f"--synthesis {c.synthesis} needs one label a picture, and these have tags: what it "
            "makes belongs to a class; leave it out"
        )
    if c.batches != "classes":
        return (
            f"--batches {c.batches} needs one label a picture, and these have tags; take --batches "
            "classes"
        )
    return ""


SHOWN: tuple[LossName, ...] = ("contrastive", "multi-similarity", "triplet", "margin", "n-pair")
SELECTIONS: Mapping[str, dict[str, Any]] = {
    "random": {"positives": "random", "negatives": "random"},
    "EPS": {"positives": "easiest"},
    "semi-hard": {"positives": "random", "negatives": "semi-hard"},
    "distance-weighted": {"positives": "random", "negatives": "distance-weighted"},
}
ADDITIONS: Mapping[str, dict[str, Any]] = {
    "nothing": {},
    "HDML": {"synthesis": "hdml"},
    "IAA": {"synthesis": "iaa"},
    "memory": {"memory": True},
}
OTHERS: Mapping[tuple[str, str], Combination] = {
    ("pair losses", "all pairs"): Combination("multi-similarity"),
    ("class losses", "none"): Combination("softmax"),
    ("n-pair", "as drawn"): Combination("n-pair", batches="n-pair"),
    ("triplet", "as drawn"): Combination("triplet", batches="triplets"),
    ("margin", "EPS, of tags"): Combination("margin", "easiest", tags=True),
}


def table() -> dict[tuple[str, str, str], Combination]:
    """The combinations of the table, completed, by loss, selection and addition.

    >>> table()["triplet", "EPS", "HDML"].negatives
    'semi-hard'
    """
    rows = {
        (loss, name): Combination(loss, **chosen)
        for loss in SHOWN
        for name, chosen in SELECTIONS.items()
    }
    return {
        (*row, name): completed(combination._replace(**added))
        for row, combination in (rows | dict(OTHERS)).items()
        for name, added in ADDITIONS.items()
    }


ENSEMBLES: Mapping[str, Ensemble] = {"ABE": "abe", "BIER": "bier"}
OF_ENSEMBLES: tuple[LossName, ...] = ("contrastive", "multi-similarity", "margin")


def ensembles_table() -> dict[tuple[str, str, str], Combination]:
    """The combinations of the table of ensembles, by ensemble and loss, selection, addition.

    >>> ensembles_table()["BIER, margin", "EPS", "IAA"].negatives
    'distance-weighted'
    """
    return {
        (f"{name}, {loss}", selection, addition): completed(
            Combination(loss, **SELECTIONS[selection])._replace(
                ensemble=ensemble, **ADDITIONS[addition]
            )
        )
        for name, ensemble in ENSEMBLES.items()
        for loss in OF_ENSEMBLES
        for selection in ("random", "EPS")
        for addition in ("nothing", "HDML", "IAA", "memory")
    }


def as_markdown() -> str:
    """The table of docs/combinations.md: what trains, what is refused, and why."""
    return _markdown("loss", table())


def ensembles_as_markdown() -> str:
    """The same of learners."""
    return _markdown("ensemble, loss", ensembles_table())


def _markdown(first: str, combinations: Mapping[tuple[str, str, str], Combination]) -> str:
    notes: list[str] = []
    cells: dict[tuple[str, str], list[str]] = {}
    for (loss, selection, _), combination in combinations.items():
        refused = refusal(combination)
        said = [refused] if refused else list(advice(combination))
        notes += [note for note in said if note not in notes]
        marks = "".join(f" [{notes.index(note) + 1}]" for note in said)
        cells.setdefault((loss, selection), []).append(("no" if refused else "yes") + marks)
    head = [first, "selection", *ADDITIONS]
    lines = [
        "| " + " | ".join(cells) + " |"
        for cells in (head, ["---"] * len(head), *([*row, *marks] for row, marks in cells.items()))
    ]
    listed = [f"{number}. {note}." for number, note in enumerate(notes, 1)]
    return "\n".join([*lines, "", *listed]) + "\n"

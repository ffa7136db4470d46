"""The curves of training, grouped by what can share an axis."""

from collections.abc import Sequence
from typing import NamedTuple

from tupelo.report import scores
from tupelo.report.figures import Drawn, curves
from tupelo.training.logs import Row

LEFT_OUT = (  # counts, what equals Recall@1, what stands beside an accuracy or is made of it
    "val/n_queries", "val/n_gallery", "val/n_unmatched", "val/collapsed", "val/precision@1",
    "val/interval", "val/choice",
)  # fmt: skip
SHOWN_FIRST = ("val/map@r", "val/r_precision", "val/recall@1", "val/nmi", "val/accuracy")
CHOOSES = ("val/map@r", "val/choice", "val/accuracy")  # whichever is there first
SMALL_AT_MOST = 9


class Charts(NamedTuple):
    """Figures of training.

    Attributes:
        large: the loss with its parts, and validation.
        small: everything else.
        note: what was left out.
        best_step: of the highest validation MAP@R, choice or accuracy, or None.
    """

    large: list[Drawn]
    small: list[Drawn]
    note: str
    best_step: int | None


def training_charts(rows: Sequence[Row]) -> Charts:
    """Draw every column of the log that holds numbers.

    The log writes the loss and its parts before the norm of the gradient and the statistics of
    the objective after it, which tells them apart.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    validation = [name for name in columns if name.startswith("val/") and name not in LEFT_OUT]
    plain = [
        name for name in columns if not name.startswith("val/") and name not in ("step", "epoch")
    ]
    losses = [name for name in _before(plain, "gradient") if name != "lr"]
    others = [name for name in plain if name not in losses]
    best = best_step(rows)
    large = [
        curves(rows, losses, title=_loss_title(losses), key="loss", label="loss"),
        curves(
            rows,
            [name for name in SHOWN_FIRST if name in validation]
            + [name for name in validation if name not in SHOWN_FIRST],
            title="Validation scores",
            key="validation",
            hidden=[name for name in validation if name not in SHOWN_FIRST],
            label="score, 0 to 1",
            best_step=best,
            log=False,
            names={f"val/{name}": shown for name, shown in scores.NAMES.items()},
        ),
    ]
    small = [
        curves(
            rows,
            names,
            title=_title(title),
            key=f"small-{number}",
            log=False if title == "lr" else None,
            small=True,
            names={name: name.rpartition("/")[0] or name for name in names},
        )
        for number, (title, names) in enumerate(_alike(others).items())
    ]
    drawn = [chart for chart in small if chart is not None]
    more = len(drawn) - SMALL_AT_MOST
    note = f"{more} more figures could be drawn of metrics.csv." if more > 0 else ""
    return Charts(
        [chart for chart in large if chart is not None], drawn[:SMALL_AT_MOST], note, best
    )


def best_step(rows: Sequence[Row]) -> int | None:
    """The first step of the highest validation MAP@R or choice or accuracy: its weights stay."""
    for name in CHOOSES:
        scored = [row for row in rows if row.get(name, float("nan")) >= 0]
        if scored:
            return int(max(scored, key=lambda row: row[name])["step"])
    return None


def _before(columns: list[str], name: str) -> list[str]:
    if name in columns:
        return columns[: columns.index(name)]
    return [column for column in columns if column == "loss"]


def _alike(columns: Sequence[str]) -> dict[str, list[str]]:
    """Columns by what they measure: "learner0/active" and "learner1/active" share a figure.

    >>> _alike(["lr", "a/active", "b/active", "b/remembered"])
    {'lr': ['lr'], 'active': ['a/active', 'b/active'], 'b/remembered': ['b/remembered']}
    """
    groups: dict[str, list[str]] = {}
    for name in columns:
        groups.setdefault(name.rpartition("/")[2], []).append(name)
    return {kind if len(names) > 1 else names[0]: names for kind, names in groups.items()}


def _loss_title(columns: Sequence[str]) -> str:
    return "Loss and its parts" if len(columns) > 1 else "Loss"


def _title(name: str) -> str:
    known = {
        "lr": "Learning rate",
        "gradient": "Norm of the gradient",
        "images_per_second": "Pictures per second",
        "accuracy": "Accuracy on the way",
    }
    return known.get(name, name)

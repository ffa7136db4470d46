"""What a part of a run has to show: the one interface of the report.

A model, an objective, or any module inside them that defines

    def sections(self, model, images, labels) -> list[Section]

is asked once, after training, and what it answers becomes a section of the report of its run. It
gets the trained model in evaluation mode, a few pictures `(n, c, h, w)` in [0, 1] that did not
train (or, where every picture trained, some that did) and their class numbers `(n,)`, and is
called without gradient. Wrappers need not pass the question on: every module is asked itself.
Sections are plain data, kept in the run as `sections.json`.
"""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from torch import nn


@dataclass(frozen=True)
class Curves:
    """Columns of `metrics.csv` over the steps of training.

    Args:
        columns: their names, such as the statistics that an objective reports.
        label: of the vertical axis.
        log: the vertical axis is logarithmic.
    """

    columns: Sequence[str]
    label: str = ""
    log: bool = False


@dataclass(frozen=True)
class Bars:
    """A bar for each name, in the order given; many are shown as a histogram.

    Args:
        names: one a bar.
        values: one a bar.
        label: of the axis of values, with its unit.
    """

    names: Sequence[str]
    values: Sequence[float]
    label: str = ""


@dataclass(frozen=True)
class Points:
    """Points in two dimensions, coloured by their kind.

    Args:
        x: one a point.
        y: one a point.
        kinds: one a point, such as "real" and "synthetic".
        names: one a point, shown when pointed at; may be empty.
    """

    x: Sequence[float]
    y: Sequence[float]
    kinds: Sequence[str]
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Table:
    """A table; numbers are shown with four digits.

    Args:
        header: one a column.
        rows: of strings and numbers.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str | float | int]]


@dataclass(frozen=True)
class Pictures:
    """Rows of pictures, as PNG in base64; `Pictures.of` makes them from pixels.

    Args:
        rows: pictures of each row.
        captions: one a picture, in the same rows; may be empty.
        heads: one a row, before it; may be empty.
    """

    rows: Sequence[Sequence[str]]
    captions: Sequence[Sequence[str]] = ()
    heads: Sequence[str] = ()

    @classmethod
    def of(
        cls,
        rows: Sequence[Sequence[UInt8[np.ndarray, "..."]]],
        captions: Sequence[Sequence[str]] = (),
        heads: Sequence[str] = (),
    ) -> "Pictures":
        """Encode pixels, each uint8 `(h, w)` or `(h, w, 3)`.

        >>> len(Pictures.of([[np.zeros((8, 8), np.uint8)]]).rows[0])
        1
        """
        return cls([[_png(pixels) for pixels in row] for row in rows], captions, heads)


Part = Curves | Bars | Points | Table | Pictures


@dataclass(frozen=True)
class Section:
    """A section of the report.

    Args:
        title: a few words.
        text: what is seen and how to read it, one paragraph of plain text.
        parts: shown one under the other.
    """

    title: str
    text: str
    parts: Sequence[Part]


_KINDS: Mapping[str, type] = {
    kind.__name__: kind for kind in (Curves, Bars, Points, Table, Pictures)
}


def ask(modules: Sequence[nn.Module], *arguments: Any) -> list[Section]:
    """The sections of every module in `modules` that has some, outer modules first.

    Args:
        modules: the model, the objective.
        arguments: model, images and labels, as the head of this file says.
    """
    found: list[Section] = []
    for module in dict.fromkeys(inner for outer in modules for inner in outer.modules()):
        sections: Callable[..., Sequence[Section]] | None = getattr(module, "sections", None)
        if sections is not None:
            found += sections(*arguments)
    return found


def to_json(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """Sections as JSON values.

    >>> kept = to_json([Section("Rates", "", [Bars(["a"], [1.0])])])
    >>> from_json(kept)[0].parts[0].names
    ['a']
    """
    return [
        {
            "title": section.title,
            "text": section.text,
            "parts": [{"kind": type(part).__name__} | asdict(part) for part in section.parts],
        }
        for section in sections
    ]


def from_json(values: Sequence[Mapping[str, Any]]) -> list[Section]:
    """What `to_json` wrote; parts and fields of a later version are left out."""
    return [
        Section(
            value["title"],
            value["text"],
            [
                _KINDS[part["kind"]](**_known_fields(part))
                for part in value["parts"]
                if part["kind"] in _KINDS
            ],
        )
        for value in values
    ]


def _known_fields(part: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(_KINDS[part["kind"]])}
    return {name: value for name, value in part.items() if name in names}


def _png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()

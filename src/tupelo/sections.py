"""What a part of a run has to show: the one interface of the report.

A model, an objective, or any module inside them that defines

    def sections(self, model, shown) -> list[Section]

is asked once, after training, and what it answers becomes a section of the report of its run. It
gets the trained model and a few pictures, `Shown`, and is called without gradient and in
evaluation mode. Wrappers need not pass the question on: every module is asked itself. Sections are
plain data, kept in the run as `sections.json`. Whatever goes wrong in one costs only that one.
"""

import base64
import io
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor, nn

logger = logging.getLogger(__name__)

Numbers = Sequence[float] | Sequence[int] | np.ndarray | Tensor
"""One dimension of them."""
Pixels = UInt8[np.ndarray, "..."] | Tensor
"""A picture: uint8 (h, w), (h, w, 1) or (h, w, 3), or a tensor (h, w) or (c, h, w) in [0, 1]."""


@dataclass(frozen=True)
class Shown:
    """Pictures to show something on: of the validation part, or of the training part without one.

    Attributes:
        images: (n, c, h, w) in [0, 1], on the device of the model; eight of each of five classes.
        labels: class numbers (n,), or tags (n, tags).
        class_names: of these numbers.
        trained_names: of the class numbers that the objective was trained with.
    """

    images: Tensor
    labels: Tensor
    class_names: Sequence[str]
    trained_names: Sequence[str]


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
    values: Numbers
    label: str = ""


@dataclass(frozen=True)
class Points:
    """Points in two dimensions, coloured by their kind; `Points.of` places rows of any width.

    Args:
        x: one a point.
        y: one a point.
        kinds: one a point, such as "real" and "synthetic".
        names: one a point, shown when pointed at; may be empty.
        x_label: of the horizontal axis.
        y_label: of the vertical axis.
    """

    x: Numbers
    y: Numbers
    kinds: Sequence[str]
    names: Sequence[str] = ()
    x_label: str = ""
    y_label: str = ""

    @classmethod
    def of(cls, rows: Tensor, kinds: Sequence[str], names: Sequence[str] = ()) -> "Points":
        """Place rows (n, d) by their first two principal components.

        >>> Points.of(torch.tensor([[3.0, 0.0, 0.0], [-3.0, 0.0, 0.0]]), ["a", "b"]).x_label
        'first principal component, 100 % of the variance'
        """
        rows = rows.detach().double().cpu().flatten(1)
        left, lengths, _ = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
        shares = 100 * lengths.square() / lengths.square().sum().clamp(min=1e-12)
        two = torch.zeros(len(rows), 2, dtype=rows.dtype)
        two[:, : lengths.shape[0]] = (left * lengths)[:, :2]
        x_label, y_label = (
            f"{name} principal component, {float(shares[place : place + 1].sum()):.0f} % of the "
            "variance"
            for place, name in enumerate(("first", "second"))
        )
        return cls(two[:, 0].tolist(), two[:, 1].tolist(), kinds, names, x_label, y_label)


@dataclass(frozen=True)
class Table:
    """A table; numbers are shown with four digits.

    Args:
        header: one a column.
        rows: of strings and numbers.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str | float | int | np.generic | Tensor]]


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
        rows: Sequence[Sequence[Pixels]],
        captions: Sequence[Sequence[str]] = (),
        heads: Sequence[str] = (),
    ) -> "Pictures":
        """Encode pictures; see `Pixels`. Tensors beyond [0, 1] are cut to it.

        >>> len(Pictures.of([[np.zeros((8, 8), np.uint8), torch.zeros(3, 8, 8)]]).rows[0])
        2
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


def ask(modules: Sequence[nn.Module], model: nn.Module, shown: Shown) -> list[Section]:
    """The sections of every module in `modules` that has some, outer modules first.

    A module that raises, or answers with what cannot be kept, gets a section that says so. Of
    equal sections one is kept; different ones with one title, as of the learners of an ensemble,
    name their modules.

    Args:
        modules: the model, the objective.
        model: handed on.
        shown: handed on.
    """
    names: dict[nn.Module, str] = {}
    for outer in modules:
        for name, module in outer.named_modules():
            names.setdefault(module, name)
    found: list[tuple[str, Section]] = []
    for module, name in names.items():
        sections: Callable[..., Sequence[Section]] | None = getattr(module, "sections", None)
        if sections is None:
            continue
        kind = type(module).__name__
        try:
            answer = from_json(json.loads(json.dumps(to_json(sections(model, shown)))))
        except Exception as error:
            logger.warning("no section of %s: %s: %s", kind, type(error).__name__, error)
            logger.debug("where it failed", exc_info=True)
            answer = [Section(kind, f"This section failed: {type(error).__name__}: {error}", [])]
        known = [section for _, section in found]
        found += [(name or kind, section) for section in answer if section not in known]
    titles = Counter(section.title for _, section in found)
    return [
        replace(section, title=f"{section.title} ({name})")
        if titles[section.title] > 1
        else section
        for name, section in found
    ]


def to_json(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """Sections as JSON values; arrays and tensors become lists.

    Raises:
        TypeError: a part is of no kind that a section can hold, or holds what JSON cannot.

    >>> kept = to_json([Section("Rates", "", [Bars(["a"], np.ones(1))])])
    >>> from_json(kept)[0].parts[0].values
    [1.0]
    """
    return [
        {
            "title": section.title,
            "text": section.text,
            "parts": [_part(part) for part in section.parts],
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


def _part(part: Part) -> dict[str, Any]:
    kind = type(part).__name__
    if kind not in _KINDS:
        raise TypeError(f"a section holds {', '.join(_KINDS)}, got {kind}")
    return {"kind": kind} | {
        field.name: _plain(getattr(part, field.name)) for field in fields(part)
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def _png(pixels: Pixels) -> str:
    if isinstance(pixels, Tensor):
        scaled = (pixels.detach().float().cpu().clamp(0, 1) * 255).round().byte()
        pixels = (scaled if scaled.ndim == 2 else scaled.permute(1, 2, 0)).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()

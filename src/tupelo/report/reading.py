"""What a run left behind, as far as it is there: the report shows the rest without it."""

import csv
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tupelo.errors import InputError
from tupelo.recipes.reading import read_recipe
from tupelo.sections import Section, from_json
from tupelo.training.logs import Row, read_rows

WITHOUT = {
    "results.json": (
        "nothing was measured before training, and time and environment are not known."
    )
}
FILES = ("recipe.yaml", "results.json", "metrics.csv")  # a run of the command line has them all


@dataclass(frozen=True)
class RunFiles:
    """The files of a run.

    Attributes:
        folder: of the run.
        recipe: its options; {} where it was trained without a recipe.
        recipe_text: the file they stand in.
        rows: of `metrics.csv`.
        results: of `results.json`; {} where there is none.
        sections: what its model and objective have to show.
        left_out: pictures that were not used, by kind of reason.
        missing: one sentence for each file that is not there or cannot be read.
    """

    folder: Path
    recipe: Mapping[str, Any]
    recipe_text: str
    rows: list[Row]
    results: Mapping[str, Any]
    sections: list[Section]
    left_out: Mapping[str, int]
    missing: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name

    @property
    def environment(self) -> dict[str, Any]:
        """What the run ran on."""
        return dict(self.results.get("environment") or {})

    def scores(self, when: str) -> dict[str, float | int]:
        """What was measured "before" or "after" training; {} where nothing was."""
        return dict(self.results.get(when) or {})


def read(folder: Path) -> RunFiles:
    """Read what there is.

    Raises:
        InputError: `folder` is no folder, or holds none of the files of a run.
    """
    if not any((folder / name).is_file() for name in FILES):
        raise InputError(
            f"{folder} holds no run: none of {', '.join(FILES)} is there; give the folder that "
            "tupelo train or tupelo.fit wrote"
        )
    missing: list[str] = []
    recipe, text = _recipe(folder / "recipe.yaml", missing)
    results = _json(folder / "results.json", {}, missing)
    rows = _rows(folder / "metrics.csv", missing)
    try:
        sections = from_json(_json(folder / "sections.json", [], missing))
    except (KeyError, TypeError):
        sections = []
        missing.append("sections.json cannot be read.")
    left_out = _left_out(folder / "bad_items.csv")
    return RunFiles(folder, recipe, text, rows, results, sections, left_out, tuple(missing))


def _recipe(path: Path, missing: list[str]) -> tuple[dict[str, Any], str]:
    if not path.is_file():
        missing.append(
            "There is no recipe.yaml: the run was made from Python, so its options are not listed."
        )
        return {}, ""
    try:
        return read_recipe(path), path.read_text(encoding="utf-8")
    except InputError:
        missing.append("recipe.yaml cannot be read.")
        return {}, ""


def _json(path: Path, nothing: Any, missing: list[str]) -> Any:
    if not path.is_file():
        if path.name in WITHOUT:
            missing.append(f"There is no {path.name}: {WITHOUT[path.name]}")
        return nothing
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, type(nothing)):
        missing.append(f"{path.name} cannot be read.")
        return nothing
    return found


def _rows(path: Path, missing: list[str]) -> list[Row]:
    try:
        rows = read_rows(path)
    except (OSError, ValueError, csv.Error):
        missing.append("metrics.csv cannot be read, so there are no curves.")
        return []
    if not rows:
        missing.append("metrics.csv is missing or empty, so there are no curves.")
    return rows


def _left_out(path: Path) -> dict[str, int]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            kinds = Counter(
                (row.get("reason") or "?").split(":")[0] for row in csv.DictReader(file)
            )
    except (OSError, ValueError, csv.Error):
        return {}
    return dict(kinds.most_common())

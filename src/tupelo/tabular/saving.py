"""A metric with the columns it was fitted to, in a folder of JSON and arrays; nothing is pickled.

`tabular.json` holds plain values and names the file of arrays with its SHA-256. It is replaced by
one rename, after the arrays are on the disk, so a killed process leaves what was there before.
"""

import hashlib
import importlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from tupelo.errors import CheckpointError, InputError
from tupelo.tabular.columns import Columns

FORMAT = 1
RECORD = "tabular.json"
OURS = "tupelo.tabular."
KNOWN = ("sklearn.neighbors._nca:NeighborhoodComponentsAnalysis",)
"""Classes that are restored, beside those of this package: a file names no other code."""
NOT_KEPT = ("random_state_",)  # of NCA: only its fit needs it


@dataclass(frozen=True)
class TableMetric:
    """A fitted learner, and how the rows it takes are made of a table.

    Attributes:
        columns: of the table.
        learner: fitted to their features.
        target: the column of classes.
        classes: in order.
        about: what else is kept: the method, scores; JSON values.
    """

    columns: Columns
    learner: Any
    target: str
    classes: tuple[str, ...]
    about: Mapping[str, Any]

    def features(self, rows: Any) -> Float[ndarray, "n d"]:
        """What the learner takes, from rows of a table.

        Args:
            rows: a mapping of columns, a data frame, or an array of the columns in order.

        Raises:
            InputError: as `Columns.encode`.
        """
        return self.columns.encode(rows)

    def transform(self, rows: Any) -> Float[ndarray, "n m"]:
        """The embedding of rows of a table, in which Euclidean distance is the learned one.

        Raises:
            InputError: as `features`, or the learner has distances but no embedding.
        """
        return np.asarray(self.learner.transform(self.features(rows)))


def save(metric: TableMetric, folder: str | Path) -> None:
    """Write a metric; one that is there is replaced.

    Raises:
        InputError: the learner holds what is no number, text, array, or collection of these.
        OSError: it could not be written; what was there before still is.
    """
    folder = Path(folder)
    arrays: dict[str, ndarray] = {}
    learner = _packed(metric.learner, arrays, "learner")
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    payload = buffer.getvalue()
    digest = hashlib.sha256(payload).hexdigest()
    record = {
        "format": FORMAT,
        "versions": {name: version(name) for name in ("tupelo", "scikit-learn", "numpy")},
        "arrays": {"file": f"arrays-{digest[:12]}.npz", "sha256": digest},
        "target": metric.target,
        "classes": list(metric.classes),
        "columns": metric.columns.to_json(),
        "about": dict(metric.about),
        "learner": learner,
    }
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / record["arrays"]["file"], payload)
    _replace(folder / RECORD, (json.dumps(record, indent=1) + "\n").encode())
    for old in folder.glob("arrays-*.npz"):
        if old.name != record["arrays"]["file"]:
            old.unlink(missing_ok=True)


def load(folder: str | Path) -> TableMetric:
    """Read what `save` or `tupelo tabular fit` wrote.

    Raises:
        InputError: there is no such metric.
        CheckpointError: it is damaged, or of a later version.
    """
    folder = Path(folder)
    if not (folder / RECORD).is_file():
        raise InputError(f"{folder} holds no {RECORD}; give a folder that tupelo tabular fit wrote")
    try:
        record = json.loads((folder / RECORD).read_bytes())
        if record["format"] > FORMAT:
            raise CheckpointError(
                f"{folder} has format {record['format']}, this version reads up to {FORMAT}; "
                "update tupelo"
            )
        payload = (folder / record["arrays"]["file"]).read_bytes()
        if hashlib.sha256(payload).hexdigest() != record["arrays"]["sha256"]:
            name = record["arrays"]["file"]
            raise CheckpointError(f"{folder} is damaged: {name} is not what was written; fit again")
        with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
            learner = _unpacked(record["learner"], dict(arrays))
        return TableMetric(
            Columns.from_json(record["columns"]),
            learner,
            record["target"],
            tuple(record["classes"]),
            record["about"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise CheckpointError(
            f"{folder} cannot be read ({type(error).__name__}: {error}); fit again"
        ) from error


def _packed(value: Any, arrays: dict[str, ndarray], key: str) -> Any:
    """As JSON values; arrays are put aside. What is no plain value is a dictionary that says so."""
    if isinstance(value, np.generic):  # float64 is a float too
        value = np.asarray(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, ndarray):
        if value.dtype == object:
            return {"objects": [_packed(each, arrays, key) for each in value.tolist()]}
        name = f"{key}-{len(arrays)}"
        arrays[name] = value
        return {"array": name}
    name = f"{type(value).__module__}:{type(value).__qualname__}"
    if isinstance(value, tuple) and hasattr(value, "_fields") and name.startswith(OURS):
        return {"named": [name, [_packed(each, arrays, key) for each in value]]}
    if isinstance(value, list | tuple):
        inner = [_packed(each, arrays, key) for each in value]
        return {"tuple" if isinstance(value, tuple) else "list": inner}
    if isinstance(value, dict):
        pairs = [[_packed(k, arrays, key), _packed(v, arrays, key)] for k, v in value.items()]
        return {"dict": pairs}
    if isinstance(value, np.random.Generator):
        return {"generator": _packed(value.bit_generator.state, arrays, key)}
    if isinstance(value, np.random.RandomState):
        return {"randomstate": _packed(value.get_state(legacy=False), arrays, key)}
    if (name in KNOWN or name.startswith(OURS)) and not isinstance(value, type):
        state = _state(value)
        return {"class": name, "state": {k: _packed(v, arrays, k) for k, v in state.items()}}
    raise InputError(
        f"a saved learner may hold numbers, texts, arrays and collections of these, got "
        f"{type(value).__name__} in {key}; give random_state as a number"
    )


def _state(value: Any) -> dict[str, Any]:
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    kept = value.__getstate__() if type(value).__module__.startswith(OURS) else vars(value)
    return {name: each for name, each in kept.items() if name not in NOT_KEPT}


def _unpacked(value: Any, arrays: Mapping[str, ndarray]) -> Any:
    if not isinstance(value, dict):
        return value
    if "class" in value:
        return _made(value["class"], {k: _unpacked(v, arrays) for k, v in value["state"].items()})
    ((kind, inner),) = value.items()
    match kind:
        case "array":
            found = arrays[inner]
            return found[()] if found.ndim == 0 else found
        case "dict":
            return {_unpacked(k, arrays): _unpacked(v, arrays) for k, v in inner}
        case "named":
            return _kind(inner[0])(*(_unpacked(each, arrays) for each in inner[1]))
        case "objects":
            return np.array([_unpacked(each, arrays) for each in inner], dtype=object)
        case "tuple":
            return tuple(_unpacked(each, arrays) for each in inner)
        case "list":
            return [_unpacked(each, arrays) for each in inner]
        case "generator":
            generator = np.random.default_rng()
            generator.bit_generator.state = _unpacked(inner, arrays)
            return generator
        case "randomstate":
            state = np.random.RandomState()
            state.set_state(_unpacked(inner, arrays))
            return state
    raise ValueError(f"a value of unknown kind {kind!r}")


def _made(name: str, state: dict[str, Any]) -> Any:
    """An object of a known class without a call of its constructor."""
    made = object.__new__(_kind(name))
    if hasattr(made, "__setstate__") and name.startswith(OURS):
        made.__setstate__(state)
    else:
        vars(made).update(state)
    return made


def _kind(name: str) -> type:
    """A class that a saved metric may hold."""
    module, _, path = name.partition(":")
    kind = None
    if name in KNOWN or name.startswith(OURS):
        kind = getattr(importlib.import_module(module), path)
    if not isinstance(kind, type):
        raise ValueError(f"{name} is not a class of a saved metric")
    return kind


def _replace(path: Path, content: bytes) -> None:
    """In one step, and on the disk before it is seen."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)

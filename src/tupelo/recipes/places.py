"""The folder of a run: whose it is, what it came to, and what it ran on."""

import json
import os
import platform
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

import tupelo
from tupelo.errors import InputError
from tupelo.recipes.fields import to_yaml


def check_apart(out: Path, source: str) -> None:
    """Nothing of a run may be written among its pictures; asked before anything is.

    Raises:
        InputError: `out` lies in the pictures.
    """
    if _inside(out, Path(source)):
        raise InputError(
            f"--out {out} must not lie in the source {source}, where it would be read as pictures "
            "the next time; give a folder beside it"
        )


def claim(
    out: Path, recipe: BaseModel, earlier: BaseModel | None, *, free: Collection[str], header: str
) -> None:
    """Write the recipe into its run, unless another run is there.

    Args:
        out: folder of the run.
        recipe: in full; it has a `source`.
        earlier: of the run that is there; None where none has begun.
        free: options that a resumed run may change.
        header: of the file.

    Raises:
        InputError: `out` holds another run; what differs is named.
    """
    values = recipe.model_dump()
    if earlier is not None:
        before = earlier.model_dump()
        changed = [
            f"{name} was {before[name]!r}, is {value!r}"
            for name, value in values.items()
            if value != before[name] and name not in free
        ]
        if changed:
            raise InputError(
                f"--out {out} holds another run: {'; '.join(changed)}. Give these options as they "
                "were to resume it, or another --out"
            )
    write_text(out / "recipe.yaml", header + to_yaml(recipe))


def _inside(out: Path, source: Path) -> bool:
    return source.is_dir() and out.resolve().is_relative_to(source.resolve())


def read_results(out: Path) -> dict[str, Any]:
    """What is known of a run so far; {} where nothing is, or it cannot be read."""
    try:
        return json.loads((out / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step, so that a reader never sees a part of it."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def surroundings() -> dict[str, str | int]:
    """What a run ran on: versions, processor, devices, and when it began (UTC)."""
    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "tupelo": tupelo.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "accelerator": accelerator,
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()

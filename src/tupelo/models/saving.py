"""A model in a folder: safe weights, and all that rebuilds it around them."""

import json
import os
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import nn

from tupelo.errors import CheckpointError, InputError
from tupelo.models.architecture import CUSTOM, Architecture, Learners
from tupelo.models.embedder import Embedder
from tupelo.models.rebuilding import Model, rebuild

FORMAT = 1
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


def save(model: Model, folder: str | Path, *, about: dict[str, Any] | None = None) -> Path:
    """Write a model into a folder; an interrupted write leaves the model that was there.

    `model.safetensors` holds the weights and, in its header, the architecture, so that this one
    file is the model; `model.json` repeats the header for people and other programs.

    Args:
        model: the embedder, ensemble or autoencoder.
        folder: created when missing.
        about: whatever should be kept with the model, as JSON values: the run, the data set.

    Returns:
        The folder.

    Raises:
        InputError: `about` cannot be written as JSON.
    """
    description: dict[str, Any] = {"format": FORMAT, "architecture": asdict(model.architecture)}
    if model.architecture.backbone == CUSTOM:
        # an ensemble that cut the backbone no longer has the module itself
        whole = next((part for part in model.modules() if isinstance(part, Embedder)), None)
        kind = None if whole is None else type(whole.backbone)
        named = "" if kind is None else f", {kind.__module__}.{kind.__qualname__}"
        description["note"] = (
            f"the backbone is a module of the user{named}: build it and pass it to "
            "load(folder, backbone=module)"
        )
    try:
        text = json.dumps(description | {"about": about or {}}, indent=2, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise InputError(f"about must be plain JSON values: {error}") from error
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    replace_file(folder / WEIGHTS, to_bytes(tensors, metadata={"tupelo": text}))
    replace_file(folder / DESCRIPTION, (text + "\n").encode())
    return folder


def load(folder: str | Path, *, backbone: nn.Module | None = None) -> Model:
    """Read a model that `save` wrote; it comes back in evaluation mode.

    Args:
        folder: that holds `model.safetensors`.
        backbone: the module, for a model that was built around one of the user's own.

    Raises:
        CheckpointError: the file is missing, truncated, not a model of Tupelo, of a newer
            format, or its tensors do not fit its architecture.
        InputError: `backbone` is missing for a model around a module of the user, or given for
            another.

    >>> import tempfile, torch
    >>> from tupelo.models import embedder
    >>> model = embedder("convnet", dim=8).eval()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     twin = load(save(model, folder))
    >>> x = torch.rand(1, 3, 32, 32)
    >>> torch.equal(model(x).z, twin(x).z)
    True
    """
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"no model in {folder}: {WEIGHTS} is missing")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get("tupelo")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged or cut short ({error}); restore it from a copy"
        ) from error
    if header is None:
        raise CheckpointError(
            f"{path} holds weights but no model of Tupelo; to use them in a backbone, pass the "
            "file as weights= to embedder()"
        )
    model = rebuild(_architecture(path, header), backbone)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} does not fit its architecture {model.architecture.backbone!r}: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error
    return model.eval()


def about(folder: str | Path) -> dict[str, Any]:
    """What `save` was told to keep with the model.

    Raises:
        CheckpointError: there is no readable model in the folder.
    """
    path = Path(folder) / WEIGHTS
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {})["tupelo"])["about"]
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _architecture(path: Path, header: str) -> Architecture:
    description = json.loads(header)
    if description["format"] > FORMAT:
        raise CheckpointError(
            f"{path} has format {description['format']}, this version of Tupelo reads up to "
            f"{FORMAT}; upgrade tupelo"
        )
    fields = description["architecture"]
    learners = fields.get("learners")
    if learners is not None:
        learners = Learners(
            **learners | {name: tuple(learners[name]) for name in ("widths", "scales")}
        )
    plain = {name: tuple(fields[name]) for name in ("mean", "std")}
    if isinstance(fields["size"], list):
        plain["size"] = tuple(fields["size"])
    return Architecture(**fields | plain | {"learners": learners})


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file in one step: a reader sees the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:  # readable by whom the user lets read new files
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)

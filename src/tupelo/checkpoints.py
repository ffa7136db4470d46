"""Checkpoints: safe tensors and JSON in a folder that appears whole or not at all.

A checkpoint is a folder `<kind>-<step>` holding `tensors.safetensors` and `record.json`, which
carries the size and SHA-256 of the tensors and its own. It is written beside its place, flushed
to the disk and then renamed, so a power cut, a kill or a full disk at any moment leaves what was
there before. Nothing is pickled.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn
from torch.optim import Optimizer

from tupelo.errors import CheckpointError

logger = logging.getLogger(__name__)

FORMAT = 1
TENSORS, RECORD = "tensors.safetensors", "record.json"
_NAME = re.compile(r"(?P<kind>[a-z]+)-(?P<step>\d{9,})")
_UNFINISHED = ".writing-"


class Checkpoint(NamedTuple):
    """What a checkpoint holds: named tensors, JSON values, and the folder it came from."""

    tensors: dict[str, Tensor]
    record: dict
    path: Path


def save(folder: str | Path, kind: str, step: int, tensors: dict[str, Tensor], record: dict) -> str:
    """Write a checkpoint; it becomes visible only when it is complete and on the disk.

    Args:
        folder: where checkpoints live; created when missing.
        kind: lower-case letters, such as "last".
        step: optimiser steps taken, >= 0.
        tensors: by name.
        record: JSON values; floats are kept exactly.

    Returns:
        The name of the checkpoint, `<kind>-<step>`.

    Raises:
        OSError: it could not be written, for example because the disk is full; earlier
            checkpoints are untouched.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     name = save(folder, "last", 3, {"w": torch.ones(2)}, {"epoch": 1})
    ...     name, load(Path(folder) / name).tensors["w"].tolist()
    ('last-000000003', [1.0, 1.0])
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    payload = tensors_to_bytes(_portable(tensors))
    body = {
        "format": FORMAT,
        "tensors": {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()},
        "record": record,
    }
    text = json.dumps({**body, "sha256": _digest(body)}, indent=1)
    name = f"{kind}-{step:09d}"
    unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder))
    try:
        _write(unfinished / TENSORS, payload)
        _write(unfinished / RECORD, text.encode())
        _flush_folder(unfinished)
        if (folder / name).exists():  # damaged, or of the same step before a kill
            shutil.rmtree(folder / name)
        unfinished.rename(folder / name)
        _flush_folder(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return name


def load(path: str | Path) -> Checkpoint:
    """Read a checkpoint after checking that every byte is as it was written.

    Raises:
        CheckpointError: a file is missing, cut short or altered, or the format is newer.
    """
    path = Path(path)
    try:
        body = json.loads((path / RECORD).read_bytes())
        told, seal = body["tensors"], body.pop("sha256")
        if body["format"] > FORMAT:
            raise CheckpointError(
                f"{path} has format {body['format']}, this version reads up to {FORMAT}; "
                "update tupelo"
            )
        payload = (path / TENSORS).read_bytes()
        sound = (
            seal == _digest(body)
            and len(payload) == told["bytes"]
            and hashlib.sha256(payload).hexdigest() == told["sha256"]
        )
        if not sound:
            raise CheckpointError(
                f"{path} is damaged: {TENSORS} has {len(payload)} bytes of {told['bytes']} or its "
                "content was altered; delete it to use an earlier one"
            )
        return Checkpoint(tensors_from_bytes(payload), body["record"], path)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({type(error).__name__}: {error}); delete it to use an "
            "earlier one"
        ) from error


def newest(folder: str | Path, kind: str) -> Checkpoint | None:
    """The newest sound checkpoint of a kind; damaged ones are passed over with a warning.

    Returns:
        None when there is none at all.

    Raises:
        CheckpointError: there are some, and all are damaged.
    """
    folder = Path(folder)
    damaged = 0
    for name in sorted(_names(folder, kind), key=_step, reverse=True):
        try:
            return load(folder / name)
        except CheckpointError as error:
            damaged += 1
            logger.warning("passing over a damaged checkpoint: %s", error)
    if damaged:
        raise CheckpointError(
            f"all {damaged} checkpoints in {folder} are damaged; restore one from a copy, or "
            "delete them to start again"
        )
    return None


def prune(folder: str | Path, keep: Iterable[str]) -> None:
    """Remove all checkpoints but `keep`, and what interrupted writes left."""
    folder, keep = Path(folder), set(keep)
    for path in folder.iterdir():
        if path.name.startswith(_UNFINISHED) or (
            _NAME.fullmatch(path.name) and path.name not in keep
        ):
            shutil.rmtree(path, ignore_errors=True)


def module_tensors(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Parameters and buffers of a module by name, all names starting with `prefix`.

    Raises:
        CheckpointError: its state holds something that is not a tensor.
    """
    tensors = {f"{prefix}{name}": value for name, value in module.state_dict().items()}
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"{name} in the state of {type(module).__name__} is {type(value).__name__}, not a "
                "tensor, and nothing is pickled; keep it in a buffer"
            )
    return tensors


def restore_module(module: nn.Module, tensors: dict[str, Tensor], prefix: str) -> None:
    """Copy tensors saved by `module_tensors` back.

    Raises:
        CheckpointError: names or shapes differ.
    """
    own = {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
    try:
        module.load_state_dict(own)
    except RuntimeError as error:
        raise CheckpointError(
            f"the checkpoint does not fit: {' '.join(str(error).split())}"
        ) from error


def optimizer_tensors(optimizer: Optimizer, names: dict[int, str]) -> dict[str, Tensor]:
    """State of an optimiser by the names of its parameters.

    Args:
        optimizer: whose rates are set anew every step, so that only its tensors matter.
        names: of the parameters, by `id`.
    """
    return {
        f"optimizer/{names[id(parameter)]}/{key}": value
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(
    optimizer: Optimizer, tensors: dict[str, Tensor], names: dict[int, str]
) -> None:
    """Copy the state saved by `optimizer_tensors` back."""
    saved: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer/"):
            parameter, key = name.removeprefix("optimizer/").rsplit("/", 1)
            saved.setdefault(parameter, {})[key] = value
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            for key, value in saved.get(names[id(parameter)], {}).items():
                optimizer.state[parameter][key] = _like(value, parameter)


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    # fused kernels walk parameter and state in memory order, so both need the same strides
    if value.shape == parameter.shape:
        return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    return value.clone() if parameter.device.type == "cpu" else value.to(parameter.device)


def _portable(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, contiguous, and no two sharing memory (tied weights do)."""
    seen: set[int] = set()
    portable = {}
    for name, given in tensors.items():
        tensor = given.detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        portable[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    return portable


def _digest(body: dict) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _names(folder: Path, kind: str) -> list[str]:
    if not folder.is_dir():
        return []
    matches = [_NAME.fullmatch(path.name) for path in folder.iterdir()]
    return [match.string for match in matches if match and match["kind"] == kind]


def _step(name: str) -> int:
    return int(name.rsplit("-", 1)[1])


def _write(path: Path, payload: bytes) -> None:
    with path.open("wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere folders cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

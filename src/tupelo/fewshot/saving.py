"""A few-shot learner in a folder: safe weights, and all that rebuilds it around them."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import nn

from tupelo.errors import CheckpointError, InputError
from tupelo.fewshot.encoders import Conv4
from tupelo.fewshot.graph import GraphHead
from tupelo.fewshot.graph_encoders import GraphEncoder
from tupelo.fewshot.learner import EpisodeHead, FewShot
from tupelo.fewshot.matching import FullContext, Matching
from tupelo.fewshot.prototypical import Prototypical
from tupelo.models import Embedder
from tupelo.models.architecture import CUSTOM, Architecture
from tupelo.models.rebuilding import rebuild
from tupelo.models.saving import replace_file

FORMAT = 1
WEIGHTS, DESCRIPTION = "fewshot.safetensors", "fewshot.json"


def _matching(*, fce: dict | None, **options) -> Matching:
    return Matching(fce=None if fce is None else FullContext(**fce), **options)


def _embedder(*, mean: list[float], std: list[float], **fields) -> nn.Module:
    return rebuild(Architecture(mean=tuple(mean), std=tuple(std), **fields))


ENCODERS: dict[str, tuple[type[nn.Module], Callable[..., nn.Module]]] = {
    "conv4": (Conv4, Conv4),
    "graph": (GraphEncoder, GraphEncoder),
    "embedder": (Embedder, _embedder),
}
"""By kind: the class, and what builds it from its `options()`."""

HEADS: dict[str, tuple[type[EpisodeHead], Callable[..., EpisodeHead]]] = {
    "prototypical": (Prototypical, Prototypical),
    "matching": (Matching, _matching),
    "graph": (GraphHead, GraphHead),
}


def save(model: FewShot, folder: str | Path, *, about: dict[str, Any] | None = None) -> Path:
    """Write a learner into a folder; an interrupted write leaves the one that was there.

    `fewshot.safetensors` holds the weights and, in its header, what rebuilds encoder and head, so
    that this one file is the model; `fewshot.json` repeats the header for people.

    Args:
        model: the learner.
        folder: created when missing.
        about: whatever should be kept with it, as JSON values: the run, the data set.

    Returns:
        The folder.

    Raises:
        InputError: `about` cannot be written as JSON.
    """
    described = {
        "format": FORMAT,
        "encoder": _described(model.encoder, ENCODERS),
        "head": _described(model.head, HEADS),
        "mean": model.mean.flatten().tolist(),
        "std": model.std.flatten().tolist(),
        "about": about or {},
    }
    try:
        text = json.dumps(described, indent=2, sort_keys=True)
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


def load(
    folder: str | Path, *, encoder: nn.Module | None = None, head: EpisodeHead | None = None
) -> FewShot:
    """Read a learner that `save` wrote; it comes back in evaluation mode.

    Args:
        folder: that holds `fewshot.safetensors`.
        encoder: the module, for a learner around an encoder of your own.
        head: the module, for a head of your own.

    Raises:
        CheckpointError: the file is missing, truncated, not a few-shot learner, of a newer
            format, or its tensors do not fit what it describes.
        InputError: `encoder` or `head` is missing for a module of your own, or given for another.

    >>> import tempfile, torch
    >>> from tupelo.fewshot import FewShot, Prototypical, conv4
    >>> model = FewShot(conv4(width=4), Prototypical("cosine"), mean=(1.0,), std=(-1.0,)).eval()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     twin = load(model.save(folder))
    >>> x = torch.rand(1, 1, 28, 28)
    >>> torch.equal(model(x).raw, twin(x).raw), twin.head.distance
    (True, 'cosine')
    """
    path = Path(folder) / WEIGHTS
    described, tensors = _read(path)
    model = FewShot(
        _rebuilt(described["encoder"], ENCODERS, encoder, "encoder"),
        _rebuilt(described["head"], HEADS, head, "head"),
        mean=tuple(described["mean"]),
        std=tuple(described["std"]),
    )
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} does not fit what it describes: {' '.join(str(error).split())[:300]}"
        ) from error
    return model.eval()


def about(folder: str | Path) -> dict[str, Any]:
    """What `save` was told to keep with the learner.

    Raises:
        CheckpointError: there is no readable learner in the folder.
    """
    return _read(Path(folder) / WEIGHTS)[0]["about"]


def _described(module: Any, kinds: dict) -> dict:
    own = isinstance(module, Embedder) and module.architecture.backbone == CUSTOM
    for kind, (known, _) in kinds.items():
        if type(module) is known and not own:
            embedder = isinstance(module, Embedder)
            options = asdict(module.architecture) if embedder else module.options()
            return {"kind": kind, "options": options}
    named = f"{type(module).__module__}.{type(module).__qualname__}"
    return {"kind": CUSTOM, "options": {}, "class": named}


def _rebuilt(described: dict, kinds: dict, own, name: str):
    kind = described["kind"]
    if (own is not None) != (kind == CUSTOM):
        what = described.get("class", kind)
        raise InputError(
            f"{name}= must be given exactly for learners around a module of your own; this one "
            f"was saved with {what!r}"
        )
    if own is not None:
        return own
    if kind not in kinds:
        raise CheckpointError(
            f"this version of Tupelo knows no {name} {kind!r}, only {', '.join(kinds)}; upgrade it"
        )
    return kinds[kind][1](**described["options"])


def _read(path: Path) -> tuple[dict, dict]:
    if not path.is_file():
        raise CheckpointError(f"no few-shot learner in {path.parent}: {path.name} is missing")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get("tupelo")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        described = None if header is None else json.loads(header)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged or cut short ({error}); restore it from a copy"
        ) from error
    if described is None or "encoder" not in described:
        raise CheckpointError(f"{path} holds weights but no few-shot learner of Tupelo")
    if described["format"] > FORMAT:
        raise CheckpointError(
            f"{path} has format {described['format']}, this version of Tupelo reads up to "
            f"{FORMAT}; upgrade tupelo"
        )
    return described, tensors

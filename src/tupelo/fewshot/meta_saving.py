"""A meta metric learner in a folder: safe weights, and all that rebuilds it around them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import nn

from tupelo.errors import CheckpointError, InputError
from tupelo.fewshot.learner import FewShot
from tupelo.fewshot.meta import Matcher, MetaMetricLearner
from tupelo.fewshot.meta_cell import MetaCell
from tupelo.fewshot.saving import ENCODERS, HEADS
from tupelo.fewshot.text import TextCNN, TextFewShot, Vocabulary
from tupelo.models.saving import replace_file

FORMAT = 1
WEIGHTS, DESCRIPTION = "meta.safetensors", "meta.json"
OPTIONS = ("steps", "batch", "eval_support", "bn_mode", "legacy_grad_scale")
CELL = ("hidden", "p", "pre_process", "gate_feedback")


def save_meta(
    model: MetaMetricLearner, folder: str | Path, *, about: dict[str, Any] | None = None
) -> Path:
    """Write a meta metric learner; an interrupted write leaves the one that was there.

    `meta.safetensors` holds c_0, the meta-learner, what is not adapted, and in its header all that
    rebuilds them, with the order of the parameters in c_0; `meta.json` repeats it for people.

    Args:
        model: around `FewShot` or `TextFewShot` with encoders and heads of this package.
        folder: created when missing.
        about: whatever should be kept with it, as JSON values.

    Returns:
        The folder.

    Raises:
        InputError: an encoder or head is none of this package, or `about` is not JSON.
    """
    matcher = model.matcher
    network = cast(Matcher, matcher.network).network
    described: dict[str, Any] = {
        "format": FORMAT,
        "network": _network(network),
        "options": {name: getattr(model, name) for name in OPTIONS},
        "bn_momentum": matcher.bn_momentum,
        "cell": {name: getattr(model.cell, name) for name in CELL},
        "order": [[name, list(shape)] for name, shape in matcher.order],
        "about": about or {},
    }
    try:
        text = json.dumps(described, indent=1, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise InputError(f"about must be plain JSON values: {error}") from error
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    replace_file(folder / WEIGHTS, to_bytes(tensors, metadata={"tupelo": text}))
    replace_file(folder / DESCRIPTION, (text + "\n").encode())
    return folder


def load_meta(folder: str | Path) -> MetaMetricLearner:
    """Read what `save_meta` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, of a newer format, or its c_0 belongs to
            another network.

    >>> import tempfile, torch
    >>> from tupelo.fewshot import FewShot, Matching, conv4
    >>> model = MetaMetricLearner(FewShot(conv4(width=4), Matching()), steps=3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     twin = load_meta(save_meta(model, folder))
    >>> twin.steps, torch.equal(twin.start, model.start)
    (3, True)
    """
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"no meta metric learner in {folder}: {WEIGHTS} is missing")
    try:
        with safe_open(path, framework="pt") as file:
            described = json.loads((file.metadata() or {})["tupelo"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} is damaged, or no meta metric learner ({error!r}); restore it from a copy"
        ) from error
    if described["format"] > FORMAT:
        raise CheckpointError(
            f"{path} has format {described['format']}, this version of Tupelo reads up to "
            f"{FORMAT}; upgrade tupelo"
        )
    order = [(name, tuple(shape)) for name, shape in described["order"]]
    names = {name.removeprefix("network.") for name, _ in order}
    network = _rebuilt(described["network"])
    model = MetaMetricLearner(
        network,
        cell=MetaCell(**described["cell"]),
        bn_momentum=described["bn_momentum"],
        shared=lambda name: name not in names,
        **described["options"],
    )
    if list(model.matcher.order) != order or tensors["start"].shape != model.start.shape:
        raise CheckpointError(
            f"{path} holds {tensors['start'].numel()} parameters of c_0 in its own order, the "
            f"network it describes has {model.matcher.size} parameters; it was written by another "
            "version or altered"
        )
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} does not fit what it describes: {' '.join(str(error).split())[:300]}"
        ) from error
    return model


def _network(network: nn.Module) -> dict[str, Any]:
    head = _described(network.head, HEADS, "head")
    if isinstance(network, TextFewShot) and isinstance(network.encoder, TextCNN):
        known = None if network.vocabulary is None else list(network.vocabulary.known)
        return {
            "kind": "texts",
            "encoder": network.encoder.options(),
            "vocabulary": known,
            "head": head,
        }
    if isinstance(network, FewShot):
        return {
            "kind": "pictures",
            "encoder": _described(network.encoder, ENCODERS, "encoder"),
            "head": head,
            "mean": network.mean.flatten().tolist(),
            "std": network.std.flatten().tolist(),
        }
    raise InputError(
        f"network must be FewShot, or TextFewShot of a TextCNN, to be saved, got "
        f"{type(network).__name__}; save its state_dict yourself"
    )


def _rebuilt(described: dict[str, Any]) -> nn.Module:
    kind, options = described["head"]["kind"], described["head"]["options"]
    head = HEADS[kind][1](**options)
    if described["kind"] == "texts":
        known = described["vocabulary"]
        vocabulary = None if known is None else Vocabulary(known)
        return TextFewShot(TextCNN(**described["encoder"]), head, vocabulary=vocabulary)
    encoder = described["encoder"]
    return FewShot(
        ENCODERS[encoder["kind"]][1](**encoder["options"]),
        head,
        mean=tuple(described["mean"]),
        std=tuple(described["std"]),
    )


def _described(
    module: Any, kinds: Mapping[str, tuple[type, Callable[..., nn.Module]]], name: str
) -> dict[str, Any]:
    for kind, (known, _) in kinds.items():
        if type(module) is known and hasattr(module, "options"):
            return {"kind": kind, "options": module.options()}
    raise InputError(
        f"{name} must be one of {', '.join(kinds)} to be saved, got {type(module).__name__}; save "
        "its state_dict yourself"
    )

"""Where the weights of a backbone come from: a cache, a hub, or a local file."""

import logging
import pickle
import ssl
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import huggingface_hub
import timm
import torch
from huggingface_hub import constants
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import adapt_input_conv, clean_state_dict
from torch import Tensor, nn

from tupelo.errors import InputError

REACH_SECONDS = 4.0  # one request, no retries: timm's own loading takes 50 s to give up offline

log = logging.getLogger(__name__)


def pretrained_source(name: str) -> dict[str, Any]:
    """Options for `timm.create_model(name, pretrained=True)` that cannot hang on a dead network.

    Where the hub answers, timm loads as always. Where it does not, a copy in the local cache is
    used, and otherwise the missing weights are named at once.

    Raises:
        InputError: timm publishes no weights under this name, or they are neither in the cache
            nor can the hub be reached.
    """
    config = timm.get_pretrained_cfg(name)
    if config is None or not (config.hf_hub_id or config.url or config.file):
        known = ", ".join(timm.list_pretrained(f"{name.split('.')[0]}*")[:5])
        raise InputError(
            f"timm publishes no weights for {name!r}"
            + (f"; it has them for {known}" if known else "; use pretrained=False")
        )
    page = f"{constants.ENDPOINT}/{config.hf_hub_id}" if config.hf_hub_id else str(config.url)
    if config.file or _answers(constants.ENDPOINT if config.hf_hub_id else page):
        return {}
    file_names = (config.hf_hub_filename,) if config.hf_hub_filename else HUB_FILES
    cached = _cached(config.hf_hub_id, file_names) if config.hf_hub_id else None
    if cached is not None:
        log.info("the hub does not answer; weights of %s from the cache", name)
        return {"pretrained_cfg_overlay": {"file": cached}}
    raise InputError(
        f"the pretrained weights of {name!r} are not on this machine and {page} does not "
        "answer; download model.safetensors there on a machine with a network and pass the file "
        "as weights=, or use pretrained=False"
    )


def published_file(url: str) -> Path:
    """A file of weights that torch publishes: from torch's cache, else downloaded into it.

    Args:
        url: whose name ends in the first digits of its checksum, as torch names its files.

    Raises:
        InputError: it is not in the cache, and its address does not answer, or what comes from
            there is cut short or has another checksum.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if path.is_file():
        return path
    if not _answers(url):
        raise InputError(
            f"the pretrained weights {path.name} are not on this machine and {url} does not "
            "answer; download that file on a machine with a network and pass it as weights=, or "
            "use pretrained=False"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    checksum = path.stem.rpartition("-")[2]
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=checksum, progress=False)
    except (OSError, RuntimeError) as error:  # no such page, cut off, disk full; wrong checksum
        raise InputError(
            f"the pretrained weights {path.name} could not be fetched from {url} ({error}); "
            "download that file elsewhere and pass it as weights=, or use pretrained=False"
        ) from error
    return path


HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def _answers(url: str) -> bool:
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        with urlopen(Request(url, method="HEAD"), timeout=REACH_SECONDS):
            return True
    except HTTPError:
        return True
    except URLError as error:
        return isinstance(error.reason, ssl.SSLError)  # timm's client may know other certificates
    except OSError:
        return False


def _cached(repository: str, file_names: tuple[str, ...]) -> str | None:
    for file_name in file_names:
        path = huggingface_hub.try_to_load_from_cache(repository, file_name)
        if isinstance(path, str):
            return path
    return None


def load_weights(backbone: nn.Module, path: Path, *, channels: int = 3) -> None:
    """Load a local file of weights into a backbone, or fail without having changed it.

    Args:
        backbone: its names must be those of the file; a classifier in the file is left out.
        path: `.safetensors`, or a file of `torch.save` that holds nothing but tensors.
        channels: of the pictures; the first convolution of a timm backbone is adapted to them
            as timm does it (summed for grey).

    Raises:
        InputError: the file is missing, damaged, holds more than tensors, or its names or shapes
            are not the backbone's.
    """
    state = clean_state_dict(_read(path))
    own = backbone.state_dict()
    config = getattr(backbone, "pretrained_cfg", None) or {}
    for name in _listed(config.get("first_conv")):
        key = f"{name}.weight"
        if key in state and key in own and state[key].shape[1] != own[key].shape[1]:
            state[key] = adapt_input_conv(channels, state[key])
    classifiers = tuple(f"{name}." for name in _listed(config.get("classifier")))
    state = {
        key: value for key, value in state.items() if key in own or not key.startswith(classifiers)
    }
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    foreign = [key for key in state if key not in own]
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if missing or foreign or shapes:
        faults = [
            f"{len(names)} {what} (such as {names[0]})"
            for names, what in (
                (missing, "missing"),
                (foreign, "unknown"),
                (shapes, "of another shape"),
            )
            if names
        ]
        raise InputError(
            f"weights must be those of the backbone, but {path.name} has {', '.join(faults)}; "
            "name the backbone these weights belong to"
        )
    backbone.load_state_dict(own | state)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"weights must be a file, but {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise InputError(
            f"weights must be a safetensors file or a torch file of tensors alone, but {path} "
            f"cannot be read ({type(error).__name__}); fetch it again, or save its state_dict with "
            "safetensors"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"weights must hold named tensors, but {path} does not")
    return state


def _listed(names: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if names is None:
        return ()
    return (names,) if isinstance(names, str) else tuple(names)

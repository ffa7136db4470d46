"""`tupelo.export.onnx`: trace, describe, check, and only then write."""

import copy
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tupelo.data import ImageSet
from tupelo.data.decode import Frame
from tupelo.errors import InputError, MissingExtra
from tupelo.export.agreement import (
    BATCHES,
    Agreement,
    Pixels,
    Rows,
    compare,
    need_onnxruntime,
    some_pictures,
)
from tupelo.export.description import describe
from tupelo.export.network import PixelsToRows, unit_rows
from tupelo.inference import scales_of
from tupelo.models import VAE, Embedder, Ensemble
from tupelo.models.saving import replace_file
from tupelo.trained import Picture, Prepared, Trained

OLDEST_OPSET = 18  # which torch translates to; every onnxruntime since 1.14 reads it
LARGEST_FILE = 2**31 - 2**20  # bytes; protobuf ends at 2 GiB, and the graph takes some


@dataclass(frozen=True)
class Exported:
    """What `onnx` wrote.

    Attributes:
        path: of the file.
        size: in bytes.
        shapes: of `pictures` and `embedding`; "batch" is any number.
        metadata: what the file says of itself, texts by name.
        agreement: with torch; None where it was not checked.
        seconds: the export took, with its check.
    """

    path: Path
    size: int
    shapes: tuple[str, str]
    metadata: dict[str, str]
    agreement: Agreement | None
    seconds: float


def onnx(
    model: Trained | nn.Module,
    path: str | Path,
    *,
    frame: Frame | None = None,
    half: bool = False,
    opset: int = OLDEST_OPSET,
    check: bool = True,
    pictures: Sequence[Picture] | ImageSet | None = None,
) -> Exported:
    """Write a model as one ONNX file, from pixels to unit rows, and compare it with torch.

    Its input `pictures` is uint8 (batch, height, width, channels), just as Pillow gives pixels;
    scaling and normalisation are part of the network, and its metadata say how a picture is
    brought to that height and width. Its output `embedding` is float32 (batch, d), unit rows.
    onnxruntime answers at least 12 pictures, in batches of 1, 3, 8 and so on, before the file is
    written; a file that was there before stays until then.

    Args:
        model: what `tupelo.load` returned, or a model from pictures to `Embedded`; unchanged.
        path: ends in .onnx.
        frame: of the pictures; to be given for a model that `tupelo.load` did not return.
        half: weights of the backbone in half precision: half the size.
        opset: version of ONNX's operators.
        check: compare. A difference of rows above 1e-4 (1e-2 with `half`) is an error, and so is a
            cosine below 0.999.
        pictures: to compare by; default twelve generated ones.

    Raises:
        InputError: `path`, `frame` or `opset` cannot be, the model is larger than an ONNX file
            may be (2 GiB), cannot be translated, or the file does not answer as torch does.
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.

    >>> import tempfile, tupelo
    >>> model = tupelo.models.embedder("convnet", dim=16)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = onnx(model, f"{folder}/model.onnx", frame=Frame(32, 32, 3))
    >>> report.agreement.good, report.agreement.batches
    (True, (1, 3, 8))
    """
    began = time.monotonic()
    path = Path(path)
    if path.suffix != ".onnx" or path.is_dir():
        raise InputError(f"path must be a file that ends in .onnx, got {path}")
    original, frame = _opened(model, frame)
    if check:
        need_onnxruntime()
    _check_size(original, half)
    metadata = describe(original, frame, half=half)
    network = copy.deepcopy(original).cpu().float().eval()
    pixels = _pixels(pictures, frame)
    expected = _by_torch(network, pixels)  # before `half` converts the network in place
    program = _translated(PixelsToRows(network, half=half).eval(), pixels[:2], opset)
    _inscribe(program, metadata)
    file = program.SerializeToString()
    agreement = compare(file, pixels, expected, half=half) if check else None
    if agreement is not None and not agreement.good:
        advice = "; some networks leave the range of half precision" if half else ""
        raise InputError(
            f"the exported network does not answer as torch does: {agreement}{advice}. "
            f"{path} was not written"
        )
    metadata["checked"] = "no" if agreement is None else f"with onnxruntime: {agreement}"
    _inscribe(program, metadata)
    file = program.SerializeToString()
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, file)
    height, width, channels, _ = frame
    shapes = (f"(batch, {height}, {width}, {channels})", f"(batch, {expected.shape[1]})")
    return Exported(path, len(file), shapes, metadata, agreement, time.monotonic() - began)


def _opened(model: Trained | nn.Module, frame: Frame | None) -> tuple[nn.Module, Frame]:
    if isinstance(model, Trained):
        if frame is not None and frame != model.frame:
            raise InputError(f"frame is that of the trained model, {model.frame}; leave it out")
        return model.model, model.frame
    if frame is None:
        raise InputError(
            "frame must be given for a model that tupelo.load did not return: that of its "
            "training pictures, data.train.frame"
        )
    if frame.channels not in (1, 3) or min(frame[:2]) < 1:
        raise InputError(f"frame must have 1 or 3 channels and sides of at least 1, got {frame}")
    if (
        isinstance(model, (Embedder, Ensemble, VAE))
        and frame.channels != model.architecture.channels
    ):
        raise InputError(
            f"frame must have the {model.architecture.channels} channel(s) of the model, got "
            f"{frame}"
        )
    return model, frame


def _check_size(model: nn.Module, half: bool) -> None:
    tensors = [*model.parameters(), *model.buffers()]
    size = sum(tensor.numel() * (2 if half else 4) for tensor in tensors)
    if size > LARGEST_FILE:
        raise InputError(
            f"an ONNX file may hold 2 GiB, the weights of this model take {size / 2**30:.1f} GiB"
            + ("" if half else "; half=True (--fp16) halves them")
        )


def _pixels(pictures: Sequence[Picture] | ImageSet | None, frame: Frame) -> Pixels:
    """Uint8 pixels of at least as many pictures as the first batches take; few are repeated."""
    if pictures is None:
        return some_pictures(frame)
    if isinstance(pictures, ImageSet):
        if pictures.frame != frame:
            raise InputError(f"pictures must be read as {frame}, got {pictures.frame}")
        images = pictures.batch(np.arange(len(pictures))).images
        pixels = (images * 255).round().to(torch.uint8)
    else:
        pixels = Prepared(pictures, frame).pixels(range(len(pictures)))
    repeated = np.arange(max(len(pixels), sum(BATCHES))) % len(pixels)
    return np.ascontiguousarray(pixels.numpy()[repeated].transpose(0, 2, 3, 1))


def _by_torch(model: nn.Module, pixels: Pixels) -> Rows:
    """What is expected, by the way that `tupelo.embed` goes: pictures (b, c, h, w) in [0, 1]."""
    images = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()).float().div_(255)
    with torch.inference_mode():
        rows = [unit_rows(model(part), scales_of(model)) for part in images.split(BATCHES[-1])]
    return torch.cat(rows).numpy()


def _translated(network: nn.Module, pixels: Pixels, opset: int) -> Any:
    try:
        import onnx as format_of_onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtra(f"export needs {error.name}: pip install 'tupelo[export]'") from error
    newest = format_of_onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise InputError(f"opset must be {OLDEST_OPSET} to {newest}, got {opset}")
    try:
        with _quietly():
            program: Any = torch.onnx.export(
                network,
                (torch.from_numpy(pixels),),
                input_names=["pictures"],
                output_names=["embedding"],
                dynamic_shapes={"pictures": {0: torch.export.Dim("batch")}},
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
            content = program.model_proto
            format_of_onnx.checker.check_model(content)
    except Exception as error:  # the translators raise anything
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        raise InputError(
            f"this model cannot be translated to ONNX: {type(error).__name__}: {reason}"
        ) from error
    _strip(content)
    return content


def _inscribe(content: Any, metadata: dict[str, str]) -> None:
    """Let the file say what it is."""
    from onnx.helper import set_model_props

    content.producer_name, content.producer_version = metadata["written_by"].split()
    content.doc_string = f"pictures to unit rows. Preparation:\n{metadata['preparation']}"
    set_model_props(content, metadata)


def _strip(content: Any) -> None:
    """Remove notes of the translator, which name folders of this machine."""
    graph = content.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for part in (*graph.initializer, *content.functions):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for node in (node for function in content.functions for node in function.node):
        node.ClearField("metadata_props")
        node.ClearField("doc_string")


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the translators' remarks on their own future away from the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

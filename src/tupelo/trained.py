"""`tupelo.load`: a trained model together with the way pictures are prepared for it."""

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor, nn

from tupelo import models
from tupelo.data import Batch, ImageSet
from tupelo.data.decode import BadPicture, Frame, Resize, decode, prepare
from tupelo.data.pictures import FolderFiles, in_threads
from tupelo.errors import CheckpointError, DataError, InputError
from tupelo.inference import embed
from tupelo.models import VAE, Embedder, Ensemble, Model

Picture = str | Path | bytes | Image.Image | np.ndarray
"""A file's name, its content, an opened picture, or pixels uint8 (h, w) or (h, w, 3)."""

_files = FolderFiles(Path())


class Prepared:
    """Pictures without labels, each decoded into the form of a model when its batch is asked for.

    Any number of files takes the memory of a batch. `Trained.prepare` makes it; `tupelo.embed`
    takes it.

    Args:
        pictures: one or more.
        frame: the form they are brought into.

    Attributes:
        labels: all 0.
        paths: names of files; "picture 3" for others.

    Raises:
        InputError: there is no picture, or one is of an unknown kind.
    """

    def __init__(self, pictures: Sequence[Picture], frame: Frame) -> None:
        if not len(pictures):
            raise InputError("pictures must hold at least one, got 0")
        for picture in pictures:
            _check(picture)
        self.frame = frame
        self.labels = np.zeros(len(pictures), np.int64)
        self.paths = tuple(
            str(picture) if isinstance(picture, (str, Path)) else f"picture {number}"
            for number, picture in enumerate(pictures)
        )
        self._pictures = pictures
        self._loading = threading.Lock()

    def __len__(self) -> int:
        return len(self._pictures)

    def pixels(self, indices: Sequence[int] | Int64[np.ndarray, " b"]) -> UInt8[Tensor, "b c h w"]:
        """The pictures at `indices`.

        Raises:
            DataError: one is missing, damaged or far too large; names it.
        """
        height, width, channels, _ = self.frame
        pixels = np.empty((len(indices), channels, height, width), np.uint8)

        def fill(place: int) -> None:
            pixels[place] = self._decoded(int(indices[place]))

        in_threads(fill, range(len(indices)))
        return torch.from_numpy(pixels)

    def batch(self, indices: Sequence[int] | Int64[np.ndarray, " b"]) -> Batch:
        """The pictures at `indices` with values in [0, 1].

        Raises:
            DataError: see `pixels`.
        """
        items = torch.as_tensor(np.asarray(indices, dtype=np.int64))
        return Batch(self.pixels(indices).float().div_(255), torch.zeros_like(items), items)

    def _decoded(self, row: int) -> UInt8[np.ndarray, "c h w"]:
        picture = self._pictures[row]
        try:
            if isinstance(picture, (str, Path)):
                return decode(_files.read(str(picture)), self.frame)
            if isinstance(picture, bytes):
                return decode(picture, self.frame)
            if isinstance(picture, np.ndarray):
                picture = Image.fromarray(picture)
            with self._loading:  # the same opened picture may stand in several places
                return _prepared(picture, self.frame)
        except BadPicture as error:
            raise DataError(f"{self.paths[row]} cannot be used: {error}") from error


@dataclass(frozen=True)
class Trained:
    """A model ready for use; `load` makes it. Threads may share it.

    Attributes:
        model: in evaluation mode.
        frame: height, width and channels of its pictures, and how others are made to fit.
        folder: it was read from.
    """

    model: Model
    frame: Frame
    folder: Path

    @property
    def identity(self) -> str:
        """Hexadecimal digest of weights, architecture and frame: equal means equal embeddings."""
        return identity(self.model, self.frame)

    def embed(
        self,
        pictures: Picture | Sequence[Picture] | ImageSet,
        *,
        batch_size: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Float[Tensor, "n d"]:
        """Unit rows of pictures, each prepared as the pictures of training were.

        Args:
            pictures: one or several files, contents of files, opened pictures or arrays of
                pixels; or an `ImageSet` that was read in the same form.
            batch_size: see `tupelo.embed`.
            progress: see `tupelo.embed`.

        Raises:
            DataError: a picture is missing, damaged or far too large; names it.
            InputError: there is none, a kind is unknown, or the set is of another form.

        >>> import tempfile
        >>> model = models.embedder("convnet", dim=16, size=32)
        >>> about = {"pictures": Frame(32, 32, 3)._asdict()}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trained = load(models.save(model, folder, about=about))
        >>> trained.embed(np.zeros((40, 50, 3), np.uint8)).shape
        torch.Size([1, 16])
        """
        if isinstance(pictures, ImageSet):
            if pictures.frame != self.frame:
                raise InputError(
                    f"pictures must be read as the model's were, {self.frame}; got {pictures.frame}"
                )
            prepared = pictures
        else:
            single = isinstance(pictures, (str, Path, bytes, Image.Image, np.ndarray))
            prepared = self.prepare([pictures] if single else pictures)
        return embed(self.model, prepared, batch_size=batch_size, progress=progress).z

    def prepare(self, pictures: Sequence[Picture]) -> Prepared:
        """Pictures in the form of this model, for `tupelo.embed`; decoded batch by batch.

        Raises:
            InputError: see `Prepared`.
        """
        return Prepared(pictures, self.frame)


def load(
    run: str | Path, *, device: torch.device | str = "cpu", backbone: nn.Module | None = None
) -> Trained:
    """Read the model of a run, or of a folder that `models.save` wrote, for use.

    Only tensors and JSON are read: nothing in the folder can run code.

    Args:
        run: folder that `tupelo train` or `tupelo.fit` wrote, or that holds `model.safetensors`.
        device: where the model computes, such as "cuda".
        backbone: the module, for a model that was built around one of your own.

    Raises:
        CheckpointError: there is no model, it cannot be read, or it does not say how pictures are
            prepared.
        InputError: this machine has no such device; see also `models.load`.
    """
    run = Path(run)
    folder = run / "model" if (run / "model").is_dir() else run
    if not (folder / "model.safetensors").is_file():
        if (folder / "fewshot.safetensors").is_file() or (folder / "meta.safetensors").is_file():
            raise CheckpointError(
                f"{run} holds a few-shot learner; tupelo fewshot evaluate and classify use it, and "
                "tupelo.fewshot.load reads it"
            )
        if (run / "checkpoint").is_dir() or (run / "recipe.yaml").is_file():
            raise CheckpointError(
                f"{run} is a run that has not finished; repeat its tupelo train command to "
                "finish it"
            )
        raise CheckpointError(
            f"{run} holds no run; give the folder that tupelo train wrote with --out"
        )
    try:
        torch.zeros(1, device=device).cpu()  # "meta" has no numbers to give back
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device must be one that computes on this machine, such as 'cpu', got "
            f"{str(device)!r}: {str(error).splitlines()[0]}"
        ) from error
    model = models.load(folder, backbone=backbone)
    return Trained(model.to(device), _frame(model, models.about(folder), folder), run)


def identity(model: nn.Module, frame: Frame) -> str:
    """Hexadecimal digest of weights, architecture and frame: equal means equal embeddings."""
    architecture = architecture_of(model)
    digest = hashlib.sha256()
    digest.update(json.dumps([architecture, frame]).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def architecture_of(model: nn.Module) -> dict[str, Any] | None:
    """The architecture of a model as plain values; None of one that states none."""
    if not isinstance(model, (Embedder, Ensemble, VAE)):
        return None
    plain = asdict(model.architecture)
    if plain["learners"] is None:
        del plain["learners"]  # so that an index knows models from before there were ensembles
    if plain["final"] == "linear":
        del plain["final"]  # the same
    return plain


def _frame(model: Model, about: dict[str, Any], folder: Path) -> Frame:
    size, channels = model.architecture.size, model.architecture.channels
    if "pictures" in about:
        stated = about["pictures"]
        try:
            frame = Frame(**stated)
            fits = frame.channels == channels and frame.resize in get_args(Resize)
            if fits and min(frame.height, frame.width) >= 1:
                return frame
        except TypeError:
            pass
        raise CheckpointError(
            f"{folder} says that pictures are prepared as {stated}, which no model of {channels} "
            'channel(s) can use; save it with about={"pictures": data.train.frame._asdict()}'
        )
    if size is None or channels not in (1, 3):
        raise CheckpointError(
            f"{folder} does not say how pictures are prepared for its model; save it with "
            'about={"pictures": data.train.frame._asdict()}'
        )
    height, width = (size, size) if isinstance(size, int) else size
    return Frame(height, width, channels)


def _check(picture: Picture) -> None:
    if isinstance(picture, np.ndarray):
        shape = picture.shape
        known = picture.ndim == 2 or (picture.ndim == 3 and shape[2] == 3)
        if picture.dtype != np.uint8 or not known or not picture.size:
            raise InputError(
                f"pixels must be uint8 (h, w) or (h, w, 3), got {picture.dtype} of shape {shape}"
            )
    elif not isinstance(picture, (str, Path, bytes, Image.Image)):
        raise InputError(
            "a picture must be a path, bytes, an opened picture or an array of pixels, got "
            f"{type(picture).__name__}"
        )


def _prepared(picture: Image.Image, frame: Frame) -> UInt8[np.ndarray, "c h w"]:
    try:
        picture.load()
        return prepare(picture, frame)
    except BadPicture:
        raise
    except Exception as error:  # Pillow's readers raise anything on damaged bytes
        raise BadPicture(f"damaged: {error}") from error

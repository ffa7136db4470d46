"""`tupelo.load`: a trained model together with the way pictures are prepared for it."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from tupelo import models
from tupelo.data import ImageSet
from tupelo.data.decode import BadPicture, Frame, decode, prepare, quiet_pillow
from tupelo.data.pictures import in_threads
from tupelo.errors import CheckpointError, DataError, InputError
from tupelo.inference import embed
from tupelo.models import Embedder

Picture = str | Path | bytes | Image.Image | np.ndarray
"""A file's name, its content, an opened picture, or pixels uint8 (h, w) or (h, w, 3)."""


@dataclass(frozen=True)
class Trained:
    """A model ready for use; `load` makes it.

    Attributes:
        model: in evaluation mode.
        frame: height, width and channels of its pictures, and how others are made to fit.
        folder: it was read from.
    """

    model: Embedder
    frame: Frame
    folder: Path

    @property
    def identity(self) -> str:
        """Hexadecimal digest of weights, architecture and frame: equal means equal embeddings."""
        digest = hashlib.sha256()
        digest.update(json.dumps([asdict(self.model.architecture), self.frame]).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

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

    def prepare(self, pictures: Sequence[Picture]) -> ImageSet:
        """Pictures as an `ImageSet` of this model's form, without labels."""
        if not len(pictures):
            raise InputError("pictures must hold at least one, got 0")
        names = [_name(picture, number) for number, picture in enumerate(pictures)]

        def pixels(row: int) -> np.ndarray:
            try:
                return _pixels(pictures[row], self.frame)
            except (BadPicture, OSError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                raise DataError(f"{names[row]} cannot be used: {reason}") from error

        with quiet_pillow():
            stacked = np.stack(in_threads(pixels, range(len(pictures))))
        channels_last = np.ascontiguousarray(stacked.transpose(0, 2, 3, 1))
        found = ImageSet.from_arrays(channels_last, [""] * len(names), paths=names)
        found.resize = self.frame.resize
        return found


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
        InputError: see `models.load`.
    """
    run = Path(run)
    folder = run / "model" if (run / "model").is_dir() else run
    if not (folder / "model.safetensors").is_file():
        if (run / "checkpoint").is_dir() or (run / "recipe.yaml").is_file():
            raise CheckpointError(
                f"{run} is a run that has not finished; repeat its tupelo train command to "
                "finish it"
            )
        raise CheckpointError(
            f"{run} holds no run; give the folder that tupelo train wrote with --out"
        )
    model = models.load(folder, backbone=backbone)
    return Trained(model.to(device), _frame(model, models.about(folder), folder), run)


def _frame(model: Embedder, about: dict[str, Any], folder: Path) -> Frame:
    if "pictures" in about:
        return Frame(**about["pictures"])
    size, channels = model.architecture.size, model.architecture.channels
    if size is None or channels not in (1, 3):
        raise CheckpointError(
            f"{folder} does not say how pictures are prepared for its model; save it with "
            'about={"pictures": data.train.frame._asdict()}'
        )
    return Frame(size, size, channels)


def _pixels(picture: Picture, frame: Frame) -> np.ndarray:
    if isinstance(picture, (str, Path)):
        return decode(Path(picture).read_bytes(), frame)
    if isinstance(picture, bytes):
        return decode(picture, frame)
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.shape[2:] not in ((), (3,)) or picture.ndim < 2:
            raise InputError(
                "pixels must be uint8 (h, w) or (h, w, 3), got "
                f"{picture.dtype} of shape {picture.shape}"
            )
        picture = Image.fromarray(picture)
    if not isinstance(picture, Image.Image):
        raise InputError(
            "a picture must be a path, bytes, an opened picture or an array of pixels, got "
            f"{type(picture).__name__}"
        )
    return prepare(picture, frame)


def _name(picture: Picture, number: int) -> str:
    return str(picture) if isinstance(picture, (str, Path)) else f"picture {number}"

"""Where the features of faces come from: a file, or pictures and a trained model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tupelo.data import Batch
from tupelo.data.decode import BadPicture, Box, Frame
from tupelo.data.features import read_features
from tupelo.data.listing import is_picture, visible, walk, zip_names
from tupelo.data.pictures import FilePictures, FolderFiles, ZipFiles, in_threads
from tupelo.errors import DataError
from tupelo.inference import embed, rows_of, scales_of
from tupelo.trained import Trained
from tupelo.types import Embedded

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Faces:
    """Names of pictures, and their features on demand.

    Attributes:
        names: of all that are there.
        where: they are, for messages.
        told: how features come about, for results.
        rows: features of pictures by place in `names`, each cut to a box where one is given.
    """

    names: Sequence[str]
    where: str
    told: dict[str, str | bool]
    rows: Callable[[Int[np.ndarray, " n"], Sequence[Box | None] | None], Float[np.ndarray, "n d"]]


def faces_from_file(path: Path) -> Faces:
    """Features that were written before.

    Raises:
        DataError: see `tupelo.data.features.read_features`.
    """
    held = read_features(path)
    return Faces(
        held.names, str(path), {"features": str(path)}, lambda places, _boxes: held.rows[places]
    )


def faces_from_pictures(
    trained: Trained, place: Path, *, flip: bool = True, progress: Progress | None = None
) -> Faces:
    """Features of the pictures in a folder or zip, computed when they are asked for.

    Args:
        trained: the model.
        place: folder or zip; or a folder that holds no pictures but one zip.
        flip: join the unit rows of the picture and of its mirror image, as verification usually
            does; the joined rows are unit rows again.
        progress: called with (pictures done, pictures in all).

    Raises:
        DataError: there are no pictures.
    """
    files, names = open_pictures(place)
    model = BothSides(trained.model) if flip else trained.model

    def rows(
        places: Int[np.ndarray, " n"], boxes: Sequence[Box | None] | None
    ) -> Float[np.ndarray, "n d"]:
        chosen = _Chosen(files, [names[row] for row in places.tolist()], boxes, trained.frame)
        return embed(model, chosen, progress=progress).z.numpy()

    told: dict[str, str | bool] = {
        "run": str(trained.folder), "pictures": str(place), "flip": flip,
    }  # fmt: skip
    return Faces(names, str(place), told, rows)


def open_pictures(place: Path) -> tuple[FolderFiles | ZipFiles, list[str]]:
    """All pictures below a folder, or in a zip, by name.

    Raises:
        DataError: it is neither, or holds none.
    """
    if place.is_dir():
        every = visible(walk(place))
        names = [name for name in every if is_picture(name)]
        zips = [name for name in every if name.lower().endswith(".zip")]
        if names or len(zips) != 1:
            return FolderFiles(place), _some(names, place)
        place = place / zips[0]
    if not (place.is_file() and place.suffix.lower() == ".zip"):
        raise DataError(f"pictures must be a folder or a .zip, {place} is neither")
    files = ZipFiles(place)
    return files, _some([name for name in visible(zip_names(files)) if is_picture(name)], place)


class BothSides(nn.Module):
    """A model that sees each picture and its mirror image, and gives an embedding of each."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Float[Tensor, "b c h w"]) -> tuple[Embedded, Embedded]:
        """Embeddings of the pictures, and of the pictures mirrored from left to right."""
        seen, mirrored = self._rows(images), self._rows(images.flip(-1))
        return Embedded.of(seen), Embedded.of(mirrored)

    def _rows(self, images: Tensor) -> Tensor:
        return rows_of(self.model(images), scales_of(self.model))


class _Chosen:
    """Some pictures, each decoded when its batch is asked for."""

    def __init__(
        self,
        files: FolderFiles | ZipFiles,
        names: Sequence[str],
        boxes: Sequence[Box | None] | None,
        frame: Frame,
    ) -> None:
        self.labels = np.zeros(len(names), np.int64)
        self.paths = names
        self._pictures = FilePictures(files, names, boxes)
        self._frame = frame

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: Int[np.ndarray, " b"]) -> Batch:
        height, width, channels, _ = self._frame
        pixels = np.empty((len(indices), channels, height, width), np.uint8)

        def fill(place: int) -> None:
            row = int(indices[place])
            try:
                pixels[place] = self._pictures.pixels(row, self._frame)
            except BadPicture as error:
                raise DataError(
                    f"{self.paths[row]} cannot be used: {error}; the protocol needs it, so put it "
                    "back"
                ) from error

        in_threads(fill, range(len(indices)))
        items = torch.as_tensor(np.asarray(indices, np.int64))
        return Batch(torch.from_numpy(pixels).float().div_(255), torch.zeros_like(items), items)


def _some(names: list[str], place: Path) -> list[str]:
    if not names:
        raise DataError(f"{place} holds no pictures; give the folder or zip that does")
    return names

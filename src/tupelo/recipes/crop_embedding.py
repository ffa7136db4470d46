"""Embeddings of boxes in pictures by a trained network, for `tupelo.tracking.Tracker`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8

from tupelo.data.decode import Frame
from tupelo.errors import CheckpointError
from tupelo.inference import fast_precision, rows_of, scales_of
from tupelo.models import VAE, Model
from tupelo.models.modes import evaluating
from tupelo.tracking.crops import cut
from tupelo.trained import Trained, load

AT_ONCE = 512 * 64 * 64  # pixels of a batch; a frame's crops are one batch unless they are many
GREY = np.array([299, 587, 114], np.int32)  # of 1000, as Pillow weighs colours


class CropEmbedder:
    """The `embed` of a `Tracker`: boxes are cut out and embedded in one batch.

    Args:
        model: from pictures to `Embedded`, or to one for each learner.
        frame: the form of its pictures; a box is widened or narrowed to its aspect.

    >>> from tupelo.models import embedder
    >>> embed = CropEmbedder(embedder("convnet", dim=8, size=32).eval(), Frame(32, 32, 3))
    >>> embed(np.zeros((60, 80, 3), np.uint8), np.array([[5.0, 5, 20, 20], [90, 0, 9, 9]])).shape
    (2, 8)
    """

    def __init__(self, model: Model, frame: Frame) -> None:
        self.model, self.frame = model, frame
        self._device = next(model.parameters()).device
        self._precision = fast_precision(model, self._device)

    def __call__(
        self, image: UInt8[np.ndarray, "h w 3"], boxes: Float64[np.ndarray, "n 4"]
    ) -> Float32[np.ndarray, "n d"]:
        """Unit rows; one of NaN for a box without a visible part.

        Args:
            image: RGB.
            boxes: x, y, w, h in pixels.

        Raises:
            InputError: see `tupelo.tracking.crops.cut`.
        """
        crops, visible = cut(image, boxes, self.frame.height, self.frame.width)
        seen = np.flatnonzero(visible > 0)
        rows = self.embed_crops(crops[seen])
        whole = np.full((len(boxes), rows.shape[1]), np.nan, np.float32)
        whole[seen] = rows
        return whole

    def embed_crops(
        self, crops: UInt8[np.ndarray, "n height width 3"]
    ) -> Float32[np.ndarray, "n d"]:
        """Unit rows of crops that have the form of the network already."""
        size = max(1, AT_ONCE // (self.frame.height * self.frame.width))
        starts = range(0, max(1, len(crops)), size)
        with evaluating(self.model), torch.inference_mode():
            parts = [self._batch(crops[start : start + size]) for start in starts]
        return np.concatenate(parts)

    def _batch(self, crops: UInt8[np.ndarray, "n height width 3"]) -> Float32[np.ndarray, "n d"]:
        if not len(crops):  # networks need not know empty batches; the width is of one black crop
            black = np.zeros((1, self.frame.height, self.frame.width, 3), np.uint8)
            return self._batch(black)[:0]
        pixels = crops
        if self.frame.channels == 1:
            pixels = ((crops @ GREY + 500) // 1000).astype(np.uint8)[..., None]
        images = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2).float().div_(255)
        fast = self._precision == "bf16-mixed"
        if not fast:
            images = images.contiguous()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=fast):
            model = self.model
            output = model.encode(images).mean if isinstance(model, VAE) else model(images)
        return rows_of(output, scales_of(model)).float().cpu().numpy()


@dataclass(frozen=True)
class OpenedEmbedder:
    """A network for tracking, and the distances that were measured for it.

    Attributes:
        embed: for a `Tracker`.
        far_distance: cosine distance at which 1 % of pairs of different identities are taken for
            the same; None where the run was not calibrated.
        same_distance: within which 95 % of pairs of one identity lie; None likewise.
    """

    embed: CropEmbedder
    far_distance: float | None
    same_distance: float | None


def open_embedder(run: str | Path, *, device: torch.device | str = "cpu") -> OpenedEmbedder:
    """The network of any run, with its calibration if it has one.

    Raises:
        CheckpointError: there is no model.
        InputError: see `tupelo.load`.
    """
    trained = load(run, device=device)
    return OpenedEmbedder(CropEmbedder(trained.model, trained.frame), *_distances(trained))


def _distances(trained: Trained) -> tuple[float | None, float | None]:
    from tupelo.recipes.reid_calibration import calibration_of

    try:
        found = calibration_of(trained)
    except CheckpointError:
        return None, None
    return found.far_distance, found.same_distance

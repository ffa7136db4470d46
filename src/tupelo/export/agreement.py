"""Whether an exported file answers as torch does, asked of onnxruntime."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from tupelo.data.decode import Frame
from tupelo.errors import InputError, MissingExtra

BATCHES = (1, 3, 8)
LARGEST_DIFFERENCE = {False: 1e-4, True: 1e-2}  # of an entry of a unit row, by half precision
LOWEST_COSINE = 0.999  # of two rows; what binds in wide rows, whose entries are small

Pixels = UInt8[np.ndarray, "n h w c"]
Rows = Float[np.ndarray, "n d"]


@dataclass(frozen=True)
class Agreement:
    """How an exported file and torch in float32 answered the same pictures.

    Attributes:
        n_pictures: compared.
        batches: sizes of the batches that were sent.
        largest_difference: between two entries of unit rows.
        lowest_cosine: between two rows of one picture.
        tolerance: of `largest_difference`.
    """

    n_pictures: int
    batches: tuple[int, ...]
    largest_difference: float
    lowest_cosine: float
    tolerance: float

    @property
    def good(self) -> bool:
        """Within the tolerance, cosines 0.999 or more; rows that are not finite never are."""
        return self.largest_difference <= self.tolerance and self.lowest_cosine >= LOWEST_COSINE

    def __str__(self) -> str:
        return (
            f"rows of {self.n_pictures} pictures differ by at most {self.largest_difference:.1e} "
            f"({self.tolerance:.0e} is allowed), lowest cosine {self.lowest_cosine:.6f}"
        )


def compare(file: bytes, pixels: Pixels, expected: Rows, *, half: bool) -> Agreement:
    """Send pictures to onnxruntime in batches of 1, 3, 8, 8 ... and compare its rows.

    Args:
        file: content of the ONNX file.
        pixels: at least 12 pictures.
        expected: their rows by torch.
        half: which tolerance holds.

    Raises:
        InputError: onnxruntime cannot run the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; it warns of nodes that it moves to the CPU
    sizes, rows, start = [], [], 0
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        for size in _sizes(len(pixels)):
            sent = {"pictures": pixels[start : start + size]}
            rows.append(session.run(["embedding"], sent)[0])
            sizes.append(size)
            start += size
    except Exception as error:  # onnxruntime raises classes of its own C++ module
        raise InputError(f"onnxruntime cannot run the exported network: {error}") from error
    found = np.concatenate(rows).astype(np.float64)
    difference = np.abs(found - expected).max()
    cosine = (found * expected).sum(axis=1).min()
    tolerance = LARGEST_DIFFERENCE[half]
    return Agreement(len(pixels), tuple(sizes), float(difference), float(cosine), tolerance)


def need_onnxruntime() -> None:
    """Ask for onnxruntime before work is done.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            "checking an exported file needs onnxruntime: pip install 'tupelo[export]'; "
            "check=False (--no-check) writes it unchecked"
        ) from error


def some_pictures(frame: Frame) -> Pixels:
    """Twelve pictures that differ in every way a network could notice: plain, ramps, noise."""
    height, width, channels, _ = frame
    rng = np.random.default_rng(0)
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    checks = 255.0 * ((across // 32 + down // 32) % 2)
    grey = [np.full((height, width), value) for value in (0.0, 128.0, 255.0)]
    shapes = [*grey, across, down, 255 - across, checks]
    pictures = [np.repeat(shape[:, :, None], channels, axis=2) for shape in shapes]
    pictures.append(rng.integers(0, 256, (height, width, channels)))
    for side in (2, 3, 5, 8):
        small = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        large = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
        pictures.append(np.asarray(large)[:, :, :channels])
    return np.stack(pictures).astype(np.uint8)


def _sizes(n: int) -> Iterator[int]:
    for size in BATCHES:
        yield size
        n -= size
    while n > 0:
        yield min(n, BATCHES[-1])
        n -= BATCHES[-1]

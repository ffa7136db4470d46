"""What an exported file says of itself: how pictures are prepared, and what model it is."""

import json
from datetime import UTC, datetime

from torch import nn

import tupelo
from tupelo.data.decode import Frame
from tupelo.trained import architecture_of, identity

FORMAT = 1
LICENCE = (
    "Tupelo claims nothing on weights: those of published backbones keep their licence, and "
    "pictures used for training may bind them too. Whoever passes the file on has to see to it."
)
_FLATTENED = (
    "of an animation take the first picture",
    "turn it upright as its EXIF orientation says",
    "scale deeper grey to 8 bits (16 bits: divide by 257 and round)",
    "lay transparent pixels over white",
)
_RESIZED = {
    "crop": (
        "scale = min(w / W, h / H); cut the box of W * scale x H * scale pixels from the middle "
        "(left = (w - W * scale) / 2, top = (h - H * scale) / 2, not rounded; where scale is 1, "
        "rounded down; never beyond the picture) and resample it to W x H with Pillow's BICUBIC, "
        "in one step: picture.resize((W, H), BICUBIC, box)"
    ),
    "squash": "resample all of it to W x H with Pillow's BICUBIC: picture.resize((W, H), BICUBIC)",
    "pad": (
        "scale = min(W / w, H / h); resample it to round(w * scale) x round(h * scale), each at "
        "least 1, with Pillow's BICUBIC, and paste it on white W x H at ((W - w') // 2, "
        "(H - h') // 2)"
    ),
}


def steps(frame: Frame) -> list[str]:
    """How a picture of w x h pixels is made ready, in order, in words."""
    side = 2 * max(frame.width, frame.height)
    return [
        f"open it with Pillow; of a JPEG first halve large pictures while decoding: f = min(w, h) "
        f"/ {side}, and where f >= 2, picture.draft(None, (int(w / f), int(h / f)))",
        *_FLATTENED,
        f"convert it to mode {'L' if frame.channels == 1 else 'RGB'}",
        f"with W = {frame.width}, H = {frame.height}: {_RESIZED[frame.resize]}",
        f"give its bytes as uint8 (batch, {frame.height}, {frame.width}, {frame.channels}); "
        "scaling and normalisation are part of the network",
    ]


def describe(model: nn.Module, frame: Frame, *, half: bool) -> dict[str, str]:
    """The metadata of a file: texts by name, records as JSON."""
    architecture = architecture_of(model)
    return {
        "format": str(FORMAT),
        "written_by": f"tupelo {tupelo.__version__}",
        "written_on": datetime.now(UTC).date().isoformat(),
        "identity": identity(model, frame),
        "frame": json.dumps(frame._asdict()),
        "steps": json.dumps(steps(frame)),
        "preparation": "\n".join(
            f"{number}. {step}" for number, step in enumerate(steps(frame), start=1)
        ),
        "precision": "float16" if half else "float32",
        "architecture": json.dumps(architecture),
        "licence": LICENCE,
    }

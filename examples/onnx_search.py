"""The pictures of a folder most like one: onnx_search.py MODEL.onnx FOLDER QUERY.jpg

Needs onnxruntime, numpy and pillow, nothing else.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model = onnxruntime.InferenceSession(sys.argv[1])
frame = json.loads(model.get_modelmeta().custom_metadata_map["frame"])
size, mode = (frame["width"], frame["height"]), "L" if frame["channels"] == 1 else "RGB"

assert frame["resize"] == "crop", "docs/howto/export.md has the other ways to fit a picture"


def prepare(path):
    picture = Image.open(path)
    halving = min(picture.size) / (2 * max(size))
    if picture.format == "JPEG" and halving >= 2:
        picture.draft(None, (int(picture.width / halving), int(picture.height / halving)))
    picture = ImageOps.exif_transpose(picture).convert("RGBA")
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert(mode)
    scale = min(picture.width / size[0], picture.height / size[1])
    cut = [side - kept * scale for side, kept in zip(picture.size, size, strict=True)]
    left, top = (gap // 2 if scale == 1 else gap / 2 for gap in cut)
    box = (left, top, left + size[0] * scale, top + size[1] * scale)
    return np.reshape(picture.resize(size, Image.Resampling.BICUBIC, box), (*size[::-1], -1))


paths = [*sorted(Path(sys.argv[2]).iterdir()), Path(sys.argv[3])]
rows = np.concatenate([model.run(None, {"pictures": prepare(path)[None]})[0] for path in paths])
for place in np.argsort(-rows[:-1] @ rows[-1])[:5]:
    print(f"{rows[place] @ rows[-1]:.4f}  {paths[place]}")

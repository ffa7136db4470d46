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
size = np.array([frame["width"], frame["height"]])
mode = "L" if frame["channels"] == 1 else "RGB"
assert frame["resize"] == "crop", "docs/howto/export.md has the other ways to fit a picture"


def prepare(path):
    picture = Image.open(path)
    if picture.format == "JPEG" and (f := min(picture.size) / (2 * max(size))) >= 2:
        picture.draft(None, (int(picture.width / f), int(picture.height / f)))
    picture = ImageOps.exif_transpose(picture).convert("RGBA")
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert(mode)
    side = np.array(picture.size)
    kept = np.minimum(side, size * min(side / size))
    start = (side - kept) // 2 if (kept == size).all() else (side - kept) / 2
    box = (*start, *np.minimum(side, start + kept))
    return np.reshape(picture.resize(tuple(size), Image.Resampling.BICUBIC, box), (*size[::-1], -1))


paths = [*sorted(Path(sys.argv[2]).iterdir()), Path(sys.argv[3])]
rows = np.concatenate([model.run(None, {"pictures": prepare(path)[None]})[0] for path in paths])
for place in np.argsort(-rows[:-1] @ rows[-1])[:5]:
    print(f"{rows[place] @ rows[-1]:.4f}  {paths[place]}")

"""Real pictures that come with scikit-learn: 1,797 handwritten digits, for the demonstration.

Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998 (its test part).
"""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

TRAINED = (0, 1, 2, 3, 4)
SIDE = 32  # pixels; the originals have 8
OPTIONS = {"validation": 0, "epochs": 15}


def write(folder: Path) -> Path:
    """Write the digits as `train/` and `test/` folders of one PNG each, five digits in either.

    Nothing is downloaded. A folder that is complete is left as it is.
    """
    if folder.is_dir():
        return folder
    pictures, labels = load_digits(return_X_y=True)
    unfinished = folder.with_name(f"{folder.name}.writing")
    shutil.rmtree(unfinished, ignore_errors=True)
    for number, (pixels, digit) in enumerate(zip(pictures, labels, strict=True)):
        part = unfinished / ("train" if digit in TRAINED else "test") / str(digit)
        part.mkdir(parents=True, exist_ok=True)
        grey = Image.fromarray(np.round(pixels.reshape(8, 8) * (255 / 16)).astype(np.uint8))
        grey.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(part / f"{number:04d}.png")
    unfinished.rename(folder)
    return folder

"""The example prepares pictures bit for bit as the package does, and needs nothing of it."""

import ast
import re
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from tupelo import export
from tupelo.data.decode import Frame, decode

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "onnx_search.py"
ALLOWED = "onnxruntime numpy pillow"
BLOCKED = ("tupelo", "torch", "torchvision", "timm", "onnx", "onnxscript", "scipy", "sklearn")
FRAMES = [Frame(20, 28, 3), Frame(24, 24, 1), Frame(33, 17, 3), Frame(32, 32, 3), Frame(5, 7, 1)]


def lines_of_code() -> list[str]:
    """Without the first docstring, imports and blank lines."""
    tree = ast.parse(EXAMPLE.read_text(encoding="utf-8"))
    body = [each for each in tree.body[1:] if not isinstance(each, (ast.Import, ast.ImportFrom))]
    source = EXAMPLE.read_text(encoding="utf-8").splitlines()
    return [
        line for each in body for line in source[each.lineno - 1 : each.end_lineno] if line.strip()
    ]


def prepare(path: Path, frame: Frame) -> np.ndarray:
    """As the example does it."""
    tree = ast.parse(EXAMPLE.read_text(encoding="utf-8"))
    (function,) = [each for each in tree.body if isinstance(each, ast.FunctionDef)]
    names = {
        "np": np,
        "Image": Image,
        "ImageOps": ImageOps,
        "size": np.array([frame.width, frame.height]),
        "mode": "L" if frame.channels == 1 else "RGB",
    }
    exec(compile(ast.Module([function], []), str(EXAMPLE), "exec"), names)
    return names["prepare"](path)


def test_it_has_twenty_lines():
    assert len(lines_of_code()) <= 20


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    """JPEG and PNG, colour, grey, palette and transparent, many shapes, turned and very large."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    shapes = [(28, 20), (40, 31), (31, 40), (29, 21), (28, 33), (64, 33), (7, 5), (3, 300), (1, 1)]
    shapes += [(rng.integers(1, 90), rng.integers(1, 90)) for _ in range(12)]
    shapes += [(500, 375), (640, 960), (1234, 777)]
    for number, (width, height) in enumerate(shapes):
        small = Image.fromarray(rng.integers(0, 256, (9, 8, 4), dtype=np.uint8))
        picture = small.resize((int(width), int(height)), Image.Resampling.BICUBIC)
        turned = Image.Exif()
        turned[0x0112] = 1 + number % 8
        name = folder / f"{number:02}"
        picture.convert("RGB").save(f"{name}-colour.jpg", quality=90, exif=turned)
        picture.convert("L").save(f"{name}-grey.jpg")
        picture.convert("RGB").save(f"{name}-colour.png", exif=turned)
        picture.convert("L").save(f"{name}-grey.png")
        picture.save(f"{name}-transparent.png")
        picture.convert("LA").save(f"{name}-transparent-l.png")
        picture.convert("RGB").quantize(16).save(f"{name}-palette.png")
        picture.convert("CMYK").save(f"{name}-print.jpg")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("frame", FRAMES, ids=lambda f: f"{f.height}x{f.width}x{f.channels}")
def test_pixels_are_equal_bit_for_bit(pictures, frame):
    assert len(pictures) == 8 * 24
    for path in pictures:
        expected = decode(path.read_bytes(), frame).transpose(1, 2, 0)
        np.testing.assert_array_equal(prepare(path, frame), expected, err_msg=path.name)


@pytest.mark.parametrize("resize", ["squash", "pad"])
@pytest.mark.parametrize("frame", FRAMES, ids=lambda f: f"{f.height}x{f.width}x{f.channels}")
def test_the_other_ways_to_fit_are_those_of_the_page(pictures, frame, resize):
    page = (ROOT / "docs/howto/export.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(def squash.*?)```", page, re.DOTALL)
    names = {"Image": Image}
    exec(code, names)
    mode = "L" if frame.channels == 1 else "RGB"
    for path in pictures:
        if path.name.endswith(("colour.png", "grey.png")):
            with Image.open(path) as opened:
                upright = ImageOps.exif_transpose(opened).convert(mode)
            fitted = names[resize](upright, frame.width, frame.height)
            expected = decode(path.read_bytes(), frame._replace(resize=resize))
            found = np.reshape(fitted, (*frame[:2], -1)).transpose(2, 0, 1)
            np.testing.assert_array_equal(found, expected, err_msg=path.name)


@pytest.fixture(scope="module")
def exported(colour, pictures, tmp_path_factory) -> tuple[Path, str]:
    """A file, and what the example is to print for the last of the pictures."""
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    export.onnx(colour, path)
    pixels = colour.prepare(pictures).batch(range(len(pictures))).images
    with torch.inference_mode():
        z = colour.model(pixels).z
    similarity = z @ z[-1]
    places = similarity.argsort(descending=True)[:5].tolist()
    return path, "".join(f"{similarity[place]:.4f}  {pictures[place]}\n" for place in places)


def same(printed: str, expected: str) -> None:
    """The same pictures with the same similarities, but for their last digit and for ties."""
    found, wanted = (
        [line.split("  ") for line in text.splitlines()] for text in (printed, expected)
    )
    assert len(found) == len(wanted) == 5
    for (one, _), (other, _) in zip(found, wanted, strict=True):
        assert abs(float(one) - float(other)) <= 2e-4
    assert {name for _, name in found} == {name for _, name in wanted}


def test_it_runs_where_this_package_cannot_be_imported(exported, pictures):
    model, expected = exported
    blocker = (
        "import sys, runpy\n"
        f"for name in {BLOCKED!r}: sys.modules[name] = None\n"
        "program, *sys.argv[1:] = sys.argv[1:]\n"
        "runpy.run_path(program, run_name='__main__')\n"
        f"assert not [n for n in {BLOCKED!r} if sys.modules.get(n)]\n"
    )
    command = [
        sys.executable,
        "-I",
        "-c",
        blocker,
        EXAMPLE,
        model,
        pictures[0].parent,
        pictures[-1],
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    same(result.stdout, expected)


@pytest.mark.slow
def test_it_runs_in_a_clean_environment(exported, pictures, tmp_path):
    model, expected = exported
    venv.create(tmp_path / "clean", with_pip=True)
    python = tmp_path / "clean" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", *ALLOWED.split()]
    subprocess.run(install, check=True, capture_output=True)
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], check=True, capture_output=True, text=True
    )
    assert not re.search(r"^(tupelo|torch|timm)", listed.stdout, re.MULTILINE)
    command = [python, EXAMPLE, model, pictures[0].parent, pictures[-1]]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    same(result.stdout, expected)

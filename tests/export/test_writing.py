import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

import tupelo
from tupelo import export, models
from tupelo.data import ImageSet
from tupelo.data.decode import Frame
from tupelo.errors import InputError, MissingExtra
from tupelo.export import agreement, writing
from tupelo.types import Embedded


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def full(colour, folder) -> export.Exported:
    return export.onnx(colour, folder / "model.onnx")


@pytest.fixture(scope="module")
def halved(grey, folder) -> export.Exported:
    return export.onnx(grey, folder / "new" / "folder" / "half.onnx", half=True)


def answers(path: Path, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"pictures": pixels})[0]


def test_the_file_answers_as_the_model(full, colour):
    """Independent of the check that the export makes itself."""
    rng = np.random.default_rng(1)
    for n in (1, 2, 5, 33):
        pixels = rng.integers(0, 256, (n, 20, 28, 3), dtype=np.uint8)
        expected = tupelo.embed(
            colour.model, ImageSet.from_arrays(pixels, range(n)), precision="32-true"
        )
        rows = answers(full.path, pixels)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, expected.z.numpy(), atol=1e-5)
    assert np.std(rows, axis=0).max() > 0.01  # rows of one point would agree whatever it was


def test_half_precision_is_close_and_half_the_size(halved, grey, tmp_path):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (5, 24, 24, 1), dtype=np.uint8)
    rows = answers(halved.path, pixels)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    with torch.inference_mode():
        expected = grey.model(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255).z.numpy()
    assert 1e-6 < np.abs(rows - expected).max() < 5e-3
    weights = sum(parameter.numel() for parameter in grey.model.parameters())
    assert halved.size < 2.2 * weights
    kinds = {one.data_type for one in onnx.load(halved.path).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds


def test_the_record_says_what_was_done(full, halved, colour):
    assert full.size == full.path.stat().st_size
    assert full.shapes == ("(batch, 20, 28, 3)", "(batch, 16)")
    assert full.agreement.good
    assert (full.agreement.n_pictures, full.agreement.batches) == (12, (1, 3, 8))
    assert full.agreement.largest_difference < full.agreement.tolerance == 1e-4
    assert full.agreement.lowest_cosine > 0.99999
    assert halved.agreement.tolerance == 1e-2
    assert "(1e-04 is allowed), lowest cosine" in str(full.agreement)
    assert 0 < full.seconds < 60
    assert full.metadata["identity"] == colour.identity


def test_the_file_says_what_it_is(full, halved, colour):
    session = onnxruntime.InferenceSession(full.path, providers=["CPUExecutionProvider"])
    (sent,), (got,) = session.get_inputs(), session.get_outputs()
    assert (sent.name, sent.type, sent.shape) == ("pictures", "tensor(uint8)", ["batch", 20, 28, 3])
    assert (got.name, got.type, got.shape) == ("embedding", "tensor(float)", ["batch", 16])
    said = session.get_modelmeta().custom_metadata_map
    assert said == full.metadata
    assert Frame(**json.loads(said["frame"])) == colour.frame
    architecture = json.loads(said["architecture"])
    assert (architecture["backbone"], architecture["dim"]) == ("convnet", 16)
    assert said["written_by"] == f"tupelo {tupelo.__version__}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", said["written_on"])
    assert (said["format"], said["precision"]) == ("1", "float32")
    assert said["checked"] == f"with onnxruntime: {full.agreement}"
    assert halved.metadata["precision"] == "float16"
    onnx.checker.check_model(onnx.load(full.path), full_check=True)


def test_it_is_one_file_that_tells_nothing_of_this_machine(full):
    assert sorted(path.name for path in full.path.parent.iterdir()) in (
        ["model.onnx"],
        ["model.onnx", "new"],
    )
    content = full.path.read_bytes()
    for trace in (b"stack_trace", b".py", b"site-packages", os.fsencode(Path.home()), b"namespace"):
        assert trace not in content, trace


def test_the_model_is_as_it_was(colour, tmp_path):
    model = colour.model
    before, identity = {m: m.training for m in model.modules()}, colour.identity
    model.train()
    try:
        export.onnx(model, tmp_path / "a.onnx", frame=colour.frame, half=True)
        assert all(module.training for module in model.modules())
    finally:
        model.eval()
    assert {m: m.training for m in model.modules()} == before
    assert colour.identity == identity
    assert next(model.parameters()).dtype == torch.float32


def test_frozen_batch_normalisation_and_given_pictures(make, tmp_path):
    one = make("convnet", Frame(16, 16, 3, "squash"), freeze_batchnorm=True)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    report = export.onnx(one, tmp_path / "a.onnx", opset=20, pictures=list(pixels))
    assert report.agreement.n_pictures == 12  # few are repeated, that every batch is sent
    (imported,) = onnx.load(report.path).opset_import
    assert imported.version == 20
    given = ImageSet.from_arrays(pixels[:, :16, :16], [0, 1, 2])
    given.resize = "squash"
    taken = writing._pixels(given, one.frame)
    np.testing.assert_array_equal(taken[3:6], pixels[:, :16, :16])


class Learners(nn.Module):
    """Two embedders whose rows are joined, as of an ensemble."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(48, 3), nn.Linear(48, 5)

    def forward(self, images):
        flat = images.flatten(1)
        return Embedded.of(self.one(flat)), Embedded.of(self.two(flat))


@pytest.mark.parametrize("half", [False, True])
def test_learners_are_joined_as_embed_joins_them(tmp_path, half):
    model, frame = Learners(), Frame(4, 4, 3)
    report = export.onnx(model, tmp_path / "a.onnx", frame=frame, half=half)
    assert report.shapes[1] == "(batch, 8)"
    assert report.metadata["architecture"] == "null"
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 4, 3), dtype=np.uint8)
    expected = tupelo.embed(model, ImageSet.from_arrays(pixels, range(4)), precision="32-true").z
    atol = 5e-3 if half else 1e-5
    np.testing.assert_allclose(answers(report.path, pixels), expected.numpy(), atol=atol)


class Plain(nn.Module):
    def forward(self, images):
        return images.flatten(1)


class Undecided(nn.Module):
    """Takes another way for some pictures, which no graph of tensors can."""

    def forward(self, images):
        flat = images.flatten(1)
        return Embedded.of(flat if images.mean() > 0.5 else -flat)


def test_models_that_cannot_be_exported(tmp_path):
    frame, path = Frame(4, 4, 3), tmp_path / "a.onnx"
    with pytest.raises(InputError, match=r"must return Embedded, or one per learner; got Tensor"):
        export.onnx(Plain(), path, frame=frame)
    with pytest.raises(InputError, match="this model cannot be translated to ONNX: "):
        export.onnx(Undecided(), path, frame=frame)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def translated(full, monkeypatch):
    """Translating takes seconds: where something else is asked, the program that is there does."""
    monkeypatch.setattr(writing, "_translated", lambda *_: onnx.load(full.path))


@pytest.mark.usefixtures("translated")
def test_disagreement_leaves_no_file(colour, tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"what was there")
    compare = agreement.compare

    def otherwise(file, pixels, expected, *, half):
        return compare(file, pixels, np.roll(expected, 1, axis=0), half=half)

    monkeypatch.setattr(writing, "compare", otherwise)
    with pytest.raises(InputError, match=r"does not answer as torch does: rows of 12 .* differ"):
        export.onnx(colour, path)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"what was there"]


def test_overflow_of_half_precision_is_told(make, tmp_path):
    one = make("convnet", Frame(16, 16, 3))
    with torch.no_grad():
        one.model.backbone.blocks[-1][0].weight.mul_(1e7)
    with pytest.raises(InputError, match="leave the range of half precision"):
        export.onnx(one, tmp_path / "a.onnx", half=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("translated")
def test_a_failed_write_leaves_nothing(colour, tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        export.onnx(colour, tmp_path / "a.onnx", check=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["model.bin", "model", "folder.onnx"])
def test_a_path_that_cannot_be(colour, tmp_path, name):
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(InputError, match=r"path must be a file that ends in \.onnx, got"):
        export.onnx(colour, tmp_path / name)


def test_the_frame_is_asked_for_and_checked(colour, tmp_path):
    path, model = tmp_path / "a.onnx", colour.model
    with pytest.raises(InputError, match=r"frame must be given for a model that tupelo\.load did"):
        export.onnx(model, path)
    with pytest.raises(InputError, match="frame is that of the trained model, Frame"):
        export.onnx(colour, path, frame=Frame(9, 9, 3))
    for wrong in (Frame(9, 9, 2), Frame(0, 9, 3)):
        with pytest.raises(InputError, match="1 or 3 channels and sides of at least 1, got Frame"):
            export.onnx(model, path, frame=wrong)
    with pytest.raises(InputError, match=r"frame must have the 3 channel\(s\) of the model, got"):
        export.onnx(model, path, frame=Frame(9, 9, 1))
    others = ImageSet.from_arrays(np.zeros((2, 8, 8, 3), np.uint8), [0, 1])
    with pytest.raises(InputError, match=r"pictures must be read as Frame\(height=20"):
        export.onnx(colour, path, pictures=others)


@pytest.mark.parametrize("opset", [17, 999])
def test_an_opset_that_cannot_be(colour, tmp_path, opset):
    with pytest.raises(InputError, match=rf"opset must be 18 to \d+, got {opset}"):
        export.onnx(colour, tmp_path / "a.onnx", opset=opset)


def test_a_model_beyond_two_gigabytes(tmp_path):
    with torch.device("meta"):
        model = models.embedder(nn.Conv2d(3, 1, 1), dim=300_000, features=2_000)
    with pytest.raises(InputError, match=r"take 2\.2 GiB; half=True \(--fp16\) halves them"):
        export.onnx(model, tmp_path / "a.onnx", frame=Frame(4, 4, 3))


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(colour, tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    path = tmp_path / "a.onnx"
    with pytest.raises(MissingExtra, match=rf"needs {missing}: pip install 'tupelo\[export\]'"):
        export.onnx(colour, path)
    if missing == "onnxruntime":
        with pytest.raises(MissingExtra, match=r"check=False \(--no-check\) writes it unchecked"):
            export.onnx(colour, path)
        unchecked = export.onnx(colour, path, check=False)
        assert unchecked.agreement is None
        said = {each.key: each.value for each in onnx.load(path).metadata_props}
        assert said["checked"] == unchecked.metadata["checked"] == "no"


CASES = [
    ("convnet", Frame(64, 64, 3), {"size": 64}),
    ("resnet18", Frame(64, 48, 3), {"layer_norm": True, "dropout": 0.2}),
    ("mobilenetv3_small_100", Frame(96, 96, 1), {"steps": 40}),  # its random weights tell nothing
    ("vit_tiny_patch16_224", Frame(64, 64, 3), {"size": 64}),
]


@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize(("name", "frame", "options"), CASES, ids=[case[0] for case in CASES])
def test_backbones_agree(make, tmp_path, record_property, name, frame, options, half):
    one = make(name, frame, **options)
    noise = np.random.default_rng(2).integers(0, 256, (20, 9, 7, 3), dtype=np.uint8)
    pictures = [Image.fromarray(each).resize((90, 70)) for each in noise]
    report = export.onnx(one, tmp_path / "a.onnx", half=half, pictures=pictures)
    record_property("agreement", str(report.agreement))
    assert report.agreement.n_pictures == 20
    rows = answers(report.path, one.prepare(pictures).pixels(range(20)).permute(0, 2, 3, 1).numpy())
    assert rows.std(axis=0).max() > 0.05

import io
import json
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import tupelo
from tupelo import inference, models, trained
from tupelo.data import ImageSet, images
from tupelo.data.decode import Frame
from tupelo.errors import CheckpointError, DataError, InputError

FRAME = Frame(20, 28, 3, "crop")


def noise(seed: int, width: int, height: int, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (5, 7, len(mode)), dtype=np.uint8).squeeze()
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A folder as `fit` leaves it."""
    torch.manual_seed(0)
    model = models.embedder("convnet", dim=8, size=28)
    model(torch.rand(16, 3, 20, 28))  # moves the statistics of batch normalisation
    out = tmp_path_factory.mktemp("runs") / "photos"
    models.save(model.eval(), out / "model", about={"pictures": FRAME._asdict()})
    return out


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Pictures of every kind that is easily prepared in two ways: two classes of four."""
    root = tmp_path_factory.mktemp("files")
    one, two = root / "a", root / "b"
    one.mkdir()
    two.mkdir()
    noise(0, 40, 31).save(one / "0.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    noise(1, 60, 35).save(one / "1.jpg", exif=turned)
    noise(2, 33, 50, "RGBA").save(one / "2.png")
    noise(3, 300, 200).save(one / "3.jpg")  # large enough to be halved while it is decoded
    deep = (np.asarray(noise(4, 30, 30, "L")).astype(np.uint16)) * 257
    Image.fromarray(deep).save(two / "0.png")
    noise(5, 28, 20, "L").save(two / "1.png")
    noise(6, 64, 20).convert("P").save(two / "2.gif")
    noise(7, 50, 50).convert("CMYK").save(two / "3.jpg")
    return root


@pytest.fixture(scope="module")
def loaded(run) -> trained.Trained:
    return tupelo.load(run)


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
@pytest.mark.parametrize("channels", [1, 3])
def test_files_are_prepared_as_those_of_a_data_set(tmp_path, files, resize, channels):
    model = models.embedder("convnet", dim=8, channels=channels)
    frame = Frame(20, 28, channels, resize)
    about = {"pictures": frame._asdict()}
    one = tupelo.load(models.save(model, tmp_path, about=about))
    data = images(files, split="none", size=(20, 28), channels=channels, resize=resize).train
    paths = [files / name for name in data.paths]
    assert len(paths) == 8
    prepared = one.prepare(paths)
    rows = np.arange(8)
    assert torch.equal(prepared.batch(rows).images, data.batch(rows).images)
    assert torch.equal(
        one.embed(paths, batch_size=8), tupelo.embed(one.model, data, batch_size=8).z
    )
    assert torch.equal(one.embed(data), one.embed(paths))


def test_names_contents_opened_pictures_and_pixels_agree(loaded, files):
    path = files / "a" / "0.png"
    with Image.open(path) as opened:
        kinds = [path, str(path), path.read_bytes(), opened, np.asarray(opened), opened]
        z = loaded.embed(kinds)
    assert (z == z[0]).all()
    assert torch.allclose(loaded.embed(path)[0], z[0], atol=1e-5)
    assert loaded.embed(np.asarray(noise(5, 28, 20, "L"))).shape == (1, 8)


def test_rows_are_unit_in_order_and_outside_inference_mode(loaded, files):
    paths = sorted(files.glob("*/*"))
    seen = []
    z = loaded.embed(paths, batch_size=3, progress=lambda done, n: seen.append((done, n)))
    assert seen == [(3, 8), (6, 8), (8, 8)]
    assert not z.is_inference()
    torch.testing.assert_close(z.norm(dim=1), torch.ones(8))
    for path, row in zip(paths, z, strict=True):
        torch.testing.assert_close(loaded.embed(path)[0], row, atol=1e-3, rtol=0)
    assert z.std(dim=0).max() > 1e-3


def test_a_long_list_is_decoded_batch_by_batch(loaded, monkeypatch):
    n, at_once, most, embedded = 400, 8, 0, 0
    decoded: list[int] = []
    content = io.BytesIO()
    noise(0, 30, 30).save(content, "PNG")

    def counting(data, frame):
        decoded.append(1)
        return np.zeros((3, 20, 28), np.uint8)

    def progress(done, _):
        nonlocal most, embedded
        most, embedded = max(most, len(decoded) - embedded), done

    monkeypatch.setattr(trained, "decode", counting)
    loaded.embed([content.getvalue()] * n, batch_size=at_once, progress=progress)
    assert len(decoded) == n
    # the batch in work, the one being read, and at most one more between two counts
    assert most <= 3 * at_once


def test_threads_may_share_it(loaded, files):
    paths = sorted(files.glob("*/*"))
    expected = [loaded.embed(path) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(loaded.embed, paths * 6))
    for number, rows in enumerate(found):
        assert torch.equal(rows, expected[number % len(paths)])
    assert not any(module.training for module in loaded.model.modules())


def test_identity_tells_weights_architecture_and_frame(loaded, run):
    assert re.fullmatch("[0-9a-f]{64}", loaded.identity)
    assert tupelo.load(run).identity == loaded.identity
    other = trained.Trained(loaded.model, FRAME._replace(resize="pad"), run)
    assert other.identity != loaded.identity
    changed = tupelo.load(run)
    with torch.no_grad():
        changed.model.head[-1].bias[0] += 1e-6
    assert changed.identity != loaded.identity
    counted = tupelo.load(run)  # an integer of no dimension is part of it too
    dict(counted.model.named_buffers())["backbone.blocks.0.1.num_batches_tracked"] += 1
    assert counted.identity != loaded.identity


def test_nothing_in_the_folder_can_run_code(run, files, tmp_path, monkeypatch):
    folder = tmp_path / "trap"
    tupelo_model = folder / "model"
    tupelo_model.mkdir(parents=True)
    for name in ("model.safetensors", "model.json"):
        (tupelo_model / name).write_bytes((run / "model" / name).read_bytes())

    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "exploded",)

    for place in (folder, tupelo_model, folder / "checkpoint"):
        place.mkdir(exist_ok=True)
        for name in ("model.pt", "model.pth", "pytorch_model.bin", "model.pkl", "last.ckpt"):
            (place / name).write_bytes(pickle.dumps(Bomb()))

    def refuse(*_, **__):
        raise AssertionError("pickle was asked to read")

    for module, name in [
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (torch, "load"),
    ]:
        monkeypatch.setattr(module, name, refuse)
    assert tupelo.load(folder).embed(files / "a" / "0.png").shape == (1, 8)
    assert not (tmp_path / "exploded").exists()


def test_the_folder_of_the_model_alone_will_do(run, loaded):
    assert tupelo.load(run / "model").identity == loaded.identity
    assert tupelo.load(str(run)).frame == FRAME


def test_a_model_saved_without_a_frame_uses_its_size(tmp_path):
    models.save(models.embedder("convnet", dim=4, size=32, channels=1), tmp_path)
    assert tupelo.load(tmp_path).frame == Frame(32, 32, 1, "crop")


def test_a_module_of_the_user(tmp_path, files):
    def backbone() -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten())

    model = models.embedder(backbone(), dim=4, features=48).eval()
    models.save(model, tmp_path, about={"pictures": FRAME._asdict()})
    again = tupelo.load(tmp_path, backbone=backbone())
    assert again.embed(files / "a" / "0.png").shape == (1, 4)
    with pytest.raises(InputError, match="backbone= must be given"):
        tupelo.load(tmp_path)


@pytest.mark.gpu
def test_another_device_gives_the_same_rows(run, files, loaded):
    paths = sorted(files.glob("*/*"))
    there = tupelo.load(run, device="cuda")
    assert there.identity == loaded.identity
    z = there.embed(paths)
    assert z.device.type == "cpu"
    assert (z * loaded.embed(paths)).sum(dim=1).min() > 0.999


@pytest.mark.parametrize("device", ["meta", "nonsense", "cuda:99", torch.device("meta")])
def test_a_device_that_is_not_there_is_refused(run, device):
    with pytest.raises(InputError, match=f"device must be one that computes .* got '{device}': "):
        tupelo.load(run, device=device)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(CheckpointError, match="holds no run; give the folder that tupelo train"):
        tupelo.load(tmp_path / "nowhere")
    (tmp_path / "recipe.yaml").touch()
    with pytest.raises(CheckpointError, match="has not finished; repeat its tupelo train command"):
        tupelo.load(tmp_path)


def test_a_damaged_model(run, tmp_path):
    content = (run / "model" / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        tupelo.load(tmp_path)


def test_a_model_that_does_not_say_how_pictures_are_prepared(tmp_path):
    models.save(models.embedder("convnet", dim=4), tmp_path)
    with pytest.raises(CheckpointError, match="does not say how pictures are prepared"):
        tupelo.load(tmp_path)


@pytest.mark.parametrize(
    "stated",
    [
        {"height": 8, "width": 8, "channels": 1},
        {"height": 8, "width": 0, "channels": 3},
        {"height": "8", "width": 8, "channels": 3},
        {"height": 8, "width": 8, "channels": 3, "resize": "stretch"},
        {"height": 8, "width": 8, "channels": 3, "colour": "BGR"},
        [8, 8, 3],
    ],
    ids=json.dumps,
)
def test_a_frame_that_the_model_cannot_use(tmp_path, stated):
    models.save(models.embedder("convnet", dim=4), tmp_path, about={"pictures": stated})
    with pytest.raises(CheckpointError, match=r"which no model of 3 channel\(s\) can use"):
        tupelo.load(tmp_path)


def test_pictures_that_cannot_be_used_are_named(loaded, files, tmp_path):
    good = files / "a" / "0.png"
    (tmp_path / "text.jpg").write_text("not a picture")
    cut = tmp_path / "cut.png"
    cut.write_bytes(good.read_bytes()[:300])
    for bad, reason in [
        (tmp_path / "gone.jpg", "file not found"),
        (tmp_path, "unreadable: Is a directory"),
        (tmp_path / "text.jpg", "not an image"),
        (cut, "damaged: "),
    ]:
        with pytest.raises(DataError, match=re.escape(f"{bad} cannot be used: {reason}")):
            loaded.embed([good, bad])
    with pytest.raises(DataError, match="picture 1 cannot be used: empty file"):
        loaded.embed([good, b""])
    with (
        Image.open(cut) as opened,
        pytest.raises(DataError, match="picture 0 cannot be used: damaged"),
    ):
        loaded.embed(opened)


def test_arguments_of_the_wrong_kind(loaded):
    with pytest.raises(InputError, match="pictures must hold at least one, got 0"):
        loaded.embed([])
    for pixels in (np.zeros((4, 4)), np.zeros((2, 4, 4, 3), np.uint8), np.zeros((0, 4), np.uint8)):
        with pytest.raises(InputError, match=r"pixels must be uint8 \(h, w\) or \(h, w, 3\), got"):
            loaded.embed(pixels)
    others = ImageSet.from_arrays(np.zeros((2, 8, 8, 3), np.uint8), [0, 1])
    with pytest.raises(InputError, match=r"must be read as the model's were, .*got Frame\("):
        loaded.embed(others)


def test_an_object_of_an_unknown_kind(loaded, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as where nobody tests
    with pytest.raises(InputError, match=r"a picture must be a path, bytes, .* got int"):
        loaded.embed([b"", 3])


def test_inference_takes_prepared_pictures_too(loaded, files):
    embedded = inference.embed(loaded.model, loaded.prepare([files / "a" / "0.png", b"x"][:1]))
    assert embedded.paths == (str(files / "a" / "0.png"),)
    assert embedded.items.tolist() == [0]

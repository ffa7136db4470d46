"""Features of faces from pictures: mirrored, cropped, from folders and zips."""

import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from tupelo import models
from tupelo.data.decode import Frame
from tupelo.errors import DataError
from tupelo.recipes.face_features import faces_from_file, faces_from_pictures, open_pictures
from tupelo.trained import load


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    torch.manual_seed(0)
    model = models.embedder("convnet", dim=8, size=16)
    folder = tmp_path_factory.mktemp("model")
    return load(models.save(model, folder, about={"pictures": Frame(16, 16, 3)._asdict()}))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for person in ("Ann", "Bob"):
        (folder / "db" / person).mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "db" / person / f"{number}.png")
    (folder / "readme.txt").write_text("no picture")
    return folder


def test_rows_are_those_of_the_model(trained, pictures):
    faces = faces_from_pictures(trained, pictures, flip=False)
    assert len(faces.names) == 6
    rows = faces.rows(np.array([4, 0]), None)
    paths = [pictures / faces.names[place] for place in (4, 0)]
    assert rows == pytest.approx(trained.embed(paths).numpy(), abs=1e-6)
    assert faces.told == {"run": str(trained.folder), "pictures": str(pictures), "flip": False}


def test_mirror_images_are_joined(trained, pictures):
    seen = []
    faces = faces_from_pictures(trained, pictures, progress=lambda *each: seen.append(each))
    rows = faces.rows(np.arange(6), None)
    pixels = [np.asarray(Image.open(pictures / name)) for name in faces.names]
    both = [
        trained.embed(each).numpy()
        for each in (pixels, [np.ascontiguousarray(one[:, ::-1]) for one in pixels])
    ]
    assert rows == pytest.approx(np.concatenate(both, axis=1) / np.sqrt(2), abs=1e-6)
    assert seen[-1] == (6, 6)
    again = np.array([Image.open(pictures / name).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                      for name in faces.names])  # fmt: skip
    assert trained.embed(list(again)).numpy() == pytest.approx(both[1], abs=1e-6)


def test_boxes_cut_pictures(trained, pictures):
    faces = faces_from_pictures(trained, pictures, flip=False)
    rows = faces.rows(np.zeros(3, int), [(0.0, 0.0, 8.0, 8.0), None, (0.0, 0.0, 16.0, 16.0)])
    cut = np.asarray(Image.open(pictures / faces.names[0]))[:8, :8]
    alone = trained.embed(np.ascontiguousarray(cut)).numpy()[0]
    assert rows[0] == pytest.approx(alone, abs=0.05)  # enlarged with what lies beyond its edge
    assert not np.allclose(rows[0], rows[1], atol=0.05)
    assert rows[1] == pytest.approx(rows[2], abs=1e-6)


def test_a_zip_alone_in_a_folder_is_opened(trained, pictures, tmp_path):
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for path in sorted(pictures.rglob("*.png")):
            archive.write(path, path.relative_to(pictures / "db"))
    (tmp_path / "pairs.txt").write_text("1 1\n")
    one, other = (faces_from_pictures(trained, place, flip=False) for place in (tmp_path, pictures))
    assert one.names == [name.removeprefix("db/") for name in other.names]
    assert np.array_equal(*(each.rows(np.arange(6), None) for each in (one, other)))
    assert open_pictures(tmp_path / "faces.zip")[1] == one.names


def test_refusals(trained, tmp_path):
    with pytest.raises(DataError, match=r"holds no pictures; give the folder or zip that does"):
        open_pictures(tmp_path)
    with pytest.raises(DataError, match=r"pictures must be a folder or a .zip, .* is neither"):
        open_pictures(tmp_path / "none")
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    faces = faces_from_pictures(trained, tmp_path)
    with pytest.raises(DataError, match=r"cut.png cannot be used: .*the protocol needs it, so put"):
        faces.rows(np.array([0]), None)


def test_files_of_features(tmp_path):
    np.savez(tmp_path / "f.npz", z=np.eye(3), paths=np.array(["a", "b", "c"]))
    faces = faces_from_file(tmp_path / "f.npz")
    assert faces.names == ("a", "b", "c")
    assert faces.rows(np.array([2, 0]), None).tolist() == [[0, 0, 1], [1, 0, 0]]

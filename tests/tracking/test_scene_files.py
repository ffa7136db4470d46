import configparser

import numpy as np
import pytest
from PIL import Image

from tupelo.errors import InputError
from tupelo.tracking.scene_files import write_scene
from tupelo.tracking.scenes import Scene, render


@pytest.fixture(scope="module")
def rendered():
    crops = [[np.full((20, 10, 3), 60 * n + 20, np.uint8)] for n in range(3)]
    return render(crops, Scene(width=96, height=64, walkers=3, frames=4, false_positives=1.0))


def test_the_folder_holds_pictures_detections_truth_and_what_they_are(tmp_path, rendered):
    told = []
    folder = write_scene(
        rendered, tmp_path / "made" / "FACES-01", progress=lambda *now: told.append(now)
    )
    names = sorted(path.name for path in (folder / "img1").iterdir())
    assert names == [f"{n:06d}.jpg" for n in range(1, 5)]
    picture = np.asarray(Image.open(folder / "img1" / "000003.jpg")).astype(int)
    assert np.abs(picture - rendered.frame(3)).mean() < 4
    info = configparser.ConfigParser()
    info.read(folder / "seqinfo.ini")
    assert dict(info["Sequence"]) == {
        "name": "FACES-01",
        "imdir": "img1",
        "framerate": "30",
        "seqlength": "4",
        "imwidth": "96",
        "imheight": "64",
        "imext": ".jpg",
    }
    found = np.loadtxt(folder / "det" / "det.txt", delimiter=",", ndmin=2)
    assert np.array_equal(found[:, 0], rendered.detection_frames)
    assert np.abs(found[:, 2:6] - [1, 1, 0, 0] - rendered.detections).max() < 0.006
    truth = np.loadtxt(folder / "gt" / "gt.txt", delimiter=",")
    assert truth.shape == (12, 9)
    assert np.array_equal(truth[:, 2:6] - [1, 1, 0, 0], rendered.boxes.reshape(-1, 4))
    assert np.array_equal(truth[:, 6:8], np.ones((12, 2)))
    assert told[-1] == (4, 4)


def test_a_folder_in_use_is_refused_and_a_failure_leaves_nothing(tmp_path, rendered):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="must be a new or empty folder"):
        write_scene(rendered, taken)
    assert (taken / "notes.txt").read_text() == "mine"

    def fail(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scene(rendered, tmp_path / "new", progress=fail)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    (tmp_path / "empty").mkdir()
    assert (write_scene(rendered, tmp_path / "empty") / "gt" / "gt.txt").is_file()

"""Pairs of videos in folds, and the frames of a video."""

import numpy as np
import pytest
from scipy.io import savemat

from tupelo.data.official import ytf
from tupelo.errors import DataError

SPLITS = """\
split number, first name, second name, is same
1, Ann_Ace/1, Ann_Ace/10, 1
1, Ann_Ace/1, Bob_Bee/0, 0
2, Cat_Cee/2, Cat_Cee/3, 1
2, Cat_Cee/2, Dan_Dee/0, 0
"""


def test_splits(tmp_path):
    path = tmp_path / "splits.txt"
    path.write_text(SPLITS)
    found = ytf.folds(path)
    assert found.names == (
        "Ann_Ace/1", "Ann_Ace/10", "Bob_Bee/0", "Cat_Cee/2", "Cat_Cee/3", "Dan_Dee/0",
    )  # fmt: skip
    assert found.pairs.tolist() == [[0, 1], [0, 2], [3, 4], [3, 5]]
    assert found.same.tolist() == [True, False, True, False]
    assert found.folds.tolist() == [1, 1, 2, 2]
    assert found.n_folds == 2


def test_the_mat_file_says_the_same(tmp_path):
    path = tmp_path / "splits.txt"
    path.write_text(SPLITS)
    names = ytf.folds(path).names
    cells = np.empty((len(names), 1), object)
    cells[:, 0] = [np.array([name]) for name in names]
    splits = np.zeros((2, 3, 2))
    splits[:, :, 0] = [[1, 2, 1], [1, 3, 0]]
    splits[:, :, 1] = [[4, 5, 1], [4, 6, 0]]
    savemat(tmp_path / "meta_and_splits.mat", {"video_names": cells, "Splits": splits})
    found, text = ytf.folds(tmp_path / "meta_and_splits.mat"), ytf.folds(path)
    assert (found.names, found.pairs.tolist()) == (text.names, text.pairs.tolist())
    assert found.folds.tolist() == text.folds.tolist()
    assert found.same.tolist() == text.same.tolist()
    (tmp_path / "cut.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(DataError, match=r"cut.mat is no meta_and_splits.mat of YouTube Faces"):
        ytf.folds(tmp_path / "cut.mat")
    with pytest.raises(DataError, match=r"none.mat is missing; unpack the archive"):
        ytf.folds(tmp_path / "none.mat")


def test_wrong_lists(tmp_path):
    path = tmp_path / "splits.txt"
    path.write_text(SPLITS.rpartition("2, Cat")[0])
    with pytest.raises(
        DataError, match="fold 2 must hold 1 pairs of the same person and 1 of diff"
    ):
        ytf.folds(path)
    path.write_text(SPLITS + "3, Ann_Ace, Bob_Bee, 1\n")
    with pytest.raises(DataError, match="line 6 must be FOLD, PERSON/VIDEO, PERSON/VIDEO, 0 or 1"):
        ytf.folds(path)
    path.write_text("split number\n")
    with pytest.raises(DataError, match=r"splits.txt holds no pairs"):
        ytf.folds(path)


def test_frames_of_a_video():
    names = [f"db/Ann/{video}/x_0.{frame}.jpg" for video in (1, 2, 10) for frame in range(1, 13)]
    names.insert(0, "db/Ann/1.jpg")
    places, videos = ytf.frames(names, ["Ann/10", "Ann/1"], "here")
    assert videos.tolist() == [0] * 12 + [1] * 12
    assert [names[place] for place in places[:12]] == [
        f"db/Ann/10/x_0.{k}.jpg" for k in range(1, 13)
    ]
    few, _ = ytf.frames(names, ["Ann/1"], "here", most=5)
    assert [names[place].split(".")[1] for place in few] == ["1", "3", "5", "8", "10"]
    with pytest.raises(DataError, match="here lacks the frames of 1 of 2 videos, first Bob/1"):
        ytf.frames(names, ["Ann/1", "Bob/1"], "here")

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tupelo.errors import DataError, InputError
from tupelo.recipes.footage import Footage, ahead, of_folder, of_scene, of_video
from tupelo.tracking.scene_files import write_scene
from tupelo.tracking.scenes import Scene, render
from tupelo.tracking.video import VideoWriter


@pytest.fixture(scope="module")
def rendered():
    crops = [[np.full((20, 10, 3), 60 * n + 20, np.uint8)] for n in range(3)]
    return render(crops, Scene(width=96, height=64, walkers=3, frames=6, false_positives=1.0))


@pytest.fixture
def folder(rendered, tmp_path):
    return write_scene(rendered, tmp_path / "SCENE-01")


def test_a_folder_and_the_scene_it_was_made_of_are_the_same_footage(rendered, folder):
    read, made = of_folder(folder), of_scene(rendered)
    assert (read.name, read.length, read.frame_rate) == ("SCENE-01", 6, 30.0)
    of_read, of_made = read.frames_of_detections(), made.frames_of_detections()
    for number in range(8):
        (boxes, scores), (others, expected) = of_read(number), of_made(number)
        assert np.abs(boxes - others).max(initial=0) < 0.006
        assert np.abs(scores - expected).max(initial=0) < 1e-4
    for one, other in zip(read.pictures(), made.pictures(), strict=True):
        assert np.abs(one.astype(int) - other).mean() < 5
    assert np.array_equal(read.truth.boxes, made.truth.boxes)
    assert np.array_equal(read.truth.ids, made.truth.ids)


def test_the_truth_itself_scores_full_marks_and_frames_limit_it(rendered):
    footage = of_scene(rendered)
    scores = footage.scores(footage.truth).as_json()
    assert (scores["MOTA"], scores["IDF1"], scores["HOTA"]) == (1, 1, 1)
    first = footage.truth.take(footage.truth.frames <= 2)
    assert footage.scores(first).as_json()["FN"] == 3 * 4
    assert footage.scores(first, frames=2).as_json()["FN"] == 0
    blind = Footage("x", 6, 30.0, footage.detections)
    with pytest.raises(InputError, match=r"x has no truth \(gt/gt.txt\)"):
        blind.scores(first)


def test_what_excuses_a_result_follows_the_name_of_the_benchmark(rendered):
    footage = of_scene(rendered)
    classes = np.where(footage.truth.ids == 1, 6, 1)  # 6 is an excuse in MOT20 alone
    truth = replace(footage.truth, classes=classes)
    for name, false in (("MOT20-01", 0), ("MOT17-02", 6)):
        judged = replace(footage, name=name, truth=truth)
        result = replace(truth, classes=np.full(len(truth), -1))
        assert judged.scores(result).as_json()["FP"] == false


def test_a_folder_without_pictures_is_footage_without_pictures(folder):
    for path in (folder / "img1").iterdir():
        path.unlink()
    (folder / "img1").rmdir()
    assert of_folder(folder).pictures is None


def test_missing_damaged_and_other_pictures_are_named(folder):
    third = folder / "img1" / "000003.jpg"
    Image.new("RGB", (50, 40)).save(third)
    with pytest.raises(DataError, match=r"000003.jpg must have 96 x 64 pixels.*got 50 x 40"):
        list(of_folder(folder).pictures())
    third.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"000003.jpg cannot be read as a picture"):
        list(of_folder(folder).pictures())
    third.unlink()
    with pytest.raises(DataError, match=r"000003.jpg is missing; seqinfo.ini counts it"):
        list(ahead(of_folder(folder).pictures()))


def test_reading_ahead_keeps_the_order_and_may_stop_early():
    frames = [np.full((2, 2, 3), n, np.uint8) for n in range(9)]
    assert [int(frame[0, 0, 0]) for frame in ahead(iter(frames))] == list(range(9))
    some = ahead(iter(frames))
    assert next(some)[0, 0, 0] == 0
    some.close()


def test_a_video_with_detections(rendered, tmp_path):
    pytest.importorskip("cv2")
    with VideoWriter(tmp_path / "street.mp4", 25.0) as video:
        for picture in rendered.pictures():
            video.write(picture)
    (tmp_path / "det.txt").write_text("1,-1,11,11,5,9,0.9\n6,-1,21,11,5,9,0.8\n")
    footage = of_video(tmp_path / "street.mp4", tmp_path / "det.txt")
    assert (footage.name, footage.length, footage.frame_rate) == ("street", 6, 25.0)
    boxes, scores = footage.frames_of_detections()(6)
    assert boxes.tolist() == [[20, 10, 5, 9]]
    assert scores.tolist() == [0.8]
    (tmp_path / "det.txt").write_text("7,-1,11,11,5,9,0.9\n")
    with pytest.raises(DataError, match=r"detections of frame 7, and .*street.mp4 6 frames"):
        of_video(tmp_path / "street.mp4", tmp_path / "det.txt")

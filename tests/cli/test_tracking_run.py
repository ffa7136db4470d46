"""`tupelo track SEQUENCE`, `ablation` and `scene` as a user types them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tupelo import models
from tupelo.data.decode import Frame
from tupelo.tracking.mot_files import read_results
from tupelo.tracking.video import read_video

from .conftest import said, tupelo


@pytest.fixture(scope="module")
def crops(tmp_path_factory) -> Path:
    """Four identities of three crops of coloured blocks."""
    folder = tmp_path_factory.mktemp("crops") / "people"
    generator = np.random.default_rng(0)
    for identity in range(4):
        (folder / f"id{identity}").mkdir(parents=True)
        base = generator.integers(0, 256, (6, 3, 3))
        for number in range(3):
            blocks = np.clip(base + generator.normal(0, 12, base.shape), 0, 255).astype(np.uint8)
            picture = Image.fromarray(blocks.repeat(8, axis=0).repeat(8, axis=1))
            picture.save(folder / f"id{identity}" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A network that has not learned anything, without calibration."""
    folder = tmp_path_factory.mktemp("runs") / "network"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.embedder("convnet", dim=8, size=16).eval()
    models.save(model, folder, about={"pictures": Frame(16, 16, 3)._asdict()})
    return folder


@pytest.fixture(scope="module")
def sequence(crops, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "SCENE-01"
    result = tupelo(
        "track", "scene", crops, "--out", folder, "--walkers", "3", "--frames", "12",
        "--width", "160", "--height", "120", "--drop-out", "0",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    text = said(result)
    assert "12 frames of 160 x 120: 3 objects," in text
    assert "next tupelo track run" in text
    return folder


def test_tracking_without_a_network(sequence, tmp_path):
    out = tmp_path / "tracks"
    result = tupelo("track", sequence, "--out", out)
    assert result.exit_code == 0, result.output
    text = said(result)
    assert "sequence SCENE-01: 12 frames," in text
    assert "uses none: motion and overlap alone" in text
    assert "tracked 12 frames: 3 tracks," in text
    assert "MOTA" in text
    assert "embedding" not in text
    assert {path.name for path in out.iterdir()} == {"SCENE-01.txt", "SCENE-01.json"}
    assert set(read_results(out / "SCENE-01.txt").ids.tolist()) == {1, 2, 3}


def test_tracking_with_everything(sequence, run, tmp_path):
    out = tmp_path / "tracks"
    result = tupelo(
        "track", sequence, "--embedder", run, "--out", out, "--video", "--video-as", "gif",
        "--contact-sheet", "--distance", "0.5", "--set", "confirm_after=2", "--frames", "10",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    text = said(result)
    assert "uses against switches, through occlusion, proposals" in text
    assert "appearance 0.500, after occlusion 0.400, proposals 0.400: as given" in text
    assert "embedding" in text
    assert "sheet " in text
    about = json.loads((out / "SCENE-01.json").read_text())
    assert about["frames"] == 10
    assert about["settings"]["confirm_after"] == 2
    assert about["settings"]["proposal"] == 0.4
    with Image.open(out / "SCENE-01.gif") as clip:
        assert clip.n_frames == 10
    with Image.open(out / "SCENE-01.png") as sheet:
        assert sheet.size[0] > 100


def test_a_video_file_with_detections(sequence, run, tmp_path):
    pytest.importorskip("cv2")
    made = tupelo("track", sequence, "--out", tmp_path / "first", "--video", "--uses", "none")
    assert made.exit_code == 0, made.output
    result = tupelo(
        "track", tmp_path / "first" / "SCENE-01.mp4", "--detections", sequence / "det" / "det.txt",
        "--embedder", run, "--uses", "1,2", "--out", tmp_path / "second",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    text = said(result)
    assert "MOTA" not in text
    assert "uses against switches, through occlusion " in text
    assert "the run holds no calibration" in text
    assert len(list(read_video(tmp_path / "first" / "SCENE-01.mp4"))) == 12
    assert json.loads((tmp_path / "second" / "SCENE-01.json").read_text())["scores"] is None


def test_the_ablation_in_one_command(sequence, run, tmp_path):
    result = tupelo(
        "track", "ablation", sequence, "--embedder", run, "--out", tmp_path / "new" / "table",
        "--frames", "8",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "8 frames of 1 sequence, pooled" in said(result)
    rows = (tmp_path / "new" / "table.md").read_text().splitlines()
    assert len(rows) == 2 + 8
    numbers = json.loads((tmp_path / "new" / "table.json").read_text())
    assert list(numbers["uses"]) == ["none", "1", "2", "3", "1+2", "1+3", "2+3", "all"]


def refused(*arguments: str | Path) -> str:
    result = tupelo("track", *arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return said(result)


def test_sequences_that_cannot_be_read_are_refused(sequence, run, tmp_path):
    assert "is not there; give a MOTChallenge folder or a video" in refused(tmp_path / "none")
    video = tmp_path / "clip.mp4"
    video.write_bytes(b"no video")
    assert "give its detections with --detections FILE" in refused(video)
    found = refused(sequence, "--detections", sequence / "det" / "det.txt")
    assert "--detections belongs to a video file" in found
    copy = Path(shutil.copytree(sequence, tmp_path / "copy"))
    (copy / "img1" / "000004.jpg").unlink()
    out = tmp_path / "tracks"
    found = refused(copy, "--embedder", run, "--out", out, "--video", "--contact-sheet")
    assert "000004.jpg is missing" in found
    assert not out.exists() or not list(out.iterdir())  # whole or not at all
    Image.new("RGB", (20, 20)).save(copy / "img1" / "000004.jpg")
    assert "must have 160 x 120 pixels as seqinfo.ini says" in refused(copy, "--out", out)


def test_uses_that_lack_something_are_refused(sequence, run, tmp_path):
    copy = Path(shutil.copytree(sequence, tmp_path / "copy"))
    shutil.rmtree(copy / "img1")
    found = refused(copy, "--embedder", run)
    assert "has no pictures, and proposals (use 3) look into them" in found
    assert "--uses 1,2" in found
    assert "no pictures from which to embed" in refused(copy, "--embedder", run, "--uses", "1")
    assert "need a network: give --embedder RUN" in refused(sequence, "--uses", "1,2")
    assert "--uses must be of 1,2,3, or none, got 4" in refused(sequence, "--uses", "4")
    assert "need the pictures of SCENE-01" in refused(copy, "--video")
    assert "give --embedder RUN" in refused("ablation", sequence)


def test_bad_settings_are_refused(sequence, run, tmp_path):
    assert "--set must be NAME=VALUE, of" in refused(sequence, "--set", "speed=3")
    assert "--set max_age must be a whole number, got x" in refused(sequence, "--set", "max_age=x")
    assert "max_age must be 1 or more, got 0" in refused(sequence, "--set", "max_age=0")
    assert "--video-as must be mp4, gif, webp" in refused(sequence, "--video-as", "avi")
    found = refused(sequence, "--embedder", run, "--distance", "3")
    assert "--distance must be in (0, 2], got 3" in found
    assert "holds no run" in refused(sequence, "--embedder", tmp_path)


def test_scenes_that_cannot_be_made_are_refused(crops, sequence):
    found = refused("scene", crops, "--out", sequence.parent / "x", "--walkers", "9")
    assert "needs as many identities with 2 crops or more, got 4" in found
    assert "must be a new or empty folder" in refused("scene", crops, "--out", sequence)
    assert "frames must be 1 or more" in refused(
        "scene", crops, "--out", sequence.parent / "x", "--frames", "0"
    )
    assert not (sequence.parent / "x").exists()

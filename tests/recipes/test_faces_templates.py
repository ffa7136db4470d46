"""IJB-A on made-up tables equals naive loops over templates."""

import json

import numpy as np
import pytest

from tupelo import evaluation
from tupelo.data.official import ijba
from tupelo.errors import DataError, InputError
from tupelo.recipes import faces_templates as job
from tupelo.recipes.face_features import Faces

HEADING = "TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID,SIGHTING_ID,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT"


def write(folder, splits=2, seed=0):
    """Two splits of 8 subjects, two of them not in the gallery; features by FILE."""
    rng = np.random.default_rng(seed)
    rows, names, sighting = [], [], 0
    centres = rng.normal(size=(8, 6))
    for split in range(1, splits + 1):
        place = folder / f"split{split}"
        place.mkdir(parents=True)
        gallery, probes = [], []
        for subject in range(8):
            for template in range(4):
                for picture in range(3):
                    sighting += 1
                    number, medium = 100 * subject + template, 1000 * sighting
                    if picture == 2:
                        medium -= 1000  # a frame of the same video
                    file = f"img/{split}-{sighting}.jpg"
                    names.append(f"x/{file}")
                    rows.append(centres[subject] + rng.normal(scale=1.2, size=6))
                    line = f"{number},{subject},{file},{medium},{sighting},1,1,9,9"
                    (gallery if template == 0 else probes).append((subject, line))
        lines = {
            "search_gallery": [line for subject, line in gallery if subject < 6],
            "search_probe": [line for _, line in probes],
            "verify_metadata": [line for _, line in [*gallery, *probes]],
        }
        for name, each in lines.items():
            (place / f"{name}_{split}.csv").write_text("\n".join([HEADING, *each]) + "\n")
        templates = [100 * subject + template for subject in range(8) for template in range(4)]
        pairs = [rng.choice(templates, 2, replace=False) for _ in range(200)]
        text = "\n".join(f"{one},{other}" for one, other in pairs)
        (place / f"verify_comparisons_{split}.csv").write_text(text + "\n")
    return Faces(names, "here", {}, lambda places, _: np.array(rows)[places])


def unit(row):
    return row / np.linalg.norm(row)


def naive_template(table, number, features):
    media = {}
    for row in np.flatnonzero(table.templates == number):
        media.setdefault(table.media[row], []).append(unit(features[table.files[row]]))
    return unit(sum(sum(frames) / len(frames) for frames in media.values()) / len(media))


def test_splits_equal_naive_loops(tmp_path):
    faces = write(tmp_path)
    comparing, searching = ijba.read(tmp_path)
    judged = job.judge_ijba(faces, comparing, searching, max_rank=2)
    rows = faces.rows(np.arange(len(faces.names)), None)
    features = {name[2:]: row for name, row in zip(faces.names, rows, strict=True)}
    tars, firsts, tpirs = [], [], []
    for one, many in zip(comparing, searching, strict=True):
        genuine, impostor = [], []
        for pair in one.pairs:
            a, b = (naive_template(one.table, number, features) for number in pair)
            (genuine if pair[0] // 100 == pair[1] // 100 else impostor).append(float(a @ b))
        threshold = sorted(impostor, reverse=True)[int(0.1 * len(impostor))]
        tars.append(sum(score > threshold for score in genuine) / len(genuine))
        gallery = {s: naive_template(many.gallery, 100 * s, features) for s in range(6)}
        mated, highest = [], []
        for number in sorted(set(many.probes.templates.tolist())):
            probe = naive_template(many.probes, number, features)
            scores = {s: float(probe @ z) for s, z in gallery.items()}
            if number // 100 in gallery:
                mate = scores[number // 100]
                mated.append((sum(each >= mate for each in scores.values()), mate))
            else:
                highest.append(max(scores.values()))
        firsts.append(sum(rank <= 1 for rank, _ in mated) / len(mated))
        threshold = max(highest)  # none of 6 may be above at 0.1
        tpirs.append(sum(mate > threshold and rank <= 2 for rank, mate in mated) / len(mated))
    told = json.loads(json.dumps(judged.as_json()))
    tar = told["verification"]["tar_at_far"]["0.1"]
    assert tar["mean"] == pytest.approx(np.mean(tars))
    assert tar["std"] == pytest.approx(np.std(tars, ddof=1))
    assert tar["n_splits"] == 2
    assert told["verification"]["tar_at_far"]["0.001"] == {"mean": None, "std": None, "n_splits": 0}
    assert told["identification"]["cmc"]["1"]["mean"] == pytest.approx(np.mean(firsts))
    assert told["identification"]["tpir_at_fpir"]["0.1"]["mean"] == pytest.approx(np.mean(tpirs))
    assert told["identification"]["max_rank"] == 2
    assert told["identification"]["mated_probes"] == [18, 18]
    assert told["identification"]["other_probes"] == [6, 6]
    assert told["failures"] == {"1": 0, "2": 0}
    assert "FPIR 0.1 of 6 probes without a mate allows no alarm" in " ".join(judged.notes)
    soft = job.judge_ijba(faces, comparing, searching, score=evaluation.softmax_scores)
    assert soft.rocs[1].auc != judged.rocs[1].auc
    assert soft.rocs[1].auc > 0.6


def test_failures_to_enrol_count_and_stay(tmp_path):
    faces = write(tmp_path, 1)
    comparing, searching = ijba.read(tmp_path)
    table = comparing[0].table
    lost = [f for f, t in zip(table.files, table.templates, strict=True) if t in (0, 101)]
    before = job.judge_ijba(faces, comparing, searching)
    kept = [place for place, name in enumerate(faces.names) if name[2:] not in lost]
    rows = faces.rows(np.array(kept), None)
    without = Faces([faces.names[place] for place in kept], "here", {}, lambda p, _: rows[p])
    after = job.judge_ijba(without, comparing, searching, undetected=lost)
    assert after.failures == {1: 4}  # two of 1:1, one of the gallery, one probe
    for one, other in ((after.rocs[1], before.rocs[1]), (before.rocs[1], after.rocs[1])):
        assert len(one.genuine) == len(other.genuine)
        assert len(one.impostor) == len(other.impostor)
    pairs = comparing[0].pairs
    touched = np.isin(pairs, [0, 101]).any(axis=1)
    assert (np.concatenate([after.rocs[1].genuine, after.rocs[1].impostor]) == -1).sum() == (
        touched.sum()
    )
    assert len(after.searches[1].ranks) == 18
    assert (after.searches[1].ranks == 6).sum() >= 3 + 1  # subject 0 is lost, and one probe
    with pytest.raises(DataError, match=r"here lacks 6 of 96 pictures of the protocol, first img/"):
        job.judge_ijba(without, comparing, searching)
    with pytest.raises(DataError, match="1 names of pictures without a face are not in the tabl"):
        job.judge_ijba(faces, comparing, searching, undetected=["img/none.jpg"])
    with pytest.raises(DataError, match="no picture is left with a face"):
        job.judge_ijba(faces, comparing, searching, undetected=list(table.files))


def test_names_by_sighting_and_crops(tmp_path):
    faces = write(tmp_path, 1)
    comparing, searching = ijba.read(tmp_path)
    plain = job.judge_ijba(faces, comparing, searching)
    rows = faces.rows(np.arange(len(faces.names)), None)
    sightings = [f"crops/{name.split('-')[1]}" for name in faces.names]
    by = Faces(sightings, "here", {}, lambda places, _: rows[places])
    judged = job.judge_ijba(by, comparing, searching, by_sighting=True)
    assert np.array_equal(judged.rocs[1].genuine, plain.rocs[1].genuine)
    asked = []

    def cut(places, boxes):
        asked.extend(boxes)
        return rows[places]

    job.judge_ijba(Faces(faces.names, "here", {}, cut), comparing, searching, crop=True)
    assert set(asked) == {(1.0, 1.0, 9.0, 9.0)}
    path = tmp_path / "split1" / "verify_metadata_1.csv"
    lines = path.read_text().splitlines()
    lines[-1] = lines[-1].replace(lines[-1].split(",")[2], lines[1].split(",")[2])
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"img/1-1.jpg shows subjects 0 and 7, so one feature cann"):
        job.judge_ijba(faces, *ijba.read(tmp_path))


def test_refusals_name_the_split(tmp_path):
    faces = write(tmp_path, 1)
    (tmp_path / "split1" / "verify_comparisons_1.csv").write_text("0,100\n100,200\n")
    comparing, searching = ijba.read(tmp_path)
    with pytest.raises(InputError, match="1:1 split 1: there are no genuine pairs among 2"):
        job.judge_ijba(faces, comparing, [])
    (tmp_path / "split1" / "verify_comparisons_1.csv").write_text("0,1\n100,101\n")
    with pytest.raises(InputError, match="1:1 split 1: there are no impostor pairs among 2"):
        job.judge_ijba(faces, ijba.read(tmp_path)[0], [])
    path = tmp_path / "split1" / "search_probe_1.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if line.split(",")[1] not in "67") + "\n")
    searching = ijba.read(tmp_path)[1]
    with pytest.raises(InputError, match=r"1:N split 1: fpir=0.1 cannot be measured: all probes"):
        job.judge_ijba(faces, [], searching)
    closed = job.judge_ijba(faces, [], searching, open_set=False)
    assert "tpir_at_fpir" not in closed.as_json()["identification"]
    rows = faces.rows(np.arange(len(faces.names)), None)
    rows[5] = np.nan
    broken = Faces(faces.names, "here", {}, lambda places, _: rows[places])
    with pytest.raises(
        InputError, match="1:N split 1: rows of templates must be finite and not ze"
    ):
        job.judge_ijba(broken, [], searching, open_set=False)
    flat = Faces(faces.names, "here", {}, lambda places, _: np.ones((len(places), 2)))
    (tmp_path / "split1" / "verify_comparisons_1.csv").write_text("0,1\n100,201\n")
    told = job.judge_ijba(flat, ijba.read(tmp_path)[0], [])
    assert told.notes[0].startswith("1:1 split 1: all scores are equal")


def test_lists_of_undetected(tmp_path):
    (tmp_path / "none.txt").write_text("img/1.jpg\n\n img/2.jpg \n")
    assert job.read_undetected(tmp_path / "none.txt") == ["img/1.jpg", "img/2.jpg"]
    with pytest.raises(DataError, match="must be text, a name of a picture a line"):
        job.read_undetected(tmp_path / "missing.txt")

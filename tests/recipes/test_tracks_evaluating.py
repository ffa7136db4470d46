"""Files of results against the truth: layouts, rules by the truth, refusals; TrackEval on MOT17."""

import contextlib
import gzip
import io
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from tupelo.errors import DataError, InputError
from tupelo.recipes.tracking_data import MOT17, first_frames, full_sequence, mpntrack
from tupelo.recipes.tracks_evaluating import judge_folder, score_rows, usual_benchmark
from tupelo.tracking.mot_files import MotRows

ROOT = Path(os.environ.get("TUPELO_DATA", "nowhere")) / "mot" / "mot17"
needs_data = pytest.mark.skipif(not ROOT.is_dir(), reason="TUPELO_DATA has no mot/mot17")
GT = "1,1,5,5,10,20,1,1,1\n2,1,5,5,10,20,1,1,1\n1,2,50,5,10,20,1,1,1\n"
FOUND = "1,4,5,5,10,20,1,-1,-1,-1\n2,4,5,5,10,20,1,-1,-1,-1\n"
INFO = "[Sequence]\nname=A\nframeRate=30\nseqLength=2\nimWidth=64\nimHeight=48\n"


@pytest.fixture
def flat(tmp_path) -> Path:
    """`gt/A.txt.gz` and `B.txt`, the first with its `seqinfo.ini`, and `results/` of both."""
    for name in ("gt", "results"):
        (tmp_path / name).mkdir()
    (tmp_path / "gt" / "A.txt.gz").write_bytes(gzip.compress(GT.encode()))
    (tmp_path / "gt" / "A.seqinfo.ini").write_text(INFO)
    (tmp_path / "gt" / "B.txt").write_text(GT.replace(",1,1,1\n", ",1,-1,-1,-1\n"))
    for name in "AB":
        (tmp_path / "results" / f"{name}.txt").write_text(FOUND)
    return tmp_path


def test_flat_files(flat):
    judged = judge_folder(flat / "results", flat / "gt")
    assert judged.benchmark == {"A": "mot17", "B": "mot15"}
    assert (judged.together.clear.tp, judged.together.clear.fn) == (4, 2)
    assert judged.as_json()["sequences"]["B"]["benchmark"] == "mot15"
    assert list(judge_folder(flat / "results", flat / "gt", only=["B"]).sequences) == ["B"]


def test_one_file_names_its_sequence(flat):
    assert list(judge_folder(flat / "results" / "A.txt", flat / "gt").sequences) == ["A"]
    (flat / "mine.txt").write_text(FOUND)
    judged = judge_folder(flat / "mine.txt", flat / "gt" / "A.txt.gz")
    assert judged.sequences["mine"].clear.tp == 2


def test_progress(flat):
    seen = []
    judge_folder(flat / "results", flat / "gt", progress=lambda *each: seen.append(each))
    assert seen == [("A", 0, 2), ("B", 1, 2)]


def test_a_sequence_without_results_is_refused(flat):
    (flat / "results" / "B.txt").unlink()
    with pytest.raises(InputError, match=r"has nothing for B; it has A\. .* with --only"):
        judge_folder(flat / "results", flat / "gt")
    assert judge_folder(flat / "results", flat / "gt", only=["A"]).sequences


def test_refusals(flat, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(InputError, match="must be a file of results, or a folder of them"):
        judge_folder(empty, flat / "gt")
    with pytest.raises(DataError, match="must hold sequences"):
        judge_folder(flat / "results", empty)
    (empty / "seqinfo.ini").write_text(INFO)
    with pytest.raises(DataError, match=r"has sequences and no truth: none holds gt/gt\.txt"):
        judge_folder(flat / "results", empty)
    (flat / "results" / "A.txt").write_text(FOUND + "3,4,5,5,10,20,1,-1,-1,-1\n")
    with pytest.raises(DataError, match=r"A\.txt has frame 3, and the sequence ends at 2"):
        judge_folder(flat / "results", flat / "gt")
    (flat / "results" / "A.txt").write_text("2,4,5,5,10,20,1,3,-1,-1\n")
    with pytest.raises(
        DataError, match=r"A\.txt against .*: results must be pedestrians .* frame 2"
    ):
        judge_folder(flat / "results", flat / "gt")


def test_benchmarks_by_name_and_classes():
    def rows(classes: list[int]) -> MotRows:
        n = len(classes)
        ones = np.ones(n, np.int64)
        boxes = np.ones((n, 4))
        return MotRows(np.arange(1, n + 1), ones, boxes, np.ones(n), np.array(classes), np.ones(n))

    assert usual_benchmark("MOT20-01", rows([1, 6])) == "mot20"
    assert usual_benchmark("MOT17-02", rows([1, 6])) == "mot17"
    assert usual_benchmark("MOT20-01", rows([-1, -1])) == "mot15"
    motor = rows([6])
    assert score_rows(motor, rows([-1]), "mot20").clear.fp == 0
    assert score_rows(motor, rows([-1]), "mot17").clear.fp == 1
    assert score_rows(motor, rows([-1]), "plain").clear.tp == 1


@pytest.mark.data
@needs_data
def test_mpntrack_has_the_numbers_that_users_of_trackeval_report():
    """Printed in issue 106 of JonathonLuiten/TrackEval, in per cent."""
    told = score_rows(full_sequence(ROOT, "MOT17-02").truth, mpntrack(ROOT, "MOT17-02"), "mot17")
    clear = told.clear
    assert (clear.tp, clear.fn, clear.mostly_tracked, clear.mostly_lost) == (8946, 9635, 15, 18)
    ratios = (clear.mota, clear.motp, clear.moda, clear.recall, clear.precision)
    assert ratios == pytest.approx((0.47296, 0.91158, 0.4743, 0.48146, 0.98535), abs=6e-6)
    hota = score_rows(
        full_sequence(ROOT, "MOT17-13").truth, mpntrack(ROOT, "MOT17-13"), "mot17"
    ).hota
    values = (hota.hota, hota.det_a, hota.ass_a, hota.det_re, hota.det_pr, hota.ass_re, hota.ass_pr)
    assert (*values, hota.loc_a) == pytest.approx(
        (0.62309, 0.63483, 0.61267, 0.68412, 0.83925, 0.71553, 0.75187, 0.88061), abs=6e-6
    )


@pytest.mark.data
@needs_data
def test_first_frames_are_in_the_pixels_of_their_pictures():
    whole, reduced = full_sequence(ROOT, "MOT17-02"), first_frames(ROOT, "MOT17-02")
    assert (reduced.info.width, reduced.info.height, reduced.info.length) == (960, 540, 4)
    assert reduced.frame_path(4).is_file()
    assert reduced.truth.frames.max() == 4
    kept = whole.detections.frames <= 4
    np.testing.assert_array_equal(reduced.detections.boxes * 2, whole.detections.boxes[kept])
    same = first_frames(ROOT, "MOT17-05")
    assert same.info.width == 640
    assert sum(first_frames(ROOT, name).info.length for name in MOT17) == 39


@pytest.mark.data
@pytest.mark.slow
@needs_data
def test_mpntrack_on_mot17_is_as_trackeval_has_it(tmp_path):
    pytest.importorskip("trackeval", reason="trackeval is not installed: pip install 'tupelo[dev]'")
    gt, trackers = tmp_path / "gt" / "MOT17-train", tmp_path / "trackers" / "MOT17-train" / "MPN"
    (trackers / "data").mkdir(parents=True)
    for name in MOT17:
        (gt / name / "gt").mkdir(parents=True)
        shutil.copy(ROOT / "gt" / f"{name}.seqinfo.ini", gt / name / "seqinfo.ini")
        for source, place in (
            (ROOT / "gt" / f"{name}.txt.gz", gt / name / "gt" / "gt.txt"),
            (ROOT / "tracker_mpntrack_frcnn" / f"{name}.txt.gz", trackers / "data" / f"{name}.txt"),
        ):
            place.write_bytes(gzip.decompress(source.read_bytes()))
    (tmp_path / "gt" / "seqmaps").mkdir()
    (tmp_path / "gt" / "seqmaps" / "MOT17-train.txt").write_text("\n".join(["name", *MOT17]) + "\n")
    its = trackeval_of(tmp_path / "gt", tmp_path / "trackers")
    judged = judge_folder(trackers / "data", gt)
    for name, scores in (*judged.sequences.items(), ("COMBINED_SEQ", judged.together)):
        told, theirs = scores.as_json(), its[name]["pedestrian"]
        pairs = {"TP": "CLR_TP", "FN": "CLR_FN", "FP": "CLR_FP", "IDs": "IDSW", "MOTA": "MOTA"}
        for ours, name_of_theirs in (
            pairs | {key: key for key in ("MT", "PT", "ML", "Frag")}
        ).items():
            assert told[ours] == pytest.approx(theirs["CLEAR"][name_of_theirs], abs=1e-12)
        assert told["MOTP"] == pytest.approx(theirs["CLEAR"]["MOTP"], abs=1e-9)
        for key in ("IDTP", "IDFP", "IDFN", "IDF1"):
            assert told[key] == pytest.approx(theirs["Identity"][key], abs=1e-12)
        for key in ("HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA"):
            assert told[key] == pytest.approx(theirs["HOTA"][key].mean(), abs=1e-9)
        assert (theirs["HOTA"]["HOTA_TP"] == scores.hota.tp).all()


def trackeval_of(gt: Path, trackers: Path) -> dict:
    """Its whole evaluation of the folders, pre-processing included."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        import trackeval

        quiet = {"PRINT_CONFIG": False}
        dataset = trackeval.datasets.MotChallenge2DBox(
            quiet
            | {"GT_FOLDER": str(gt), "TRACKERS_FOLDER": str(trackers), "BENCHMARK": "MOT17"}
            | {"SPLIT_TO_EVAL": "train", "TRACKERS_TO_EVAL": ["MPN"]}
        )
        evaluator = trackeval.Evaluator(
            quiet
            | dict.fromkeys(("PRINT_RESULTS", "TIME_PROGRESS", "OUTPUT_SUMMARY"), False)
            | dict.fromkeys(("OUTPUT_DETAILED", "PLOT_CURVES", "OUTPUT_EMPTY_CLASSES"), False)
            | {"BREAK_ON_ERROR": True}
        )
        metrics = trackeval.metrics
        found, _ = evaluator.evaluate(
            [dataset], [metrics.CLEAR(quiet), metrics.Identity(quiet), metrics.HOTA()]
        )
    return found["MotChallenge2DBox"]["MPN"]

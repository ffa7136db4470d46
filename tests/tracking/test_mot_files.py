"""MOTChallenge's files: what is read and written, and every refusal."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tupelo.errors import DataError, InputError
from tupelo.tracking.mot_files import (
    MotRows,
    find_sequences,
    read_detections,
    read_info,
    read_results,
    read_sequence,
    read_truth,
    write_results,
)

INFO = (
    "[Sequence]\nname=One\nimDir=img1\nframeRate=25\nseqLength=3\nimWidth=640\nimHeight=480\n"
    "imExt=.png\n"
)


def test_detections_of_seven_columns_are_ordered_by_frame_and_count_from_0(tmp_path):
    path = tmp_path / "det.txt"
    path.write_text("2,-1,1,11,5,6,0.5\n1,-1,-3.5,2.25,10,20,0.9\n2,-1,7,8,5,6,0.25\n\n")
    rows = read_detections(path)
    assert rows.frames.tolist() == [1, 2, 2]
    assert rows.boxes.tolist() == [[-4.5, 1.25, 10, 20], [0, 10, 5, 6], [6, 7, 5, 6]]
    assert rows.confidence.tolist() == [0.9, 0.5, 0.25]
    assert set(rows.ids) == set(rows.classes) == set(rows.visibility) == {-1}
    assert len(rows) == 3


def test_all_layouts_and_line_ends(tmp_path):
    ten = tmp_path / "ten.txt"
    ten.write_text("1, -1, 1, 1, 5, 6, 2.3, -1, -1, -1\r\n3,-1,1,1,5,6,-1,-1,-1,-1")
    assert read_detections(ten).confidence.tolist() == [2.3, -1]
    truth = tmp_path / "gt.txt.gz"
    truth.write_bytes(gzip.compress(b"1,4,1,1,5,6,0,12,0.25\n1,5,1,1,5,6,1,1,1\n"))
    rows = read_truth(truth)
    assert (rows.ids.tolist(), rows.confidence.tolist()) == ([4, 5], [0, 1])
    assert (rows.classes.tolist(), rows.visibility.tolist()) == ([12, 1], [0.25, 1])
    old = tmp_path / "mot15.txt"
    old.write_text("1,4,1,1,5,6,1,-2.5,3.75,0\n")
    rows = read_truth(old)
    assert (rows.classes.tolist(), rows.visibility.tolist()) == ([-1], [-1])
    result = tmp_path / "result.txt"
    result.write_text("1,0.0,586.474853515625,444.5,85.7,265.2,1,-1,-1,-1\n")
    assert read_results(result).ids.tolist() == [0]


def test_an_empty_file_has_no_rows(tmp_path):
    path = tmp_path / "none.txt"
    path.write_text("\n \n")
    for read in (read_detections, read_truth, read_results):
        assert len(read(path)) == 0
        assert read(path).boxes.shape == (0, 4)


GOOD = "1,1,5,5,5,5,1,1,1"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("1,1,5,5,0,5,1,1,1", r"w and h \(columns 5, 6\) must be above 0, got 1,1,5,5,0,5,1,1,1"),
        ("1,1,5,5,5,-2,1,1,1", r"w and h .* must be above 0, .* \(1 such lines\)"),
        ("1,1,nan,5,5,5,1,1,1", "numbers must be finite, got 1,1,nan"),
        ("1,1,5,5,inf,5,1,1,1", "numbers must be finite"),
        ("1,1,5,5,5,5,1,1", "8 columns, and gt.txt has 9 columns, or 10 in MOT15, separated by"),
        ("1 1 5 5 5 5 1 1 1", "1 columns, and gt.txt has 9"),
        ("1,1,5,5,5,5,1,1,1,1", "10 columns, and the lines before have 9"),
        ("0,1,5,5,5,5,1,1,1", r"frames \(column 1\) count from 1"),
        ("-1,1,5,5,5,5,1,1,1", r"frames \(column 1\) count from 1, got -1,1"),
        ("1.5,1,5,5,5,5,1,1,1", r"the frame \(column 1\) must be a whole number"),
        ("1,1.5,5,5,5,5,1,1,1", r"the id \(column 2\) must be a whole number"),
        ("1,1e300,5,5,5,5,1,1,1", r"the id \(column 2\) must be a whole number"),
        ("1,1,5,5,5,5,1,1.5,1", r"the class \(column 8\) must be a whole number"),
        ("1,1,x,5,5,5,1,1,1", "column 3 must be a number, got 'x'"),
        ("1,1,,5,5,5,1,1,1", "column 3 must be a number, got ''"),
        ("1,1,1_0,5,5,5,1,1,1", "column 3 must be a number, got '1_0'"),
    ],
)
def test_file_and_line_are_named(tmp_path, line, told):
    path = tmp_path / "gt.txt"
    path.write_text(f"{GOOD}\n\n{line}\n2,1,5,5,5,5,1,1,1\n")
    with pytest.raises(DataError, match=rf"gt\.txt, line 3: {told}"):
        read_truth(path)


def test_columns_of_each_kind(tmp_path):
    path = tmp_path / "rows.txt"
    path.write_text("1,1,5,5,5,5,1,1,1\n")
    with pytest.raises(DataError, match=r"line 1: 9 columns, and det\.txt has 7 or 10"):
        read_detections(path)
    path.write_text("1,1,5,5,5,5\n")
    with pytest.raises(DataError, match="line 1: 6 columns, and a result has 7 to 10"):
        read_results(path)


def test_an_id_twice_in_a_frame_is_refused_on_reading_and_writing(tmp_path):
    path = tmp_path / "rows.txt"
    path.write_text(f"2,1,5,5,5,5,1,1,1\n{GOOD}\n2,3,5,5,5,5,1,1,1\n2,3,6,5,5,5,1,1,1\n")
    for read in (read_truth, read_results):
        with pytest.raises(DataError, match="frame 2 has id 3 more than once"):
            read(path)
    with pytest.raises(InputError, match="frame 7 has id 2 more than once"):
        write_results(tmp_path / "out.txt", result([7, 1, 7], [2, 2, 2]))
    assert not (tmp_path / "out.txt").exists()


def test_ids_of_a_result_below_0(tmp_path):
    path = tmp_path / "det.txt"
    path.write_text("3,-1,5,5,5,5,1\n")
    with pytest.raises(DataError, match="0 or more, frame 3 has -1; are these detections"):
        read_results(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="is not there"):
        read_detections(tmp_path / "none.txt")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="must be text"):
        read_detections(tmp_path / "bytes.txt")
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"1,-1,1,1,5,6,1\n" * 99)[:-9])
    with pytest.raises(DataError, match="cannot be read"):
        read_detections(tmp_path / "cut.txt.gz")
    (tmp_path / "no.txt.gz").write_bytes(b"1,-1,1,1,5,6,1\n")
    with pytest.raises(DataError, match="cannot be read"):
        read_detections(tmp_path / "no.txt.gz")
    with pytest.raises(DataError, match="cannot be read"):
        read_detections(tmp_path)


def result(frames, ids, boxes=None, confidence=None) -> MotRows:
    n = len(frames)
    boxes = np.tile([[0.0, 0, 9, 9]], (n, 1)) if boxes is None else np.asarray(boxes)
    confidence = np.ones(n) if confidence is None else np.asarray(confidence)
    nothing = np.full(n, -1)
    return MotRows(
        np.array(frames), np.array(ids), boxes, confidence, nothing, nothing.astype(np.float64)
    )


def test_a_result_file(tmp_path):
    path = tmp_path / "one.txt"
    write_results(path, result([2, 1], [1, 3], [[0.0, 9.5, 3, 4], [-7.0, 0, 1, 2]], [0.5, 1.0]))
    assert path.read_text() == (
        "1,3,-6.0000,1.0000,1.0000,2.0000,1.0000,-1,-1,-1\n"
        "2,1,1.0000,10.5000,3.0000,4.0000,0.5000,-1,-1,-1\n"
    )
    write_results(tmp_path / "one.txt.gz", read_results(path))
    assert gzip.decompress((tmp_path / "one.txt.gz").read_bytes()) == path.read_bytes()


@pytest.mark.parametrize(
    "rows",
    [
        result([0], [1]),
        result([1], [1], [[0.0, 0, 0, 9]]),
        result([1], [1], [[0.0, 0, 9, 0.00001]]),
        result([1], [1], [[np.nan, 0, 9, 9]]),
        result([1], [1], [[0.0, np.inf, 9, 9]]),
        result([1], [1], None, [np.nan]),
    ],
)
def test_rows_that_no_reader_would_take_are_not_written(tmp_path, rows):
    with pytest.raises(InputError, match=r"rows must have frames from 1, .* row 0 has frame"):
        write_results(tmp_path / "out.txt", rows)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "out.txt"
    write_results(path, result([1], [1]))
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_results(path, result([1, 2], [1, 1]))
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


finite = st.floats(-1e5, 1e5)
size = st.floats(0.001, 1e5)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.tuples(st.integers(1, 10**6), st.integers(0, 10**9)),
        st.tuples(finite, finite, size, size, st.floats(-10, 10)),
        max_size=8,
    )
)
def test_what_is_written_is_read(tmp_path_factory, told):
    path = tmp_path_factory.getbasetemp() / "round.txt"
    values = np.array(list(told.values())).reshape(-1, 5)
    keys = np.array(list(told), np.int64).reshape(-1, 2)
    write_results(path, result(keys[:, 0], keys[:, 1], values[:, :4], values[:, 4]))
    rows = read_results(path)
    order = np.argsort(keys[:, 0], kind="stable")
    assert rows.frames.tolist() == keys[order, 0].tolist()
    assert rows.ids.tolist() == keys[order, 1].tolist()
    np.testing.assert_allclose(rows.boxes, values[order, :4], atol=6e-5)
    np.testing.assert_allclose(rows.confidence, values[order, 4], atol=6e-5)


def write_sequence(folder: Path, truth: bool = True) -> Path:
    (folder / "det").mkdir(parents=True)
    (folder / "det" / "det.txt").write_text("1,-1,1,1,5,6,1\n3,-1,1,1,5,6,1\n")
    (folder / "seqinfo.ini").write_text(INFO)
    if truth:
        (folder / "gt").mkdir()
        (folder / "gt" / "gt.txt").write_text(f"{GOOD}\n")
    return folder


def test_sequences_are_found_in_splits_below_the_root_and_at_it(tmp_path):
    one = write_sequence(tmp_path / "MOT17" / "train" / "B")
    other = write_sequence(tmp_path / "MOT17" / "test" / "A", truth=False)
    assert find_sequences(tmp_path / "MOT17") == [other, one]
    assert find_sequences(tmp_path / "MOT17" / "train") == [one]
    assert find_sequences(one) == [one]
    with pytest.raises(DataError, match="must hold sequences, folders with seqinfo"):
        find_sequences(one / "det")


def test_a_sequence(tmp_path):
    sequence = read_sequence(write_sequence(tmp_path / "One"))
    info = sequence.info
    assert (info.name, info.frame_rate, info.length) == ("One", 25, 3)
    assert (info.width, info.height, info.folder, info.extension) == (640, 480, "img1", ".png")
    assert sequence.frame_path(3) == tmp_path / "One" / "img1" / "000003.png"
    assert sequence.truth is not None
    assert len(sequence.truth) == 1
    assert len(sequence.detections) == 2
    for number in (0, 4):
        with pytest.raises(InputError, match=f"1 to 3, the frames of One, got {number}"):
            sequence.frame_path(number)
    assert read_sequence(write_sequence(tmp_path / "test", truth=False)).truth is None


@pytest.mark.parametrize("name", ["det/det.txt", "gt/gt.txt"])
def test_frames_after_the_last(tmp_path, name):
    folder = write_sequence(tmp_path / "One")
    line = "4,1,5,5,5,5,1" + ",1,1" * name.startswith("gt")
    (folder / name).write_text(f"{line}\n")
    with pytest.raises(DataError, match="has frame 4, and the sequence ends at 3; does the file"):
        read_sequence(folder)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", r"must have a section \[Sequence\]"),
        ("name=One\n", r"must have a section \[Sequence\]"),
        (INFO.replace("seqLength=3\n", ""), "misses seqLength"),
        (INFO.replace("name=One\n", ""), "misses name"),
        (INFO.replace("Length=3", "Length=x"), "seqLength must be a number above 0, got 'x'"),
        (INFO.replace("Length=3", "Length=3.5"), "seqLength must be a whole number, got 3.5"),
        (INFO.replace("Rate=25", "Rate=nan"), "frameRate must be a number above 0, got 'nan'"),
        (INFO.replace("Width=640", "Width=0"), "imWidth must be a number above 0, got '0'"),
    ],
)
def test_info_refuses(tmp_path, text, told):
    path = tmp_path / "seqinfo.ini"
    path.write_text(text)
    with pytest.raises(DataError, match=told):
        read_info(path)


def test_info_may_leave_out_what_is_usual(tmp_path):
    path = tmp_path / "seqinfo.ini"
    path.write_text("\n".join(line for line in INFO.split("\n") if "imDir" not in line))
    assert read_info(path).folder == "img1"
    with pytest.raises(DataError, match="is not there"):
        read_info(tmp_path / "other.ini")

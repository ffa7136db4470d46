"""Tables of templates in splits, and what is refused about them."""

import numpy as np
import pytest

from tupelo.data.official import ijba
from tupelo.errors import DataError

HEADING = (
    "TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID,SIGHTING_ID,FRAME,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT"
)
GALLERY = [
    "1,10,img/1.jpg,100,1,,4,5,20,30",
    "1,10,frame/2.png,101,2,3,,,,",
    "2,11,img/3.jpg,102,3,,1,1,9,9",
]
PROBES = ["3,10,frame/4.png,103,4,,1,1,9,9", "4,12,img/5.jpg,104,5,,1,1,9,9"]


def write(folder, name, lines):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join(lines) + "\n")


@pytest.fixture
def tables(tmp_path):
    one = tmp_path / "IJB-A_11_sets" / "split1"
    write(one, "verify_metadata_1.csv", [HEADING, *GALLERY, *PROBES])
    write(one, "verify_comparisons_1.csv", ["1,3", "2,3", "1,4"])
    many = tmp_path / "IJB-A_1N_sets" / "split1"
    write(many, "search_gallery_1.csv", [HEADING, *GALLERY])
    write(many, "search_probe_1.csv", [HEADING, *PROBES])
    return tmp_path


def test_splits(tables):
    (comparing,), (searching,) = ijba.read(tables)
    table = comparing.table
    assert table.templates.tolist() == [1, 1, 2, 3, 4]
    assert table.media.tolist() == [100, 101, 102, 103, 104]
    assert table.files[:2] == ("img/1.jpg", "frame/2.png")
    assert table.sightings == ("1", "2", "3", "4", "5")
    assert table.faces[:2] == ((4.0, 5.0, 20.0, 30.0), None)
    assert table.subjects_of(np.array([3, 1, 4])).tolist() == [10, 10, 12]
    assert comparing.pairs.tolist() == [[1, 3], [2, 3], [1, 4]]
    assert searching.gallery.templates.tolist() == [1, 1, 2]
    assert searching.probes.subjects.tolist() == [10, 12]
    assert (comparing.split, searching.split) == (1, 1)


def test_only_what_is_needed_must_be_there(tmp_path):
    write(tmp_path, "search_gallery_7.csv", ["file,Template_ID,SUBJECT_ID,MEDIA_ID", "a.jpg,1,2,3"])
    write(tmp_path, "search_probe_7.csv", ["file,Template_ID,SUBJECT_ID,MEDIA_ID", "b.jpg,2,2,4"])
    comparing, (searching,) = ijba.read(tmp_path)
    assert comparing == []
    assert (searching.split, searching.gallery.files) == (7, ("a.jpg",))
    assert searching.gallery.faces == (None,)


def test_refusals(tables):
    one, many = tables / "IJB-A_11_sets" / "split1", tables / "IJB-A_1N_sets" / "split1"
    write(many, "search_probe_1.csv", [HEADING, *PROBES, *GALLERY[:2]])
    with pytest.raises(DataError, match="probe 1 is also in the gallery, with the same media, so"):
        ijba.read(tables)
    write(many, "search_probe_1.csv", [HEADING, *PROBES, "4,13,img/9.jpg,109,9,,,,,"])
    with pytest.raises(
        DataError, match="template 4 is of subjects 12 and 13; numbers of templates"
    ):
        ijba.read(tables)
    write(many, "search_probe_1.csv", [HEADING])
    with pytest.raises(DataError, match=r"search_probe_1.csv holds no rows"):
        ijba.read(tables)
    write(many, "search_probe_1.csv", [HEADING, "4,x,img/9.jpg,109,9"])
    with pytest.raises(DataError, match=r"search_probe_1.csv, line 2 is no picture of a template"):
        ijba.read(tables)
    write(many, "search_probe_1.csv", ["TEMPLATE_ID,FILE", "4,img/9.jpg"])
    with pytest.raises(DataError, match=r"has no column SUBJECT_ID, MEDIA_ID; a table"):
        ijba.read(tables)
    (many / "search_probe_1.csv").unlink()
    with pytest.raises(DataError, match=r"search_probe_1.csv is missing"):
        ijba.read(tables)
    write(one, "verify_comparisons_1.csv", ["1,3", "1,99"])
    with pytest.raises(
        DataError, match=r"compares 1 templates that verify_metadata_1.csv does not"
    ):
        ijba.read(tables)
    write(one, "verify_comparisons_1.csv", ["1,3", "1;4"])
    with pytest.raises(DataError, match="line 2 must be the numbers of two templates, it is '1;4'"):
        ijba.read(tables)
    write(one, "verify_comparisons_1.csv", ["a,b"])
    with pytest.raises(DataError, match=r"verify_comparisons_1.csv holds no pairs"):
        ijba.read(tables)
    write(tables, "verify_metadata_1.csv", [HEADING, *GALLERY])
    with pytest.raises(DataError, match="holds split 1 twice"):
        ijba.read(tables)
    empty = tables / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"holds no split of IJB-A: expected verify_metadata_1.csv"):
        ijba.read(empty)
    with pytest.raises(DataError, match="is no folder; give the one"):
        ijba.read(tables / "none")

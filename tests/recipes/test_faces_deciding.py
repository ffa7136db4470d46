import numpy as np
import pytest

from tupelo.errors import DataError, InputError
from tupelo.recipes.face_thresholds import rows_of_set, set_thresholds
from tupelo.recipes.faces_deciding import identify, verify

from .people import people, pixels_of, untrained, write


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    made = untrained(tmp_path_factory.mktemp("runs") / "faces")
    set_thresholds(made, people("ABCDEFGHIJKLMNOPQRSTUVWX", 3), None)
    return made


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write(tmp_path_factory.mktemp("pictures"), "ijkl", 2, seed=2)


def test_two_pictures_of_one_person_and_of_two(trained, files):
    same = verify(trained, files / "i" / "0.png", files / "i" / "1.png")
    other = verify(trained, files / "i" / "0.png", files / "k" / "0.png")
    assert same.same
    assert not other.same
    assert same.setting.far == other.setting.far == 0.001
    assert same.similarity > same.setting.threshold >= other.similarity
    once = verify(trained, files / "i" / "0.png", files / "i" / "0.png", far=0.1)
    assert once.similarity == pytest.approx(1)
    assert once.setting.far == 0.1


def test_who_it_is_or_nobody(trained, files):
    gallery = people("ijk", 3, seed=3)
    probes = [files / "j" / "0.png", files / "l" / "1.png"]
    found, setting = identify(trained, probes, gallery, most=2)
    assert [each.person for each in found] == ["j", None]  # l is not in the gallery
    assert [len(each.matches) for each in found] == [2, 2]
    assert found[1].matches[0].similarity <= setting.threshold
    # a person is as alike as the most alike picture
    rows = rows_of_set(trained, gallery, True, None)
    probe = rows_of_set(trained, people("ijkl", 2, seed=2).subset(np.array([2])), True, None)
    best = {
        name: max((rows[gallery.labels == label] @ probe.T).ravel())
        for label, name in enumerate("ijk")
    }
    ranked = sorted(best, key=lambda name: -best[name])
    assert [match.person for match in found[0].matches] == ranked[:2]
    assert found[0].matches[0].similarity == pytest.approx(best["j"], abs=1e-6)


def test_pictures_alone_where_the_run_compares_so(files, tmp_path):
    alone = untrained(tmp_path)
    set_thresholds(alone, people("ABCDEFGHIJKLMNOPQRSTUVWX", 3), None, flip=False)
    one, other = files / "i" / "0.png", files / "i" / "1.png"
    z = alone.embed([one, other]).double()
    expected = pytest.approx(float(z[0] @ z[1]), abs=1e-9)
    assert verify(alone, one, other).similarity == expected
    (found,), _ = identify(alone, [one], people("i", 1, seed=3), most=1)
    there = alone.embed([pixels_of(people("i", 1, seed=3), 0)]).double()
    assert found.matches[0].similarity == pytest.approx(float(z[0] @ there[0]), abs=1e-6)


def test_refusals(trained, files):
    with pytest.raises(InputError, match="-k must be at least 1, got 0"):
        identify(trained, [files / "i" / "0.png"], people("ij", 2), most=0)
    with pytest.raises(DataError, match=r"nobody\.png"):
        verify(trained, files / "nobody.png", files / "i" / "0.png")
    with pytest.raises(InputError, match="--far must be one the run was measured at"):
        verify(trained, files / "i" / "0.png", files / "i" / "1.png", far=1e-6)

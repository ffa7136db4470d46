"""A saved metric gives the same numbers, and damage is found."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.neighbors import NeighborhoodComponentsAnalysis

from tupelo.errors import CheckpointError, InputError
from tupelo.tabular import saving
from tupelo.tabular.columns import Columns
from tupelo.tabular.generated import rings
from tupelo.tabular.online.estimator import ODML
from tupelo.tabular.optimal.estimator import MIOMetric
from tupelo.tabular.saving import TableMetric, load, save


@pytest.fixture(scope="module")
def table():
    X, _ = rings(40, np.random.default_rng(0))
    return {f"f{place}": X[:, place] for place in range(4)}


@pytest.fixture
def metric(table):
    columns = Columns.of(table)
    y = np.arange(40) % 2
    nca = NeighborhoodComponentsAnalysis(random_state=0, max_iter=5).fit(columns.encode(table), y)
    return TableMetric(columns, nca, "ring", ("0", "1"), {"method": "nca"})


def test_a_metric_comes_back(metric, table, tmp_path):
    save(metric, tmp_path / "run")
    again = load(tmp_path / "run")
    assert (again.transform(table) == metric.transform(table)).all()
    assert (again.columns, again.target, again.classes) == (metric.columns, "ring", ("0", "1"))
    assert again.about == {"method": "nca"}
    assert again.learner.get_params() == metric.learner.get_params()


def kept(learner, folder):
    columns = Columns.of({"f": np.arange(3.0)})
    save(TableMetric(columns, learner, "y", ("0", "1"), {}), folder)
    return load(folder).learner


@pytest.mark.parametrize("engine", ["numpy", "numba"])
@pytest.mark.parametrize("layer", ["opml", "moml"])
@pytest.mark.parametrize("strategy", ["fp", "fbp"])
def test_a_stream_goes_on_after_it_was_saved(tmp_path, engine, layer, strategy):
    X, y = rings(80, np.random.default_rng(0))
    options = {"layer": layer, "engine": engine, "strategy": strategy, "random_state": 0}
    whole, half = (ODML(2, negative="random", **options) for _ in range(2))
    whole.partial_fit(X[:40], y[:40]).partial_fit(X[40:], y[40:])
    again = kept(half.partial_fit(X[:40], y[:40]), tmp_path)
    again.partial_fit(X[40:], y[40:])
    assert (again.transform(X) == whole.transform(X)).all()
    assert all((a == b).all() for a, b in zip(again.layers_, whole.layers_, strict=True))
    assert again.get_params() == whole.get_params()


@pytest.mark.parametrize("atoms", ["diag", "rank1", "l1+l2", "psd"])
def test_an_optimal_metric_comes_back(tmp_path, atoms):
    X, y = rings(40, np.random.default_rng(0))
    metric = MIOMetric(atoms=atoms, random_state=0, time_limit=5.0).fit(X, y)
    again = kept(metric, tmp_path)
    assert (again.distances(X) == metric.distances(X)).all()
    assert again.report() == metric.report()
    own, other = (each.recommend(X[::3], n=3) for each in (metric, again))
    assert [one.row for one in own] == [one.row for one in other]
    assert [str(one.region) for one in own] == [str(one.region) for one in other]


def test_nothing_is_pickled(metric, tmp_path):
    save(metric, tmp_path)
    names = sorted(path.suffix for path in tmp_path.iterdir())
    assert names == [".json", ".npz"]
    (arrays,) = tmp_path.glob("*.npz")
    with np.load(arrays, allow_pickle=False) as found:
        assert all(found[name].dtype != object for name in found.files)


def test_saving_again_replaces(metric, table, tmp_path):
    save(metric, tmp_path)
    metric.learner.components_ = 2 * metric.learner.components_
    save(metric, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert (load(tmp_path).transform(table) == metric.transform(table)).all()


def test_a_writer_that_dies_leaves_the_old_one(metric, table, tmp_path, monkeypatch):
    save(metric, tmp_path)
    before = metric.transform(table)
    metric.learner.components_ = 2 * metric.learner.components_
    replace = saving._replace

    def dies(path, content):
        if path.name == saving.RECORD:
            raise KeyboardInterrupt
        replace(path, content)

    monkeypatch.setattr(saving, "_replace", dies)
    with pytest.raises(KeyboardInterrupt):
        save(metric, tmp_path)
    assert (load(tmp_path).transform(table) == before).all()


def test_damage_is_found(metric, tmp_path):
    save(metric, tmp_path)
    (arrays,) = tmp_path.glob("*.npz")
    content = bytearray(arrays.read_bytes())
    content[len(content) // 2] ^= 1
    arrays.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is damaged: arrays-.* is not what was written"):
        load(tmp_path)
    arrays.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path)


def test_a_cut_record(metric, tmp_path):
    save(metric, tmp_path)
    record = tmp_path / saving.RECORD
    record.write_text(record.read_text()[:100])
    with pytest.raises(CheckpointError, match=r"cannot be read .*fit again"):
        load(tmp_path)


def test_a_later_format(metric, tmp_path):
    save(metric, tmp_path)
    record = tmp_path / saving.RECORD
    record.write_text(record.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(CheckpointError, match="has format 9, this version reads up to 1"):
        load(tmp_path)


def test_a_file_names_no_other_code(metric, tmp_path):
    save(metric, tmp_path)
    record = tmp_path / saving.RECORD
    values = json.loads(record.read_text())
    for name in ("subprocess:Popen", "tupelo.tabular.saving:save", "os:path"):
        values["learner"]["class"] = name
        record.write_text(json.dumps(values))
        with pytest.raises(CheckpointError, match="is not a class of a saved metric"):
            load(tmp_path)


def test_no_metric_there(tmp_path):
    with pytest.raises(InputError, match=r"holds no tabular.json; give a folder that tupelo"):
        load(tmp_path)


def test_a_learner_that_cannot_be_kept(metric, tmp_path):
    metric.learner.callback = print
    with pytest.raises(InputError, match=r"may hold numbers.* got builtin_function_or_method in"):
        save(metric, tmp_path)
    assert not list(tmp_path.iterdir())


@dataclass(frozen=True)
class Record:
    """A record as learners keep them."""

    name: str
    rows: np.ndarray
    known: dict


def test_all_kinds_of_values_come_back(monkeypatch):
    monkeypatch.setattr(saving, "OURS", __name__)
    rng, old = np.random.default_rng(3), np.random.RandomState(3)
    value = {
        "none": None,
        "numbers": [1, 2.5, float("inf"), True],
        "pair": (np.float64(0.1), np.int64(7)),
        "texts": np.array(["a", "bc"]),
        "mixed": np.array(["a", None, 3], dtype=object),
        "record": Record("r", np.arange(6.0).reshape(2, 3), {3: np.ones(2), "x": ()}),
        "rng": rng,
        "old": old,
    }
    arrays = {}
    packed = json.loads(json.dumps(saving._packed(value, arrays, "v")))
    again = saving._unpacked(packed, arrays)
    assert again["none"] is None
    assert again["numbers"] == value["numbers"]
    assert again["pair"] == value["pair"]
    assert type(again["pair"][0]) is np.float64
    assert again["texts"].tolist() == ["a", "bc"]
    assert again["mixed"].tolist() == ["a", None, 3]
    assert type(again["record"]) is Record
    assert (again["record"].rows == value["record"].rows).all()
    assert again["record"].known["x"] == ()
    assert again["record"].known[3].tolist() == [1, 1]
    assert (again["rng"].random(5) == rng.random(5)).all()
    assert (again["old"].random(5) == old.random(5)).all()

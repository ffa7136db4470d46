"""A fit is measured on rows it did not see, kept, and used on other tables."""

import csv

import numpy as np
import pytest
from sklearn.datasets import load_wine

from tupelo.errors import InputError, MissingExtra
from tupelo.recipes import tabular
from tupelo.recipes.table_writing import as_csv, write_embedding
from tupelo.recipes.tables import Table, labelled, read
from tupelo.tabular.saving import load

X, Y = load_wine(return_X_y=True)
FEW = {"max_iter": 5}


def wine_table(rows=slice(None)):
    columns = {f"f{place}": X[rows, place] for place in range(4)}
    columns["shade"] = np.array(["light" if each > 5 else "dark" for each in X[rows, 9]], object)
    columns["kind"] = np.array([f"k{label}" for label in Y[rows]], dtype=object)
    return Table("wine.csv", columns)


@pytest.fixture(scope="module")
def fitted():
    return tabular.fit(labelled(wine_table(), "kind"), "nca", options=FEW)


def test_what_a_fit_says(fitted):
    assert fitted.X.shape == (178, 5)
    assert fitted.rows == 178
    assert fitted.held_out == 44 or fitted.held_out == 45
    assert 0.5 < fitted.before <= 1
    assert 0.5 < fitted.after <= 1
    assert fitted.metric.classes == ("k0", "k1", "k2")
    assert fitted.metric.about["method"] == "nca"
    assert fitted.notes == ("text became features, one a text: shade 1",)
    assert fitted.depths == ()


def test_held_out_rows_take_no_part():
    """With classes at random, a metric that saw the tested rows would do better than chance."""
    rng = np.random.default_rng(0)
    columns = {f"f{place}": rng.normal(size=300) for place in range(20)}
    columns["y"] = rng.permutation(np.array(["a", "b"] * 150, dtype=object))
    found = tabular.fit(labelled(Table("t", columns), "y"), "nca", options={"max_iter": 20}, k=1)
    assert abs(found.after - 0.5) < 0.15


def test_a_metric_is_kept_and_loaded(fitted, tmp_path):
    tabular.keep(fitted, tmp_path / "run")
    again = load(tmp_path / "run")
    table = wine_table()
    assert (again.transform(table.columns) == fitted.metric.transform(table.columns)).all()
    assert (fitted.transform(fitted.X) == again.transform(table.columns)).all()
    tabular.keep(fitted, tmp_path / "run")  # a metric is replaced, other things are not


def test_a_folder_of_other_things_is_left_alone(fitted, tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="holds other things; name a new folder"):
        tabular.keep(fitted, tmp_path)
    with pytest.raises(InputError, match="is a file; name a folder"):
        tabular.check_place(tmp_path / "thesis.txt")


def test_nothing_is_held_out_when_asked():
    found = tabular.fit(labelled(wine_table(), "kind"), "nca", options=FEW, held_out=0)
    assert (found.before, found.after, found.held_out) == (None, None, 0)


def test_rows_at_most():
    found = tabular.fit(labelled(wine_table(), "kind"), "nca", options=FEW, rows=60)
    assert found.rows <= 60
    assert any("nca was fitted to 5" in note and "of 178 rows" in note for note in found.notes)
    assert found.X.shape[0] == 178


def test_weights_are_the_diagonal_of_m(fitted):
    components = fitted.metric.learner.components_
    diagonal = np.diag(components.T @ components)
    pairs = tabular.weights(fitted.metric)
    assert [name for name, _ in pairs] == [
        fitted.metric.columns.features[place] for place in np.argsort(-diagonal)
    ]
    assert np.allclose([weight for _, weight in pairs], np.sort(diagonal)[::-1])


def test_seeds_are_all_there_is_to_chance():
    one, other = (
        tabular.fit(labelled(wine_table(), "kind"), "nca", options=FEW, seed=3) for _ in range(2)
    )
    assert (one.metric.learner.components_ == other.metric.learner.components_).all()
    assert (one.before, one.after) == (other.before, other.after)


def test_missing_values_and_text_are_told():
    table = wine_table()
    table.columns["f1"][:7] = np.nan
    table.columns["same"] = np.ones(178)
    notes = tabular.fit(labelled(table, "kind"), "nca", options=FEW).notes
    assert "7 missing values became the median or most frequent of their column: f1 7" in notes
    assert "columns with one value or none are left out: same" in notes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "lmnn"}, "--method must be one of odml, opml, mio, nca, got 'lmnn'"),
        ({"method": "ncaa"}, r"no learner is called 'ncaa'; did you mean nca\?"),
        ({"held_out": 1.0}, "--held-out must be at least 0 and below 1, got 1.0"),
        ({"options": {"tool": 1}}, r"--option tool: nca has no such option; did you mean tol\?"),
        ({"k": 0}, "--neighbours must be at least 1, got 0"),
    ],
)
def test_refusals(options, said):
    with pytest.raises(InputError, match=said):
        tabular.fit(labelled(wine_table(), "kind"), **{"method": "nca", **options})


@pytest.mark.parametrize("name", ["z.csv", "z.npz", "z.parquet"])
def test_embeddings_are_written(fitted, tmp_path, name):
    table = wine_table(slice(0, 178, 10))
    path = tmp_path / "new" / name
    assert write_embedding(fitted.metric, table, path) == (18, 5)
    expected = fitted.metric.transform(table.columns)
    if name.endswith("npz"):
        with np.load(path, allow_pickle=False) as found:
            z, labels = found["z"], found["label"]
    elif name.endswith("csv"):
        with path.open() as file:
            header, *rows = csv.reader(file)
        assert header == ["z0", "z1", "z2", "z3", "z4", "kind"]
        z = np.array([[float(cell) for cell in row[:-1]] for row in rows])
        labels = np.array([row[-1] for row in rows])
    else:
        found = read(path)
        z = np.stack([found.columns[f"z{place}"] for place in range(5)], axis=1)
        labels = found.columns["kind"].astype(str)
    assert (z == expected).all()
    assert labels.tolist() == table.columns["kind"].tolist()


def test_embeddings_of_rows_without_classes(fitted, tmp_path):
    table = wine_table().without(["kind"])
    write_embedding(fitted.metric, table, tmp_path / "z.npz")
    with np.load(tmp_path / "z.npz") as found:
        assert found.files == ["z"]


def test_embeddings_elsewhere(fitted, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"z.txt must end in .csv, .npz or .parquet"):
        write_embedding(fitted.metric, wine_table(), tmp_path / "z.txt")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"writing z.parquet needs pyarrow: pip install"):
        write_embedding(fitted.metric, wine_table(), tmp_path / "z.parquet")


def test_csv_cells():
    assert as_csv(["a", "b"], [[None, 'say "x"']]) == b'a,b\n,"say ""x"""\n'


def test_stacks_see_a_constant_feature_unless_nothing_is_scaled():
    table = wine_table()
    found = tabular.fit(labelled(table, "kind"), "opml", held_out=0)
    assert found.metric.columns.features[-1] == "(constant)"
    assert "(constant)" not in dict(tabular.weights(found.metric))
    raw = tabular.fit(labelled(table, "kind"), "opml", held_out=0, standardize=False)
    assert "(constant)" not in raw.metric.columns.features


def test_rows_of_zeros_are_named_by_their_place():
    table = wine_table()
    for name in ("f0", "f1", "f2", "f3"):
        table.columns[name][[7, 9]] = 0.0
    table.columns["shade"][[7, 9]] = "dark"
    table.columns["kind"][2] = None
    found = labelled(table, "kind")
    with pytest.raises(InputError, match="row 8 is all zeros, and rows are divided by their"):
        tabular.fit(found, "odml", standardize=False)
    tabular.fit(found, "odml", held_out=0)

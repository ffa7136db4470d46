"""OASIS against its definition, and as scikit-learn sees it."""

import pickle

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from tupelo.errors import InputError
from tupelo.tabular import OASIS, waveform
from tupelo.tabular.inputs import unit_rows
from tupelo.tabular.online.triplets import Labels, Memory

X, Y = waveform(120, np.random.default_rng(0), noise_features=0)
X = X[:, ::3]
ENGINES = ("numba", "numpy")


@parametrize_with_checks(
    [OASIS(), OASIS(normalize=None, engine="numpy")],
    expected_failed_checks=lambda estimator: (
        {"check_estimators_dtypes": "refuses rows of zeros while normalize='l2'"}
        if estimator.normalize
        else {}
    ),
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("aggressiveness", [0.01, 10.0])
def test_steps_are_those_of_the_definition(engine, aggressiveness):
    memory, codes, W, updates = Memory(7, "author", False, 0), Labels().codes(Y), np.eye(7), 0
    memory.make_room(3)
    for x, code in zip(unit_rows(X), codes.tolist(), strict=True):
        found = memory.pair_up(x, code)
        if found is not None:
            V = np.outer(x, found[0] - found[1])
            loss = 1 - x @ W @ found[0] + x @ W @ found[1]
            if loss > 0:
                W = W + min(aggressiveness, loss / (V**2).sum()) * V
                updates += 1
    learner = OASIS(aggressiveness=aggressiveness, engine=engine).fit(X, Y)
    assert np.allclose(learner.matrix_, W, rtol=0, atol=1e-12)
    assert learner.n_updates_ == updates > 10
    assert learner.n_triplets_ == memory.counts[4]
    unit = unit_rows(X[:4])
    assert np.allclose(learner.similarity(X[:4]), unit @ W @ unit.T)
    assert np.allclose(learner.similarity(X[:4], X[4:6]), unit @ W @ unit_rows(X[4:6]).T)


@pytest.mark.parametrize("engine", ENGINES)
def test_chunks_and_pickling_make_no_difference(engine):
    whole = OASIS(negative="latest", engine=engine).fit(X, Y)
    for size in (1, 7, 100):
        learner = OASIS(negative="latest", engine=engine)
        for start in range(0, len(X), size):
            learner.partial_fit(X[start : start + size], Y[start : start + size])
            if start % 7 == 0:
                learner = pickle.loads(pickle.dumps(learner))
        assert (learner.matrix_ == whole.matrix_).all()
        assert learner.n_samples_seen_ == len(X)
        assert learner.classes_.tolist() == [0, 1, 2]


def test_it_improves_on_the_cosine():
    rng = np.random.default_rng(1)
    rows, labels = waveform(600, rng)
    learner = OASIS(n_scans=5, random_state=0).fit(rows[:300], labels[:300])

    def score(similarity):
        largest = similarity.max()
        votes = KNeighborsClassifier(5, metric="precomputed")
        votes.fit(largest - similarity[:300, :300], labels[:300])
        return votes.score(largest - similarity[300:, :300], labels[300:])

    unit = unit_rows(rows)
    assert score(learner.similarity(rows)) > score(unit @ unit.T) + 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggressiveness": 0}, r"aggressiveness must be a number > 0, got 0"),
        ({"n_scans": 0}, r"n_scans must be a whole number >= 1, got 0"),
        ({"normalize": "l1"}, r"normalize must be 'l2' or None"),
        ({"negative": "hard"}, r"negative must be"),
        ({"engine": "jax"}, r"engine must be"),
    ],
)
def test_options_out_of_range(options, message):
    for call in ("fit", "partial_fit"):
        with pytest.raises(InputError, match=message):
            getattr(OASIS(**options), call)(X, Y)


@pytest.mark.parametrize("engine", ENGINES)
def test_refusals(engine):
    learner = OASIS(engine=engine)
    with pytest.raises(NotFittedError):
        learner.similarity(X)
    assert not hasattr(learner, "matrix_")
    with pytest.raises(InputError, match=r"n_scans=3 needs all rows at once"):
        OASIS(n_scans=3, engine=engine).partial_fit(X, Y)
    with pytest.raises(FloatingPointError, match=r"W became infinite or NaN at triplet 1"):
        OASIS(normalize=None, engine=engine).fit(X * 1e160, Y)
    rows = X.copy()
    rows[5] = 0
    with pytest.raises(InputError, match="row 5 is"):
        learner.fit(rows, Y)
    with pytest.raises(InputError, match=r"normalize must stay 'l2'"):
        learner.partial_fit(X, Y).set_params(normalize=None).partial_fit(X, Y)
    with pytest.warns(UserWarning, match="no triplet could be formed"):
        assert np.array_equal(OASIS(engine=engine).fit(X[:3], [0, 0, 0]).matrix_, np.eye(7))

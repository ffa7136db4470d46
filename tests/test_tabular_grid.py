"""The grid of tables: halves, folds and the choice of gamma."""

import numpy as np
import pytest

import tabular_cells as cells
import tabular_data as data

Y = np.repeat(["a", "b", "c"], [31, 20, 7])


@pytest.mark.parametrize("seed", range(5))
def test_halves_divide_every_class(seed):
    first, second = data.halves(Y, seed)
    assert sorted([*first, *second]) == list(range(58))
    for label in "abc":
        counts = [(Y[half] == label).sum() for half in (first, second)]
        assert abs(counts[0] - counts[1]) <= 1
    assert (data.halves(Y, seed)[0] == first).all()


def test_folds_divide_every_class():
    folds = cells._folds(Y, 0)
    assert sorted(np.concatenate(folds)) == list(range(58))
    for label in "abc":
        counts = [(Y[fold] == label).sum() for fold in folds]
        assert max(counts) - min(counts) <= 1


def test_of_equal_errors_the_smaller_gamma_is_chosen(monkeypatch):
    errors = {1e-4: 0.2, 3e-4: 0.1, 1e-3: 0.1, 3e-3: 0.3, 1e-2: 0.1, 3e-2: 0.4, 1e-1: 0.5}
    monkeypatch.setattr(cells, "fitted_stack", lambda X, y, options, gamma, seed: (gamma, 0.0))
    monkeypatch.setattr(cells, "accuracy", lambda gamma, *_: 1 - errors[gamma])
    assert cells.choose(np.zeros((58, 2)), Y, {}, 0) == 3e-4


def test_a_gamma_at_which_layers_run_away_is_not_chosen(monkeypatch):
    def fitted(X, y, options, gamma, seed):
        if gamma > 1e-4:
            raise FloatingPointError
        return gamma, 0.0

    monkeypatch.setattr(cells, "fitted_stack", fitted)
    monkeypatch.setattr(cells, "accuracy", lambda *_: 0.1)
    assert cells.choose(np.zeros((58, 2)), Y, {}, 0) == 1e-4

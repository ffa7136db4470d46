"""IDF1: the golden sequence, and the assignment with rows for unpaired tracks as an oracle."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from tupelo.evaluation import Identity, identity

from .toy_tracks import RESULT, TRUTH, tracks
from .tracking_peers import random_sequence, similarity


def test_the_golden_sequence():
    found = identity(TRUTH, RESULT)
    assert found == Identity(idtp=7, idfp=4, idfn=4)
    assert found.idf1 == found.idp == found.idr == pytest.approx(0.636364, abs=5e-7)


def test_nothing_on_either_side():
    none = tracks([])
    assert identity(TRUTH, none) == Identity(0, 0, 11)
    assert identity(none, RESULT) == Identity(0, 11, 0)
    assert identity(none, none).idf1 == 0


def by_square(truth, result) -> tuple[int, int]:
    """Misses and false positives of the published cost matrix."""
    g_ids, h_ids = np.unique(truth.ids), np.unique(result.ids)
    n, m = len(g_ids), len(h_ids)
    fn, fp = np.zeros((n + m, n + m)), np.zeros((n + m, n + m))
    fn[:n, m:], fp[n:, :m] = 1e10, 1e10
    for i, g in enumerate(g_ids):
        fn[i, :m] = fn[i, m + i] = (truth.ids == g).sum()
    for j, h in enumerate(h_ids):
        fp[:n, j] = fp[n + j, j] = (result.ids == h).sum()
        for i, g in enumerate(g_ids):
            mine, its = truth.ids == g, result.ids == h
            iou = similarity(truth.boxes[mine], result.boxes[its])
            iou *= truth.frames[mine][:, None] == result.frames[its]
            fn[i, j] -= (iou >= 0.5).sum()
            fp[i, j] -= (iou >= 0.5).sum()
    rows, columns = linear_sum_assignment(fn + fp)
    return int(fn[rows, columns].sum()), int(fp[rows, columns].sum())


@pytest.mark.parametrize("seed", range(15))
def test_no_rows_for_unpaired_tracks_are_needed(seed):
    truth, result = random_sequence(seed)
    found = identity(truth, result)
    assert (found.idfn, found.idfp) == by_square(truth, result)
    assert found.idtp + found.idfn == len(truth)

"""Who is compared with whom."""

import numpy as np
import pytest

from tupelo.errors import InputError
from tupelo.tabular.online.engine import CompiledStack
from tupelo.tabular.online.loops import Group, collect
from tupelo.tabular.online.triplets import SEED, TRIPLETS, Labels, Memory, mixed, unit_row


def numbered(memory, labels, first=0):
    """The triplets of a stream whose samples are their own numbers, as (t, p, q)."""
    found = []
    for t, label in enumerate(labels, first):
        sample = np.array([float(t), 1.0])
        triplet = memory.pair_up(sample, label)
        if triplet is not None:
            found.append((t, int(triplet[0][0]), int(triplet[1][0])))
    return found


def compiled(memory, labels, cuts=()):
    """The same of the compiled loop, the stream cut into pieces."""
    X = np.stack([np.arange(len(labels)), np.ones(len(labels))], axis=1).astype(float)
    group, found = Group(np.zeros((9, 2)), np.zeros(3, bool)), []
    start = 0
    for cut in [*cuts, len(labels)]:
        piece, codes = X[start:cut], np.array(labels[start:cut])
        done = 0
        while done < len(piece):
            done, m = collect(
                *(piece, codes, done, memory.latest, memory.counts, memory.negative),
                *(memory.cold_start, False, False, group),
            )
            rows = group.rows[: 3 * m, 0].reshape(m, 3)
            found += [tuple(row) for row in rows.astype(int).tolist()]
        start = cut
    return found


def make(negative="author", cold_start=False, classes=8):
    memory = Memory(2, negative, cold_start, seed=3)
    memory.make_room(classes)
    return memory


def oracle(labels, negative="author"):
    """The definition, read from the whole list of earlier labels."""
    found = []
    for t, label in enumerate(labels):
        past = labels[:t]
        last = {c: max(i for i in range(t) if past[i] == c) for c in set(past)}
        order = sorted(last, key=past.index)
        if label not in last or len(order) < 2:
            continue
        if past[-1] != label:
            found.append((t, last[label], t - 1))
        elif negative == "author":
            other = order[-1] if order[-1] != label else order[-2]
            found.append((t, t - 1, last[other]))
        else:
            found.append((t, t - 1, max(i for c, i in last.items() if c != label)))
    return found


GOLDEN = {
    ("author", (0, 0, 1, 1, 2, 0, 2, 1, 1, 0)): [
        *((3, 2, 1), (5, 1, 4), (6, 4, 5), (7, 3, 6), (8, 7, 6), (9, 5, 8))
    ],
    ("author", (0, 1, 2, 1, 0, 0)): [(3, 1, 2), (4, 0, 3), (5, 4, 2)],
    ("latest", (0, 1, 2, 1, 0, 0)): [(3, 1, 2), (4, 0, 3), (5, 4, 3)],
}


@pytest.mark.parametrize(("negative", "labels"), GOLDEN)
@pytest.mark.parametrize("run", [numbered, compiled])
def test_triplets_of_the_specification(negative, labels, run):
    assert run(make(negative), list(labels)) == GOLDEN[negative, labels]


@pytest.mark.parametrize("negative", ["author", "latest"])
@pytest.mark.parametrize("run", [numbered, compiled])
def test_triplets_are_those_of_the_definition(negative, run):
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels = discovered(rng.integers(rng.integers(1, 6), size=60))
        assert run(make(negative), labels) == oracle(labels, negative)


def discovered(labels):
    """Classes numbered in the order of their discovery."""
    names = Labels()
    return names.codes(np.asarray(labels)).tolist()


def test_how_many_triplets_there_are():
    labels = [0, 0, 0, 1, 0, 1, 2, 2, 1]
    memory = make()
    # T - C - samples of the first class between its first and the second class
    assert len(numbered(memory, labels)) == 9 - 3 - 2
    assert memory.counts[TRIPLETS] == 4


@pytest.mark.parametrize("cuts", [(1,), (3, 4), (7, 20, 21)])
def test_a_stream_may_be_cut(cuts):
    labels = discovered(np.random.default_rng(1).integers(4, size=50))
    for negative in ("author", "latest", "random"):
        whole = compiled(make(negative), labels)
        assert compiled(make(negative), labels, cuts) == whole
        assert numbered(make(negative), labels) == whole


def test_random_negatives_are_of_any_other_class():
    labels = discovered([0, 1, 2, 3] + [3, 3, 3, 2, 2, 2, 1, 1, 1, 0, 0] * 40)
    found = numbered(make("random"), labels)
    assert len(found) == len(labels) - 4
    for t, p, q in found:
        assert labels[p] == labels[t] != labels[q]
    negatives = [labels[q] for t, p, q in found if labels[t] == 3 and p == t - 1]
    assert min(np.bincount(negatives, minlength=4)[:3]) > 20
    other = make("random")
    other.counts[SEED] = 4
    assert numbered(other, labels) != found


def test_numbers_of_places_are_known():
    # the first two of SplitMix64 with seed 0, Steele et al.
    assert mixed(0, 0) == 0xE220A8397B1DCDAF
    assert len({mixed(7, i) for i in range(1000)}) == 1000


@pytest.mark.parametrize("run", [numbered, compiled])
def test_pairs_of_a_cold_start(run):
    memory = make(cold_start=True)
    found = run(memory, [0, 0, 0, 1, 1])
    assert found == [(1, 0, 1), (2, 1, 2), (4, 3, 2)]
    assert memory.counts[TRIPLETS] == 1


def test_room_for_classes_keeps_what_is_there():
    memory = Memory(2, "author", False, 0)
    numbered(memory, [0, 1])
    memory.make_room(100)
    assert memory.latest.shape[0] >= 100
    assert memory.latest[1].tolist() == [1.0, 1.0]
    memory.forget()
    assert numbered(memory, [0, 1], first=5) == []


@pytest.mark.parametrize("scale", [1.0, 1e200, 1e-200, 5e-324])
def test_rows_of_any_size_become_unit_rows(scale):
    row = np.array([3.0, 4.0]) * scale
    with np.errstate(over="ignore"):
        assert unit_row(row) == pytest.approx([0.6, 0.8], rel=1e-15)
    group = Group(np.zeros((3, 8)), np.zeros(1, bool))
    memory = Memory(CompiledStack("opml", 1, 2, "relu", "fp").width, "author", False, 0)
    collect(row[None], np.array([0]), 0, memory.latest, memory.counts, 0, False, True, True, group)
    assert memory.latest[0, :2] == pytest.approx([0.6, 0.8], rel=1e-15)


class TestLabels:
    def test_codes_are_in_the_order_of_discovery(self):
        labels = Labels()
        assert labels.codes(np.array(["b", "a", "b", "c"])).tolist() == [0, 1, 0, 2]
        assert labels.codes(np.array(["c"])).tolist() == [2]
        assert labels.codes(np.array(["d", "a"])).tolist() == [3, 1]
        assert labels.ordered.tolist() == ["a", "b", "c", "d"]

    @pytest.mark.parametrize("chunk", [1, 3, 50])
    @pytest.mark.parametrize("kind", [int, str, float, bool, object])
    def test_chunks_make_no_difference(self, chunk, kind):
        y = np.random.default_rng(0).integers(2 if kind is bool else 7, size=50).astype(kind)
        labels = Labels()
        parts = [labels.codes(y[i : i + chunk]) for i in range(0, 50, chunk)]
        seen: list = []
        for name in y.tolist():
            if name not in seen:
                seen.append(name)
        assert np.concatenate(parts).tolist() == [seen.index(name) for name in y.tolist()]
        assert labels.ordered.dtype.kind == y.dtype.kind
        assert labels.ordered.tolist() == sorted(seen)

    def test_labels_of_two_kinds_are_refused(self):
        labels = Labels()
        labels.codes(np.array([1, 2]))
        with pytest.raises(InputError, match=r"labels of one kind, got <U1 beside int64"):
            labels.codes(np.array(["a"]))

import numpy as np

from tupelo.tracking.galleries import Galleries


def unit(rng, count, width=5):
    rows = rng.standard_normal((count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_equals_lists():
    rng = np.random.default_rng(0)
    galleries, lists, places = Galleries(3), {}, np.zeros(0, dtype=np.int64)
    for step in range(200):
        if rng.random() < 0.4:
            new = galleries.opened(int(rng.integers(1, 4)))
            assert not set(new.tolist()) & set(places.tolist())
            lists |= {place: [] for place in new.tolist()}
            places = np.concatenate([places, new])
        if len(places) > 4 and rng.random() < 0.6:
            gone = rng.choice(len(places), 2, replace=False)
            galleries.close(places[gone])
            places = np.delete(places, gone)
        some = places[rng.random(len(places)) < 0.5]
        rows = unit(rng, len(some))
        galleries.add(some, rows)
        for place, row in zip(some.tolist(), rows, strict=True):
            lists[place] = [*lists[place], row][-3:]
        asked = unit(rng, 4)
        if step % 3 == 0:
            asked[1] = np.nan
        wanted = rng.random((len(places), 4)) < 0.6
        expected = np.full(wanted.shape, np.inf)
        for i, place in enumerate(places.tolist()):
            for j in range(4):
                if wanted[i, j] and lists[place] and not np.isnan(asked[j]).any():
                    expected[i, j] = min(1 - row @ asked[j] for row in lists[place])
        found = galleries.distances(places, asked, wanted)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        lengths = [len(lists[place]) for place in places.tolist()]
        assert galleries.lengths(places).tolist() == lengths
    assert galleries.places <= 64  # of about 160 that were opened

import numpy as np
import pytest

from tupelo.data.listing import GALLERY, TEST, TRAIN, VALIDATION, Listing
from tupelo.data.pictures import ArrayPictures
from tupelo.data.splits import assign
from tupelo.errors import DataError, InputError


def listing(labels, *, groups=None, given=None):
    labels = np.asarray(labels)
    n_classes = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
    return Listing(
        ArrayPictures(np.zeros((len(labels), 2, 2), np.uint8)),
        [str(row) for row in range(len(labels))],
        labels,
        [f"c{number}" for number in range(n_classes)],
        groups=None if groups is None else np.asarray(groups),
        given=None if given is None else np.asarray(given),
    )


def split(source, how=None, *, validation=0.2, test=0.2, seed=0):
    return assign(source, split=how, validation=validation, test=test, seed=seed)


def classes_of(labels, parts):
    return [set(labels[parts == part].tolist()) for part in (TRAIN, VALIDATION, TEST)]


TEN = np.repeat(np.arange(10), 5)


@pytest.mark.parametrize("how", [None, "classes"])
def test_classes_are_disjoint_and_shares_are_of_classes(how):
    parts = split(listing(TEN), how)
    assert [len(side) for side in classes_of(TEN, parts)] == [6, 2, 2]
    assert np.array_equal(parts, split(listing(TEN), how))
    assert not np.array_equal(parts, split(listing(TEN), how, seed=1))


def test_zero_shares():
    assert (split(listing(TEN), validation=0, test=0) == TRAIN).all()


def test_groups_tie_classes():
    groups = np.where(TEN < 4, 0, -1)  # classes 0..3 only ever move together
    for seed in range(10):
        sides = classes_of(TEN, split(listing(TEN, groups=groups), seed=seed, test=0.4))
        assert sum(bool(side & {0, 1, 2, 3}) for side in sides) == 1
        assert set.union(*sides) == set(range(10))


def test_tags_are_disjoint_and_items_without_a_tag_follow_their_group():
    tags = np.zeros((44, 10), bool)
    tags[np.arange(40), np.arange(40) // 4] = True
    tags[:4, 1] = True  # shared tags tie classes 0 and 1
    groups = np.r_[np.arange(40) // 4, 2, 3, 4, 5]
    for seed in range(10):
        parts = split(listing(tags, groups=groups), "classes", seed=seed)
        sides = [set(np.flatnonzero(tags[parts == part].any(axis=0))) for part in range(3)]
        assert sum(map(len, sides)) == len(set.union(*sides)) == 10
        assert any({0, 1} <= side for side in sides)
        assert parts[40:].tolist() == parts[[8, 12, 16, 20]].tolist()


def test_groups_that_tie_everything():
    with pytest.raises(DataError, match=r'groups or shared tags tie all classes.*split="items"'):
        split(listing(TEN, groups=np.zeros(50, int)))


def test_items_of_every_class_are_shared_out():
    labels = np.repeat(np.arange(5), 10)
    parts = split(listing(labels), "items")
    for label in range(5):
        assert np.bincount(parts[labels == label]).tolist() == [6, 2, 2]


def test_items_keep_groups_whole():
    labels = np.repeat(np.arange(4), 30)
    groups = np.arange(120) // 3
    groups[::7] = -1
    groups[[5, 65]] = 999  # across classes
    for seed in range(5):
        parts = split(listing(labels, groups=groups), "items", seed=seed)
        for group in np.unique(groups[groups >= 0]):
            assert len(set(parts[groups == group].tolist())) == 1
        assert np.bincount(parts, minlength=3)[1:].min() >= 20


def test_items_of_tags():
    tags = np.random.default_rng(0).random((100, 6)) < 0.4
    parts = split(listing(tags), "items")
    assert np.bincount(parts).tolist() == [60, 20, 20]


def test_given_takes_validation_classes_out_of_training():
    given = np.where(TEN < 6, TRAIN, TEST)
    for how in (None, "given", "classes"):
        parts = split(listing(TEN, given=given), how, validation=0.34)
        train, validation, test = classes_of(TEN, parts)
        assert test == {6, 7, 8, 9}
        assert len(validation) == 2
        assert train | validation == set(range(6))


def test_given_with_shared_classes_takes_validation_items():
    given = np.tile([0, 0, 0, 0, 2, 2], 5)
    labels = np.repeat(np.arange(5), 6)
    parts = split(listing(labels, given=given), validation=0.5)
    assert (parts[given == TEST] == TEST).all()
    assert np.bincount(labels[parts == VALIDATION]).tolist() == [2] * 5


def test_given_with_shared_classes_can_be_split_by_class():
    given = np.tile([0, 0, 0, 2, 2], 10)
    sides = classes_of(TEN, split(listing(TEN, given=given), "classes"))
    assert sum(map(len, sides)) == 10


def test_given_validation_is_kept():
    given = np.repeat([0, 0, 0, 0, 0, 1, 1, 2, 2, 2], 5)
    assert np.array_equal(split(listing(TEN, given=given)), given)


def test_mapping_of_class_names():
    parts = split(listing(TEN), {"test": ["c1", "c2"], "validation": ["c3", "c4"]})
    assert classes_of(TEN, parts) == [{0, 5, 6, 7, 8, 9}, {3, 4}, {1, 2}]
    train, validation, test = classes_of(TEN, split(listing(TEN), {"test": ["c1", "c2"]}))
    assert len(validation) == 2
    assert test == {1, 2}
    assert len(train) == 6


def test_mapping_leaves_out_what_it_does_not_name():
    parts = split(listing(TEN), {"train": ["c1", "c2"], "val": ["c3", "c4"], "test": ["c5", "c6"]})
    assert classes_of(TEN, parts) == [{1, 2}, {3, 4}, {5, 6}]
    assert (parts[TEN == 0] == -1).all()


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("folds", InputError, r'split must be "classes", "items", "given", "none", None or'),
        ("given", DataError, r'split="given" needs a source that splits itself'),
        ({"query": ["c1"]}, InputError, "split names the part 'query'; parts are"),
        ({"test": ["x"]}, InputError, r"split\['test'\] names the class 'x', which is not there"),
        ({"test": ["c1", "c1"]}, InputError, "names the class 'c1' twice; parts share no class"),
        ({"test": ["c1"]}, DataError, "the test part must hold at least 2 classes with 2 pict"),
    ],
)
def test_refusals(how, error, message):
    with pytest.raises(error, match=message):
        split(listing(TEN), how)


def test_mapping_of_tags_is_refused():
    with pytest.raises(InputError, match="needs one label an item"):
        split(listing(np.ones((4, 3), bool)), {"test": ["c1"]})


def test_shares_out_of_range():
    with pytest.raises(
        InputError, match=r"must be shares >= 0 with a sum below 1, got 0.5 and 0.6"
    ):
        split(listing(TEN), validation=0.5, test=0.6)


@pytest.mark.parametrize(
    ("labels", "how", "shares", "message"),
    [
        (
            np.repeat([0, 1, 2], 5),
            "classes",
            (0.2, 0.2),
            "3 classes are left for the test part and for training, which need 2 each; add",
        ),
        (np.repeat([0, 1, 2, 3, 4], 5), "classes", (0.2, 0.2), "3 classes are left for the valid"),
        (
            np.repeat([0, 1, 2], 5),
            "items",
            (0.2, 0.4),
            r"the validation part must hold .* holds 3 classes \(c0: 1, c1: 1, c2: 1\); of 3 "
            "classes in all; give it more with validation=, do without it by validation=0, or",
        ),
        (np.repeat([0, 1, 2], 5), "items", (0.4, 0.4), "the train part .* set the shares valid"),
        (
            np.repeat(np.arange(9), 1),
            "classes",
            (0.2, 0.2),
            r"the train part .* of 9 clas",
        ),
    ],
)
def test_too_small_parts_say_what_to_do(labels, how, shares, message):
    with pytest.raises(DataError, match=message):
        split(listing(labels), how, validation=shares[0], test=shares[1])


def test_large_bundles_of_classes_are_set_apart_whole():
    groups = TEN // 5  # classes 0..4 and 5..9
    sides = classes_of(TEN, split(listing(TEN, groups=groups), validation=0))
    assert sorted(map(len, sides)) == [0, 5, 5]


# Six classes train; four are queries and gallery.
SEARCHED = np.where(TEN < 6, TRAIN, np.where(np.arange(50) % 5 < 2, TEST, GALLERY))


@pytest.mark.parametrize("how", [None, "given", "classes"])
def test_a_gallery_is_kept(how):
    parts = split(listing(TEN, given=SEARCHED), how, validation=0.34)
    for part in (TEST, GALLERY):
        assert np.array_equal(parts == part, part == SEARCHED)
    train, validation, _ = classes_of(TEN, parts)
    assert len(validation) == 2
    assert train | validation == set(range(6))


def test_other_splits_pool_the_gallery():
    many, given = np.repeat(TEN, 2), np.repeat(SEARCHED, 2)
    for how in ("items", {"test": ["c1", "c2"]}, "none"):
        assert not (split(listing(many, given=given), how) == GALLERY).any()
    shared = np.tile([0, 0, 0, 2, 3], 10)  # the classes of queries and gallery also train
    parts = split(listing(TEN, given=shared), "classes")
    assert set(parts.tolist()) == {TRAIN, VALIDATION, TEST}
    shared = np.repeat(shared, 2)
    kept = split(listing(many, given=shared), validation=0.34)
    assert (kept[shared == 3] == GALLERY).all()


def test_one_picture_a_class_is_enough_to_be_searched():
    given = np.where(TEN < 6, TRAIN, np.where(np.arange(50) % 5 == 0, GALLERY, TEST))
    assert (split(listing(TEN, given=given)) == GALLERY).sum() == 4


def test_a_gallery_that_answers_no_query():
    given = np.select([TEN < 6, TEN < 8], [TRAIN, TEST], GALLERY)
    with pytest.raises(
        DataError,
        match="queries and gallery must share at least 2 classes, matched by name: 2 classes of "
        "queries, 2 of the gallery, 0 of both",
    ):
        split(listing(TEN, given=given))


def test_groups_on_both_sides_of_a_given_split(caplog):
    given = np.where(TEN < 6, TRAIN, TEST)
    groups = np.full(50, -1)
    groups[[3, 4, 40, 41]] = 7
    groups[[10, 45]] = 8
    groups[[20, 21]] = 9
    source = listing(TEN, groups=groups, given=given)
    counts = r"2 groups have pictures on both sides \(3 in training, 3 in test\)"
    with pytest.raises(DataError, match=rf'"classes" keeps the test side .*, but {counts}; use'):
        split(source, "classes")
    assert caplog.messages == []
    assert np.array_equal(split(source, validation=0), given)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("the split is kept as given, but 2 groups have pictures")
    caplog.clear()
    split(source, {"test": ["c2", "c3"]}, validation=0)
    assert "1 groups have pictures on both sides (1 in training, 1 in test)" in caplog.text


def test_mapping_does_not_know_queries():
    with pytest.raises(InputError, match="split names the part 'gallery'; parts are"):
        split(listing(TEN), {"gallery": ["c1"]})

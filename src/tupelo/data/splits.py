"""Which pictures train, which choose, which judge: seeded splits by class, by item, or as given."""

import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from tupelo.data.listing import (
    GALLERY,
    PART_NAMES,
    TEST,
    TRAIN,
    VALIDATION,
    Listing,
    class_counts,
)
from tupelo.errors import DataError, InputError

log = logging.getLogger(__name__)
Split = str | Mapping[str, Iterable[str]] | None
_WORDS = ("train", "validation", "test")


def assign(
    listing: Listing, *, split: Split, validation: float | int, test: float | int, seed: int
) -> np.ndarray:
    """The part of each picture, int64 `(n,)`: 0 train, 1 validation, 2 test, 3 gallery.

    Only a source that names a gallery has one; its test pictures are then queries. It is kept as
    it is by "given", and by "classes" where none of its classes trains; every other split pools
    queries and gallery with the rest.

    Args:
        listing: pictures, labels, groups and the source's own split.
        split: "classes" shares no class between parts; an official test side of other classes is
            kept. "items" splits each class. "given" is the source's own, validation taken out of
            its training side when it has none. "none": all train, whatever the classes. A mapping
            from part to class names. None: "given" where the source has one, else "classes".
            A given split and a mapping may divide a group, which is logged.
        validation: share of classes (or of each class's items), out of what trains.
        test: the same; not used where the test side is given.
        seed: of the draw.

    Raises:
        InputError: an unknown split, or shares that leave nothing to train on.
        DataError: a part has fewer than 2 classes with 2 pictures, groups or tags tie everything
            together, or "classes" would keep a given test side that divides a group; there is no
            given split; or a gallery shares fewer than 2 classes with its queries.
    """
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise InputError(
            "validation and test must be shares >= 0 with a sum below 1, got "
            f"{validation} and {test}"
        )
    if split is None:
        split = "classes" if listing.given is None else "given"
    if split == "none":
        return np.full(len(listing.names), TRAIN, dtype=np.int64)
    rng = np.random.default_rng(seed)
    if isinstance(split, Mapping):
        parts = _by_names(listing, split, validation, rng)
    elif split == "classes":
        parts = _by_classes(listing, validation, test, rng)
    elif split == "items":
        everything = np.full(len(listing.names), TRAIN, dtype=np.int64)
        parts = _take_items(listing, everything, {TEST: test, VALIDATION: validation}, rng)
    elif split == "given":
        parts = _as_given(listing, validation, rng)
    else:
        raise InputError(
            'split must be "classes", "items", "given", "none", None or a mapping from "train", '
            f'"validation", "test" to class names, got {split!r}'
        )
    _check(listing, parts, split)
    crossing = divided_groups(listing, parts)
    if crossing:
        log.warning("the split is kept as given, but %s", crossing)
    return parts


def _by_classes(
    listing: Listing, validation: float | int, test: float | int, rng: np.random.Generator
) -> np.ndarray:
    parts = np.full(len(listing.names), TRAIN, dtype=np.int64)
    if listing.given is not None and not _shares_classes(listing, listing.given):
        for part in (TEST, GALLERY):
            parts[listing.given == part] = part
        crossing = divided_groups(listing, parts)
        if crossing:
            raise DataError(
                f'split="classes" keeps the test side of the source, but {crossing}; use '
                'split="given" to accept that, or give those pictures other groups'
            )
    else:
        parts = _take_classes(listing, parts, TEST, test, rng)
    return _take_classes(listing, parts, VALIDATION, validation, rng)


def _as_given(listing: Listing, validation: float | int, rng: np.random.Generator) -> np.ndarray:
    if listing.given is None:
        raise DataError(
            'split="given" needs a source that splits itself: train / test folders or a split '
            'column; this one does not, use split="classes" or split="items"'
        )
    parts = listing.given.copy()
    if (parts == VALIDATION).any():
        return parts
    if _shares_classes(listing, parts):
        return _take_items(listing, parts, {VALIDATION: validation}, rng)
    return _take_classes(listing, parts, VALIDATION, validation, rng)


def _by_names(
    listing: Listing,
    split: Mapping[str, Iterable[str]],
    validation: float | int,
    rng: np.random.Generator,
) -> np.ndarray:
    known = {name: number for number, name in enumerate(listing.class_names)}
    of_class = np.full(len(known), -1, dtype=np.int64)
    for word, names in split.items():
        if word not in PART_NAMES:
            raise InputError(
                f'split names the part {word!r}; parts are "train", "validation", "test"'
            )
        for name in names:
            if name not in known:
                raise InputError(f"split[{word!r}] names the class {name!r}, which is not there")
            if of_class[known[name]] >= 0:
                raise InputError(f"split names the class {name!r} twice; parts share no class")
            of_class[known[name]] = PART_NAMES[word]
    if TRAIN not in of_class:
        of_class[of_class < 0] = TRAIN  # whatever is not named trains
    if listing.labels.ndim == 2:
        raise InputError('split by class names needs one label an item; use split="items"')
    parts = of_class[listing.labels]
    if not (parts == VALIDATION).any():
        parts = _take_classes(listing, parts, VALIDATION, validation, rng)
    return parts


def _take_classes(
    listing: Listing, parts: np.ndarray, part: int, share: float | int, rng: np.random.Generator
) -> np.ndarray:
    """Move a share of the training classes to `part`; classes tied by a group move together."""
    if share == 0:
        return parts
    rows = np.flatnonzero(parts == TRAIN)
    tied = _tied_classes(listing, rows)
    present = np.flatnonzero(class_counts(listing.labels[rows], len(listing.class_names)))
    bundles = [present[tied[present] == bundle] for bundle in np.unique(tied[present])]
    if len(bundles) == 1 < len(present):
        raise DataError(
            "groups or shared tags tie all classes together, so that no class can be set apart; "
            'use split="items"'
        )
    if len(present) < 4:
        raise DataError(
            f"{len(present)} classes are left for the {_WORDS[part]} part and for training, which "
            'need 2 each; add classes, use split="items", which shares the classes, or do without '
            f"that part by {_WORDS[part]}=0"
        )
    wanted = max(2, round(share * len(present)))
    moved: list[int] = []
    shuffled = [bundles[place] for place in rng.permutation(len(bundles))]
    for bundle in shuffled:
        if len(moved) + len(bundle) <= wanted:
            moved += bundle.tolist()
    if len(moved) < 2:  # every bundle is larger than the share: the smallest comes nearest
        moved = min(shuffled, key=len).tolist()
    chosen = np.zeros(len(listing.class_names), dtype=np.bool_)
    chosen[moved] = True
    labels = listing.labels[rows]
    hit = labels[:, chosen].any(axis=1) if labels.ndim == 2 else chosen[labels]
    if listing.groups is not None:  # items without a tag follow their group
        groups = listing.groups[rows]
        hit |= (groups >= 0) & np.isin(groups, groups[hit])
    parts = parts.copy()
    parts[rows[hit]] = part
    return parts


def _tied_classes(listing: Listing, rows: np.ndarray) -> np.ndarray:
    """Number of the bundle of each class: classes joined by a group or by an item's tags."""
    n = len(listing.class_names)
    labels = listing.labels[rows]
    if labels.ndim == 2:
        item, tag = np.nonzero(labels)
    else:
        item, tag = np.arange(len(rows)), labels
    node, n_nodes = item, len(rows)
    if listing.groups is not None:
        groups = listing.groups[rows]
        alone = groups < 0
        node = np.where(alone, np.arange(len(rows)) + groups.max(initial=-1) + 1, groups)[item]
        n_nodes = int(node.max(initial=0)) + 1
    ones = np.ones(len(tag), dtype=np.int8)
    graph = coo_matrix((ones, (tag, n + node)), shape=(n + n_nodes, n + n_nodes))
    return connected_components(graph, directed=False)[1][:n]


def _take_items(
    listing: Listing, parts: np.ndarray, shares: Mapping[int, float | int], rng: np.random.Generator
) -> np.ndarray:
    """Move a share of each class's training items to each part, whole groups at a time."""
    parts = parts.copy()
    n = len(parts)
    groups = np.full(n, -1, dtype=np.int64) if listing.groups is None else listing.groups
    atoms = np.where(groups < 0, np.arange(n) + groups.max(initial=-1) + 1, groups)
    # Tags overlap, so multi-label items are drawn as if they were of one class.
    labels = listing.labels if listing.labels.ndim == 1 else np.zeros(n, dtype=np.int64)
    rows = np.flatnonzero(parts == TRAIN)
    order = rows[np.lexsort((rng.permutation(len(rows)), labels[rows]))]
    members: dict[int, list[int]] = {}
    for row in rows.tolist():
        members.setdefault(int(atoms[row]), []).append(row)
    placed: set[int] = set()
    for same_class in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        for part, share in shares.items():
            missing = round(share * len(same_class)) - int((parts[same_class] == part).sum())
            for row in same_class.tolist():
                atom = int(atoms[row])
                if missing <= 0:
                    break
                if atom not in placed:
                    placed.add(atom)
                    parts[members[atom]] = part
                    missing -= sum(1 for other in members[atom] if labels[other] == labels[row])
        # What this class did not give away trains, also where later classes share its groups.
        placed.update(int(atom) for atom in atoms[same_class])
    return parts


def divided_groups(listing: Listing, parts: np.ndarray) -> str:
    """How many groups have pictures both in training or validation and in test, or nothing."""
    if listing.groups is None:
        return ""
    judged = (parts == TEST) | (parts == GALLERY)
    both = np.intersect1d(listing.groups[judged], listing.groups[~judged])
    both = both[both >= 0]
    if not len(both):
        return ""
    inside = np.isin(listing.groups, both)
    return (
        f"{len(both)} groups have pictures on both sides ({int((inside & ~judged).sum())} in "
        f"training, {int((inside & judged).sum())} in test)"
    )


def _shares_classes(listing: Listing, parts: np.ndarray) -> bool:
    n = len(listing.class_names)
    judged = (parts == TEST) | (parts == GALLERY)
    learned = (parts == TRAIN) | (parts == VALIDATION)
    present = [class_counts(listing.labels[rows], n) > 0 for rows in (judged, learned)]
    return bool((present[0] & present[1]).any())


def _check(listing: Listing, parts: np.ndarray, split: Split) -> None:
    searched = (parts == GALLERY).any()
    if searched:
        _check_gallery(listing, parts)
    for part, word in enumerate(_WORDS):
        chosen = parts == part
        if (part == TEST and searched) or (part != TRAIN and not chosen.any()):
            continue
        counts = class_counts(listing.labels[chosen], len(listing.class_names))
        if (counts >= 2).sum() < 2:
            if part == TRAIN:
                advice = "set the shares validation and test lower, or add classes or pictures"
            else:
                advice = (
                    f"give it more with {word}=, do without it by {word}=0, or split the other "
                    'way: "classes" keeps classes whole, "items" shares them'
                )
            raise DataError(
                f"the {word} part must hold at least 2 classes with 2 pictures, it holds "
                f"{_show(listing.class_names, counts)}; of {len(listing.class_names)} classes in "
                f"all; {advice}"
            )


def _check_gallery(listing: Listing, parts: np.ndarray) -> None:
    n = len(listing.class_names)
    queries, gallery = (
        class_counts(listing.labels[parts == part], n) > 0 for part in (TEST, GALLERY)
    )
    if (queries & gallery).sum() < 2:
        raise DataError(
            "queries and gallery must share at least 2 classes, matched by name: "
            f"{int(queries.sum())} classes of queries, {int(gallery.sum())} of the gallery, "
            f"{int((queries & gallery).sum())} of both"
        )


def _show(names: Sequence[str], counts: np.ndarray) -> str:
    present = np.flatnonzero(counts)
    shown = ", ".join(f"{names[place]}: {counts[place]}" for place in present[:5])
    more = f" and {len(present) - 5} more" if len(present) > 5 else ""
    return f"{len(present)} classes ({shown}{more})"

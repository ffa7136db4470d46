"""PKU VehicleID: train_test_split/*.txt and image/."""

from pathlib import Path

import numpy as np

from tupelo.data.listing import Listing
from tupelo.data.official.layout import (
    Asked,
    Audit,
    Layout,
    Row,
    first_place,
    listing_of,
    read_table,
)

VARIANTS = {"small": 800, "medium": 1600, "large": 2400}
_TRAIN = "train_test_split/train_list.txt"


def rows(root: Path, variant: str = "small", seed: int = 0) -> list[Row]:
    """The training list, and one of the test lists drawn into queries and gallery.

    One random picture of each vehicle goes to the gallery, all others are queries. Papers repeat
    the draw ten times and average, which is `seed` 0 to 9 here; some draw the other way round.

    Raises:
        DataError: a list is missing or damaged.
    """
    tested = _listed(root, _test_list(variant))
    rng = np.random.default_rng(seed)
    by_vehicle: dict[str, list[int]] = {}
    for place, (_, vehicle) in enumerate(tested):
        by_vehicle.setdefault(vehicle, []).append(place)
    chosen = {by_vehicle[vehicle][rng.integers(len(by_vehicle[vehicle]))] for vehicle in by_vehicle}
    return [
        *(Row(path, vehicle, "train") for path, vehicle in _listed(root, _TRAIN)),
        *(
            Row(path, vehicle, "gallery" if place in chosen else "query")
            for place, (path, vehicle) in enumerate(tested)
        ),
    ]


def _listed(root: Path, name: str) -> list[tuple[str, str]]:
    return [
        (f"image/{image.removesuffix('.jpg')}.jpg", f"{int(vehicle):05}")
        for image, vehicle in read_table(root / name, 2)
    ]


def _test_list(variant: str) -> str:
    return f"train_test_split/test_list_{VARIANTS[variant]}.txt"


def _find(folder: Path) -> Path | None:
    # Other sets of vehicles have a training list of this name too.
    below = ("VehicleID_V1.0", "VehicleID")
    for mark in ("image", _test_list("small")):
        place = first_place(folder, below, _TRAIN, mark)
        if place is not None:
            return place
    return None


def _read(root: Path, asked: Asked) -> Listing:
    variant = asked.variant or "small"
    note = (
        f"VehicleID, {variant} test list ({VARIANTS[variant]:,} vehicles): one random picture of "
        f"each is the gallery, the others are queries, seed {asked.seed}; papers average ten draws"
    )
    return listing_of(root, rows(root, variant, asked.seed), [note])


def _audit(root: Path) -> Audit:
    lists = {"train": _TRAIN, **{variant: _test_list(variant) for variant in VARIANTS}}
    found = [
        Row(path, vehicle, part)
        for part, name in lists.items()
        for path, vehicle in _listed(root, name)
    ]
    return Audit(found)  # image/ also holds the pictures of lists that nobody uses


def _lists(root: Path) -> tuple[str, ...]:
    return (_TRAIN, *map(_test_list, VARIANTS))


LAYOUT = Layout(("vehicleid",), _find, _read, _audit, _lists, variants=tuple(VARIANTS))

"""One call from a folder, manifest, zip or known data set to training, validation and test sets."""

import csv
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from tupelo.data import compact, official
from tupelo.data.decode import Frame, Resize
from tupelo.data.imageset import ImageSet, renumber
from tupelo.data.listing import (
    GALLERY,
    TEST,
    TRAIN,
    VALIDATION,
    BadItem,
    Listing,
    count_kinds,
    is_picture,
    list_flat,
    list_tree,
    visible,
    walk,
    zip_names,
)
from tupelo.data.manifests import TABLE_SUFFIXES, find_manifest, read_manifest
from tupelo.data.official.layout import Asked
from tupelo.data.official.places import from_source, hint, is_named
from tupelo.data.pictures import (
    FolderFiles,
    Held,
    OnDemand,
    Probe,
    Progress,
    ZipFiles,
    check,
    hold,
    probe_all,
)
from tupelo.data.splits import Split, assign, divided_groups
from tupelo.errors import DataError, InputError

log = logging.getLogger(__name__)
DEFAULT_SIDE = 224
PLAIN = Asked()


@dataclass(frozen=True)
class ImageData:
    """Pictures split for learning: classes of the parts are disjoint unless asked otherwise.

    Args:
        train: what a metric is learned from.
        validation: what settings are chosen on, or None when its share is 0.
        test: what is looked at once, or None when its share is 0.
        bad: every picture left out, with the reason.
        gallery: what the test pictures search, where the source names one; None: each other.
            Its classes are numbered apart from those of `test`: match them by name.
        notes: what a reader of results must know: which form was read, what a protocol drew.
    """

    train: ImageSet
    validation: ImageSet | None
    test: ImageSet | None
    bad: tuple[BadItem, ...]
    gallery: ImageSet | None = None
    notes: tuple[str, ...] = ()

    @property
    def val(self) -> ImageSet | None:
        """The same as `validation`."""
        return self.validation

    def write_bad(self, path: str | Path) -> None:
        """Write path and reason of every picture left out as CSV, whole or not at all."""
        write_bad_items(self.bad, Path(path))


def images(
    source: str | Path,
    *,
    split: Split = None,
    size: int | tuple[int, int] | None = None,
    channels: Literal["auto", 1, 3] = "auto",
    resize: Resize = "crop",
    validation: float | int = 0.15,
    test: float | int = 0.15,
    seed: int = 0,
    allow_bad: float | int = 0.01,
    bad_items: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    labels: str = "class",
    memory_bytes: int | None = None,
    progress: Progress | None = None,
) -> ImageData:
    """Read labelled pictures and split them.

    `source` is recognised by itself: a folder with one sub-folder a class (or with train /
    validation / test folders of these, or train / query / gallery), a CSV or Parquet manifest, a
    zip of either, or a known data set in its official layout or a compact form. "known:cub200"
    is that data set under TUPELO_DATA, "known:vehicleid:large" a variant of it.

    Args:
        source: folder or file.
        split: "classes": no class in two parts. "items": each class is divided. "given": as
            the source's train / test folders or split column say. "none": all is `train`, for
            pictures that are only embedded. A mapping from "train",
            "validation", "test" to class names; without "train" all others train, with it they
            are left out. None (default): "given" where the source has a
            split of its own, else "classes". Validation always comes out of what would train.
            A gallery is kept by "given", and by "classes" if its classes are new.
        size: pixels, a number for squares or (height, width). None: as the pictures are when
            all agree, else 224.
        channels: 1, 3, or "auto": 1 when every picture is grey.
        resize: "crop" scales the shorter side and cuts the middle, "squash" ignores the aspect
            ratio, "pad" keeps all of the picture on white.
        validation: share of classes (items where parts share classes); 0 for no such part.
        test: the same; not used where the source gives the test side.
        seed: of the split.
        allow_bad: share of pictures that may be unusable, in [0, 1]; more stops with an error.
            Damaged, truncated, empty and enormous files count, what is no picture, and exact
            duplicates, of which the first is kept whatever their labels.
        bad_items: CSV file to write the pictures left out to, also when it stops.
        columns: your names of a manifest's columns path, label, split, group, x, y, w, h.
        labels: "class"; "any": also one picture, or a folder of pictures in no class folders,
            whose class is then ""; for Omniglot also "alphabet".
        memory_bytes: decoded pictures are held in memory up to this; default a quarter of it.
        progress: called with what is done, how many are done and how many there are.

    Raises:
        DataError: nothing is found, too much is unusable, or a part would have fewer than 2
            classes with 2 pictures.
        InputError: an argument is out of its range.
        MissingExtra: a Parquet manifest without pyarrow.
    """
    if not 0 <= allow_bad <= 1:
        raise InputError(f"allow_bad must be a share in [0, 1], got {allow_bad}")
    return open_listing(
        list_source(source, columns, Asked(labels, seed=seed)),
        source,
        split=split,
        size=size,
        channels=channels,
        resize=resize,
        validation=validation,
        test=test,
        seed=seed,
        allow_bad=allow_bad,
        bad_items=bad_items,
        memory_bytes=memory_bytes,
        progress=progress,
    )


def open_listing(
    listing: Listing,
    source: str | Path,
    *,
    split: Split,
    size: int | tuple[int, int] | None,
    channels: Literal["auto", 1, 3],
    resize: Resize = "crop",
    validation: float | int,
    test: float | int,
    seed: int,
    allow_bad: float | int = 0.01,
    bad_items: str | Path | None = None,
    memory_bytes: int | None = None,
    progress: Progress | None = None,
) -> ImageData:
    """Look at the pictures of a listing, bring them into one form, and split them.

    Args:
        listing: what `list_source` found.
        source: for messages.
        split, size, channels, resize, validation, test, seed: as in `images`.
        allow_bad, bad_items, memory_bytes, progress: as in `images`.

    Raises:
        DataError: as `images`.
        InputError: as `images`.
    """
    probes = probe_all(listing.pictures, progress)
    bad = list(listing.bad)
    n_listed = len(listing.names) + len(bad)
    keep, n_copies = _usable(listing, probes, bad)
    if not len(keep):
        raise DataError(_too_many(source, bad, n_listed, allow_bad, bad_items))
    frame = _frame([probes[row] for row in keep], size, channels, resize)
    needed = len(keep) * frame.channels * frame.height * frame.width
    budget = _quarter_of_memory() if memory_bytes is None else memory_bytes
    if needed <= budget:
        pixels, reasons = hold(listing.pictures, keep, frame, progress)
        pool: Held | OnDemand = Held(pixels)
    else:
        log.info("%d bytes of pixels exceed %d: decoding for every batch", needed, budget)
        reasons = check(listing.pictures, keep, frame, progress)
        pool = OnDemand(
            listing.pictures, keep, [listing.names[row] for row in map(int, keep)], frame
        )
    bad += [BadItem(listing.names[int(keep[place])], reasons[place]) for place in sorted(reasons)]
    if len(bad) > allow_bad * n_listed:
        raise DataError(_too_many(source, bad, n_listed, allow_bad, bad_items))
    if bad:
        log.warning("%s: left out %s", source, count_kinds(bad))
    if bad_items is not None:
        write_bad_items(bad, Path(bad_items))
    rows = np.array([place for place in range(len(keep)) if place not in reasons], dtype=np.int64)
    kept = _rows_of(listing, keep[rows])
    parts = assign(kept, split=split, validation=validation, test=test, seed=seed)
    whole = ImageSet(
        pool,
        rows=rows,
        labels=kept.labels,
        class_names=kept.class_names,
        items=keep[rows],
        paths=kept.names,
        groups=kept.groups,
        size=(frame.height, frame.width),
        channels=frame.channels,
        resize=frame.resize,
    )
    sides = [np.flatnonzero(parts == part) for part in (TRAIN, VALIDATION, TEST, GALLERY)]
    train, chosen, judged, gallery = (whole.subset(side) if len(side) else None for side in sides)
    if train is None:
        raise DataError(f"{source}: no picture is left to train on; lower validation or test")
    notes = list(listing.notes)
    if n_copies:
        notes.append(
            f"{n_copies} exact copies of other pictures are kept: the published lists name them"
        )
    for note in notes:
        log.warning("%s: %s", source, note)
    crossing = divided_groups(kept, parts)
    if crossing:  # assign has logged it
        notes.append(f"the split is kept as given, but {crossing}")
    return ImageData(train, chosen, judged, tuple(bad), gallery, tuple(notes))


def write_bad_items(bad: list[BadItem] | tuple[BadItem, ...], path: Path) -> None:
    """Write path and reason of each as CSV, whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "reason"])
            writer.writerows([item.path, item.reason] for item in bad)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def list_source(
    source: str | Path, columns: Mapping[str, str] | None = None, asked: Asked = PLAIN
) -> Listing:
    """What a folder, file or `known:` source names, before any picture is read.

    Raises:
        DataError: nothing is found there, or what belongs to it is missing.
        InputError: something is asked that the source does not have.
    """
    if is_named(source):
        source, asked = from_source(str(source), asked)
    source, labels = Path(source), asked.labels
    if not source.exists():
        raise DataError(f"source {source} does not exist{hint(source)}")
    plain = asked._replace(labels="class") if labels == "any" else asked
    listing = official.recognise(source, plain)
    if listing is None and not (asked.boxes or asked.variant):
        listing = compact.recognise(source, plain.labels)
    if listing is not None:
        return listing
    if asked.boxes or asked.variant is not None:
        raise InputError(
            f"boxes and variant are for official layouts; {source} is none of those that have them"
        )
    if labels not in ("class", "any"):
        raise InputError(f'labels={labels!r} is for Omniglot only; {source} has labels="class"')
    if source.is_file() and source.suffix.lower() in TABLE_SUFFIXES:
        files = FolderFiles(source.parent)
        return read_manifest(files, source.name, columns or {})
    if source.is_file() and labels == "any" and is_picture(source.name):
        return list_flat(FolderFiles(source.parent), [source.name])
    if source.is_dir():
        files, names = FolderFiles(source), visible(walk(source))
    elif source.suffix.lower() == ".zip":
        files = ZipFiles(source)
        names = visible(zip_names(files))
    else:
        raise DataError(
            f"source {source} is not a folder, a .zip, a .csv, .tsv or .parquet manifest, or a "
            "known data set"
        )
    manifest = find_manifest(files, names, columns or {})
    if manifest is not None:
        log.info("%s: reading the manifest %s", source, manifest)
        return read_manifest(files, manifest, columns or {})
    loose = [name for name in names if is_picture(name)]
    if labels == "any" and loose and all("/" not in name for name in loose):
        return list_flat(files, loose)
    return list_tree(files, names, str(source))


def _usable(
    listing: Listing, probes: list[Probe | str], bad: list[BadItem]
) -> tuple[np.ndarray, int]:
    """Rows that were read and are no copies of earlier ones; the others are added to `bad`.

    Where copies belong to the source they are kept, and only counted.
    """
    first: dict[bytes, int] = {}
    keep, n_copies = [], 0
    for row, probe in enumerate(probes):
        name = listing.names[row]
        if isinstance(probe, str):
            bad.append(BadItem(name, probe))
            continue
        earlier = first.setdefault(probe.digest, row)
        if earlier == row or listing.copies:
            keep.append(row)
            n_copies += earlier != row
            continue
        same = np.array_equal(listing.labels[earlier], listing.labels[row])
        if same:
            reason = f"duplicate: same content as {listing.names[earlier]}"
        else:
            reason = (
                f"duplicate with another label: same content as {listing.names[earlier]}, which "
                f"is kept as {_label(listing, earlier)}; here {_label(listing, row)}"
            )
        bad.append(BadItem(name, reason))
    return np.array(keep, dtype=np.int64), n_copies


def _label(listing: Listing, row: int) -> str:
    if listing.labels.ndim == 1:
        return listing.class_names[int(listing.labels[row])]
    return "|".join(
        listing.class_names[tag] for tag in np.flatnonzero(listing.labels[row]).tolist()
    )


def _frame(
    probes: list[Probe | str],
    size: int | tuple[int, int] | None,
    channels: Literal["auto", 1, 3],
    resize: Resize,
) -> Frame:
    headers = [probe.header for probe in probes if isinstance(probe, Probe)]
    if channels == "auto":
        channels = 1 if all(header.grey for header in headers) else 3
    sizes = {header[:2] for header in headers}
    if size is None:
        size = sizes.pop() if len(sizes) == 1 else DEFAULT_SIDE
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise InputError(f"size must be at least 1 pixel each way, got {height} x {width}")
    return Frame(height, width, channels, resize)


def _rows_of(listing: Listing, rows: np.ndarray) -> Listing:
    """The listing of some rows; classes left without a picture are gone."""
    labels, used = renumber(listing.labels[rows])
    return Listing(
        listing.pictures,
        [listing.names[row] for row in map(int, rows)],
        labels,
        [listing.class_names[old] for old in map(int, used)],
        groups=None if listing.groups is None else listing.groups[rows],
        given=None if listing.given is None else listing.given[rows],
    )


def _too_many(
    source: str | Path,
    bad: list[BadItem],
    n_listed: int,
    allow_bad: float | int,
    bad_items: str | Path | None,
) -> str:
    shown = "; ".join(f"{item.path} ({item.reason})" for item in bad[:3])
    if bad_items is None:
        where = "pass bad_items='bad_items.csv' to have all of them listed"
    else:
        write_bad_items(bad, Path(bad_items))
        where = f"all of them are listed in {bad_items}"
    return (
        f"{source}: {len(bad)} of {n_listed} pictures cannot be used ({count_kinds(bad)}), "
        f"more than allow_bad={allow_bad} lets pass: {shown}; {where}; repair them, or accept the "
        f"loss with allow_bad={min(1.0, np.ceil(100 * len(bad) / max(1, n_listed)) / 100)}"
    )


def _quarter_of_memory() -> int:
    sysconf: Callable[[str], int] | None = getattr(os, "sysconf", None)
    if sysconf is None:  # Windows
        return 4 * 2**30
    return sysconf("SC_PAGE_SIZE") * sysconf("SC_PHYS_PAGES") // 4

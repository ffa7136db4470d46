import shutil
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tupelo.data import ClassBalanced, ImageSet, Shuffled, default_augmentation, images, loader
from tupelo.errors import DataError, InputError

LABELS = np.repeat(np.arange(6), 7)
PIXELS = np.random.default_rng(0).integers(0, 256, (42, 8, 8, 3), dtype=np.uint8)
PICTURES = ImageSet.from_arrays(PIXELS, LABELS)
MAKER = ClassBalanced(LABELS, classes=3, per_class=3, seed=1)


def run(pictures=PICTURES, maker=MAKER, **options):
    options.setdefault("epoch", 2)
    return list(loader(pictures, maker, augment=default_augmentation(8), seed=5, **options))


def same(one, two):
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert all(x.equal(y) for x, y in zip(a, b, strict=True))


def test_gives_the_planned_items():
    for batch, rows in zip(run(), MAKER.epoch(2), strict=True):
        assert batch.items.tolist() == rows.tolist()
        assert batch.labels.tolist() == LABELS[rows].tolist()
        assert batch.images.dtype == torch.float32


def test_batches_of_another_set_are_refused():
    larger = ClassBalanced(np.repeat(np.arange(6), 8), classes=3, per_class=3)
    with pytest.raises(InputError, match="of the 42 pictures of the set, got position 47; they"):
        run(maker=larger)


def test_resumes_in_the_middle():
    same(run(start=3), run()[3:])
    assert run(start=99) == []


def test_epochs_and_seeds_differ():
    one = run()[0].images
    other = next(iter(loader(PICTURES, MAKER, epoch=2, augment=default_augmentation(8), seed=6)))
    assert not one.equal(other.images)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers):
    state = torch.random.get_rng_state()
    same(run(workers=workers), run())
    same(run(workers=workers, start=2), run(start=2))
    assert torch.random.get_rng_state().equal(state)


@pytest.mark.slow
def test_workers_decode_files(tree):
    train = images(tree(dict.fromkeys("abcdef", 8)), memory_bytes=0, size=8).train
    maker = Shuffled(len(train), 5)
    same(run(train, maker, workers=2), run(train, maker))


@pytest.mark.parametrize("world", [2, 4, 9])
def test_ranks_share_out_each_batch(world):
    whole = run()
    sides = [run(rank=rank, world=world) for rank in range(world)]
    for step, batch in enumerate(whole):
        slices = [side[step] for side in sides]
        sizes = [len(piece.items) for piece in slices]
        assert max(sizes) - min(sizes) <= 1
        assert torch.cat([piece.images for piece in slices]).equal(batch.images)
        assert torch.cat([piece.items for piece in slices]).equal(batch.items)
        assert torch.cat([piece.labels for piece in slices]).equal(batch.labels)


def test_without_augmentation_ranks_read_only_their_rows():
    whole = list(loader(PICTURES, MAKER, epoch=0))
    parts = [list(loader(PICTURES, MAKER, epoch=0, rank=rank, world=2)) for rank in range(2)]
    for batch, one, two in zip(whole, *parts, strict=True):
        assert torch.cat([one.images, two.images]).equal(batch.images)


def test_leaving_early_stops_the_thread():
    def threads():
        return [thread for thread in threading.enumerate() if "tupelo-loader" in thread.name]

    batches = loader(PICTURES, MAKER, epoch=0)
    next(batches)
    assert threads()
    batches.close()
    assert not threads()


def test_errors_come_through(tree):
    root = tree(dict.fromkeys("abcdef", 4))
    train = images(root, memory_bytes=0).train
    for path in root.rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match="could be read when the data set was opened"):
        run(train, Shuffled(len(train), 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 2, "world": 2}, r"rank must be in 0..world-1, got rank 2 of 2"),
        ({"start": -1}, "start and workers must not be negative, got -1 and 0"),
        ({"workers": -2}, "start and workers must not be negative, got 0 and -2"),
        ({"rank": 0, "world": 10}, "every rank must get a row, but a batch of 9 is shared by 10"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        run(**options)


def test_too_little_shared_memory(monkeypatch):
    monkeypatch.setattr(sys.modules["tupelo.data.loader"], "_SHARED_MEMORY", Path.cwd())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(InputError, match=r"workers share 8064 bytes of pixels.*has 10 left; use"):
        run(workers=1)

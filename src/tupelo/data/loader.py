"""Batches made ahead of the training step, by a thread or by processes, always the same ones."""

import multiprocessing
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import DataLoader

from tupelo.data.imageset import Augment, Batch, ImageSet
from tupelo.errors import InputError

_AHEAD = 2
_SHARED_MEMORY = Path("/dev/shm")


@runtime_checkable
class BatchMaker(Protocol):
    """Gives the index arrays of an epoch, from its number alone."""

    def epoch(self, number: int) -> Sequence[np.ndarray]: ...


def loader(
    dataset: ImageSet,
    batches: BatchMaker,
    *,
    epoch: int,
    start: int = 0,
    augment: Augment | None = None,
    seed: int = 0,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """The batches of one epoch from step `start` on.

    Augmentation is drawn from (seed, epoch, step) for the whole batch of all ranks, of which each
    rank is then given its slice, sizes differing by at most one: what a picture looks like depends
    neither on workers, nor on ranks, nor on where a run was resumed.

    Args:
        dataset: where pictures come from.
        batches: `ClassBalanced`, `Shuffled` or any other maker.
        epoch: its number, from 0.
        start: steps already done.
        augment: see `ImageSet.batch`.
        seed: of the augmentation.
        workers: 0 makes batches ahead in one thread, right for pictures held in memory; more
            start as many processes, right for pictures decoded on demand. Then the script that
            trains needs its `if __name__ == "__main__":`.
        rank: of this process, 0 <= rank < world.
        world: number of processes.

    Raises:
        InputError: rank outside the world, negative start or workers, a batch with fewer rows
            than ranks or with a position beyond the set, or held pixels that do not fit the
            shared memory of worker processes.

    >>> pictures = ImageSet.from_arrays(np.zeros((6, 4, 4), np.uint8), [0, 0, 1, 1, 2, 2])
    >>> from tupelo.data.batches import ClassBalanced
    >>> maker = ClassBalanced(pictures.labels, classes=2, per_class=2)
    >>> [batch.images.shape[0] for batch in loader(pictures, maker, epoch=0)]
    [4, 4]
    """
    if not 0 <= rank < world:
        raise InputError(f"rank must be in 0..world-1, got rank {rank} of {world}")
    if start < 0 or workers < 0:
        raise InputError(f"start and workers must not be negative, got {start} and {workers}")
    plan = batches.epoch(epoch)
    least = min(map(len, plan), default=world)
    if least < world:
        raise InputError(
            f"every rank must get a row, but a batch of {least} is shared by {world} ranks; "
            "make batches larger"
        )
    largest = max((int(rows.max()) for rows in plan), default=-1)
    if largest >= len(dataset):
        raise InputError(
            f"batches must be of the {len(dataset)} pictures of the set, got position {largest}; "
            "they are of another set"
        )
    steps = _Steps(dataset, plan, augment, seed, epoch, rank, world)
    if workers == 0:
        return _by_thread(steps, start)
    return _by_processes(steps, start, workers)


@dataclass(frozen=True)
class _Steps:
    """The batches of one rank in one epoch, by step."""

    dataset: ImageSet
    plan: Sequence[np.ndarray]
    augment: Augment | None
    seed: int
    epoch: int
    rank: int
    world: int

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, step: int) -> Batch:
        rows = self.plan[step]
        cut = np.array_split(np.arange(len(rows)), self.world)[self.rank]
        if self.augment is None:
            return self.dataset.batch(rows[cut])
        state = np.random.SeedSequence([self.seed, self.epoch, step]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0] >> 1))
        whole = self.dataset.batch(rows, augment=self.augment, generator=generator)
        mine = slice(int(cut[0]), int(cut[-1]) + 1)
        return Batch(whole.images[mine], whole.labels[mine], whole.items[mine])


def _by_thread(steps: _Steps, start: int) -> Iterator[Batch]:
    pool = ThreadPoolExecutor(1, thread_name_prefix="tupelo-loader")
    ahead: deque[Future[Batch]] = deque()
    try:
        for step in range(start, len(steps)):
            ahead.append(pool.submit(steps.__getitem__, step))
            if len(ahead) > _AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _by_processes(steps: _Steps, start: int, workers: int) -> Iterator[Batch]:
    _check_shared_memory(steps.dataset)
    # Not fork: this process runs threads, whose locks a forked child would inherit as they stand.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["tupelo.data.loader"])
    yield from DataLoader(
        steps,  # pyright: ignore[reportArgumentType]
        batch_size=None,
        sampler=range(start, len(steps)),
        num_workers=min(workers, max(1, len(steps) - start)),
        collate_fn=_as_is,
        multiprocessing_context=context,
        # Workers are given a seed none of ours reads; drawing it must not move the global one.
        generator=torch.Generator().manual_seed(0),
    )


def _as_is(batch: Any) -> Any:
    return batch


def _check_shared_memory(dataset: ImageSet) -> None:
    """Running out of it kills the process with a bus error, so ask first."""
    if not _SHARED_MEMORY.exists():
        return
    free = shutil.disk_usage(_SHARED_MEMORY).free
    if dataset.memory_bytes > free:
        raise InputError(
            f"workers share {dataset.memory_bytes} bytes of pixels through {_SHARED_MEMORY}, which "
            f"has {free} left; use workers=0, or enlarge it"
        )

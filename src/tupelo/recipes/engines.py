"""Independent jobs through joblib: in this process, in processes of this machine, or on Ray."""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, NamedTuple, get_args

from tupelo.errors import InputError, MissingExtra, TupeloError
from tupelo.recipes.names import Engine
from tupelo.training import Progress

ENGINES: tuple[str, ...] = get_args(Engine)
LOOK_SECONDS = 0.5
LEAST = 2  # workers: joblib runs the jobs of a single one in this process, whose death ends the run
log = logging.getLogger(__name__)


class MembersProgress(NamedTuple):
    """What a progress callback is told.

    Attributes:
        done: members finished, those of earlier runs included.
        total: members in all.
        member: the number of the one that took a step; None where they train elsewhere.
        training: its progress.
    """

    done: int
    total: int
    member: int | None = None
    training: Progress | None = None


def processors() -> int:
    """Of this machine that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(
    work: Callable[..., Any],
    items: Sequence[Any],
    is_done: Callable[[Any], bool],
    *,
    engine: str,
    jobs: int | None,
    address: str | None,
    threads: int,
    gpus: float,
    retries: int,
    progress: Callable[[MembersProgress], None] | None,
    total: int,
) -> None:
    """Do `work(item)` for every item; those whose worker died are done again.

    Args:
        work: a function of a module, that leaves its result where `is_done` finds it, goes on
            where it was interrupted, and does nothing for what is done.
        items: what is to be done, each with a `number`.
        is_done: of an item.
        engine, jobs, address, threads, gpus, retries, progress: see `train_members`.
        total: items in all, finished ones included.

    Raises:
        TupeloError: workers died more than `retries` times in a row with nothing finished between.
    """
    before = total - len(items)
    tell = progress or _nothing
    if engine == "sequential":
        for place, item in enumerate(items):
            work(item, lambda step, n=before + place, i=item: tell(_step(n, total, i.number, step)))
            tell(MembersProgress(before + place + 1, total))
        return
    left, deaths = list(items), 0
    with _started(engine, jobs, address, threads, gpus, len(items)) as (at_once, died):
        while left:
            try:
                with _watched(items, is_done, before, total, tell):
                    _all(work, left, engine, at_once, threads, gpus)
            except died as error:
                still = [item for item in left if not is_done(item)]
                deaths = deaths + 1 if len(still) == len(left) else 1
                numbers = ", ".join(f"{item.number:03d}" for item in still)
                if deaths > retries:
                    raise TupeloError(
                        f"workers died {deaths} times in a row, and members {numbers} are not "
                        "finished. Nothing that was finished or saved is lost: repeat the command "
                        "to go on; where memory ran out, with fewer jobs"
                    ) from error
                log.warning("a worker died; going on with members %s", numbers)
                left = still
            else:
                left = []
    tell(MembersProgress(total, total))


def _step(done: int, total: int, number: int, training: Progress) -> MembersProgress:
    return MembersProgress(done, total, number, training)


def _nothing(progress: MembersProgress) -> None:
    pass


def _all(
    work: Callable[..., Any],
    items: Sequence[Any],
    engine: str,
    jobs: int,
    threads: int,
    gpus: float,
) -> None:
    from joblib import Parallel, delayed, parallel_config

    options: dict[str, Any] = {"backend": "loky", "inner_max_num_threads": threads}
    if engine == "ray":
        options = {"backend": "ray", "ray_remote_args": {"num_cpus": threads, "num_gpus": gpus}}
    # one at a time to each worker: a member takes long, and none is to wait for a busy one
    alone: dict[str, Any] = {"batch_size": 1, "pre_dispatch": jobs}
    with parallel_config(**options):
        Parallel(n_jobs=max(LEAST, jobs), **alone)(delayed(work)(item) for item in items)


@contextmanager
def _started(
    engine: str, jobs: int | None, address: str | None, threads: int, gpus: float, items: int
) -> Iterator[tuple[int, tuple[type[BaseException], ...]]]:
    """How many jobs run at once, and what is raised when a worker dies."""
    if engine == "processes":
        yield min(jobs or processors(), items), (BrokenProcessPool,)
        return
    try:
        import ray  # pyright: ignore[reportMissingImports]
        from ray import exceptions  # pyright: ignore[reportMissingImports]
        from ray.util.joblib import register_ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtra("engine='ray' needs Ray: pip install 'tupelo[ray]'") from error
    register_ray()
    begun = not ray.is_initialized()
    at_once = min(jobs or processors(), items)
    if begun and address is None:
        ray.init(
            address="local",
            num_cpus=max(LEAST, at_once) * threads,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    elif begun:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        except ConnectionError as error:
            raise InputError(
                f"address must be that of a running Ray cluster, none answers at {address!r}: "
                f"{error}; start one with 'ray start --head'"
            ) from error
    try:
        there = ray.cluster_resources()
        if jobs is None and address is not None:
            at_once = max(1, min(items, int(there.get("CPU", 1)) // threads))
        workers = max(LEAST, at_once)
        for kind, asked in (("CPU", workers * threads), ("GPU", workers * gpus)):
            if asked > there.get(kind, 0):
                raise InputError(
                    f"jobs={at_once}, {workers} workers, need {asked:g} {kind}s of Ray, which has "
                    f"{there.get(kind, 0):g}; give fewer jobs, threads or gpus"
                )
        yield (
            at_once,
            (
                exceptions.RayActorError,
                exceptions.WorkerCrashedError,
                exceptions.OutOfMemoryError,
                exceptions.ObjectLostError,
                exceptions.NodeDiedError,
            ),
        )
    finally:
        if begun:
            ray.shutdown()


@contextmanager
def _watched(
    items: Sequence[Any],
    is_done: Callable[[Any], bool],
    before: int,
    total: int,
    tell: Callable[[MembersProgress], None],
) -> Iterator[None]:
    """Meanwhile, tell how many are done; workers elsewhere leave no other sign."""
    over = threading.Event()

    def look() -> None:
        known, waiting = -1, list(items)
        while not over.wait(LOOK_SECONDS):
            waiting = [item for item in waiting if not is_done(item)]
            done = before + len(items) - len(waiting)
            if done != known and done < total:
                tell(MembersProgress(done, total))
            known = done

    thread = threading.Thread(target=look, name="tupelo-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()

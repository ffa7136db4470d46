"""Run by test_store.py: writers of indexes killed by SIGKILL at random moments, and what is left.

`FOLDER KILLS SEED` is the long test; `FOLDER` alone a writer without end.

In the long one every operation has a folder of its own. After each kill the index must open and
hold the content before the operation or after it, compared with plain NumPy; then the operation is
repeated here and must succeed. Writers are forked from a server that has imported everything but
LanceDB.
"""

import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tupelo import search
from tupelo.errors import CheckpointError
from tupelo.search import Items

ROWS, ADDED, WIDTH = 3_000, 400, 16
QUERIES = np.random.default_rng(99).normal(size=(4, WIDTH))


def items(seed: int, rows: int = ROWS, first: int = 0) -> Items:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, WIDTH)).astype(np.float32)
    paths = [f"{row}.png" for row in range(first, first + rows)]
    return Items(z, paths, [f"of {seed}"] * rows, [rng.bytes(500) for _ in range(rows)])


def together(old: Items, new: Items) -> Items:
    """What adding `new` to `old` must give."""
    keep = [row for row, path in enumerate(old.paths) if path not in set(new.paths)]
    return Items(
        np.concatenate([old.vectors[keep], new.vectors]),
        [*(old.paths[row] for row in keep), *new.paths],
        [*(old.labels[row] for row in keep), *new.labels],
        [*(old.thumbnails[row] for row in keep), *new.thumbnails],
    )


def holds(folder: Path, content: Items | None) -> bool:
    """Whether the index answers as this content does; None: there is no index."""
    try:
        index = search.open(folder)
    except CheckpointError as error:
        if "holds no index" not in str(error):
            raise
        return content is None
    if content is None or sorted(index.paths()) != sorted(content.paths):
        return False
    z = content.vectors.astype(np.float64)
    z /= np.linalg.norm(z, axis=1)[:, None]
    q = QUERIES / np.linalg.norm(QUERIES, axis=1)[:, None]
    for found, similarity in zip(index.search(QUERIES, 7, exact=True), q @ z.T, strict=True):
        best = np.argsort(-similarity)[:7]
        if found.paths != tuple(content.paths[row] for row in best):
            return False
        assert found.labels == tuple(content.labels[row] for row in best)
        assert np.allclose(found.similarity, similarity[best], atol=1e-6)
        assert index.thumbnails(found.paths) == [content.thumbnails[row] for row in best]
    if index.info().approximate:
        index.search(QUERIES, 7)
    return True


def build(folder: Path, turn: int) -> None:
    search.build(folder, items(turn), approximate=turn % 3 == 2)


def add(folder: Path, turn: int) -> None:
    # half of these are there, half are new
    search.open(folder).add(items(turn, ADDED, first=ROWS - ADDED // 2))


def rebuild(folder: Path, turn: int) -> None:
    if turn % 2:
        search.build(folder, items(turn), overwrite=True, approximate=turn % 3 == 2)
    else:
        search.open(folder).rebuild(approximate=turn % 3 == 2)


OPERATIONS: dict[str, Callable[[Path, int], None]] = {
    "build": build,
    "add": add,
    "rebuild": rebuild,
}


def after(name: str, content: Items | None, turn: int) -> Items:
    if name == "add":
        assert content is not None
        return together(content, items(turn, ADDED, first=ROWS - ADDED // 2))
    if name == "rebuild" and turn % 2 == 0:
        assert content is not None
        return content
    return items(turn)


def writer(name: str, folder: Path, turn: int, pipe) -> None:
    import lancedb  # noqa: F401

    pipe.send("ready")
    pipe.recv()
    started = time.perf_counter()
    OPERATIONS[name](folder, turn)
    pipe.send(time.perf_counter() - started)


class Trial:
    """One operation, again and again in its folder."""

    def __init__(self, name: str, folder: Path, chance: random.Random):
        self.name, self.folder, self.chance = name, folder / name, chance
        self.content: Items | None = None
        self.turn, self.kills, self.seconds = 0, 0, 0.5
        if name != "build":
            self.content = items(0)
            search.build(self.folder, self.content)

    def start(self, context) -> None:
        self.turn += 1
        self.pipe, far = context.Pipe()
        arguments = (self.name, self.folder, self.turn, far)
        self.process = context.Process(target=writer, args=arguments)
        self.process.start()
        far.close()

    def finish(self) -> None:
        self.pipe.recv()
        self.pipe.send("go")
        if not self.pipe.poll(self.chance.uniform(0, 1.1 * self.seconds)):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()
        new = after(self.name, self.content, self.turn)
        if self.process.exitcode == 0:
            self.seconds = self.pipe.recv()
            assert holds(self.folder, new), f"{self.name} came to its end, and is not there"
        else:
            assert self.process.exitcode == -signal.SIGKILL, self.process.exitcode
            self.kills += 1
            found = [content for content in (self.content, new) if holds(self.folder, content)]
            assert found, f"{self.name} killed in turn {self.turn}: neither old nor new"
            if not (self.name == "build" and found[0] is new):  # else there is an index already
                OPERATIONS[self.name](self.folder, self.turn)
            assert holds(self.folder, new), f"{self.name} repeated, and is not there"
            tables = [path for path in self.folder.iterdir() if path.suffix == ".lance"]
            assert len(tables) <= 1 + (self.name == "rebuild"), tables
        self.content = new
        if self.name == "build":
            shutil.rmtree(self.folder)
            self.content = None


def main(folder: Path, kills: int, seed: int) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tupelo.search", "pyarrow", "tupelo.evaluation.tiles"])
    chance = random.Random(seed)
    trials = [Trial(name, folder, chance) for name in OPERATIONS]
    while any(trial.kills < kills for trial in trials):
        started = [trial for trial in trials if trial.kills < kills]
        for trial in started:
            trial.start(context)
        for trial in started:
            trial.finish()
    sys.stdout.write(" ".join(f"{trial.name} {trial.kills}/{trial.turn}" for trial in trials))


def states(turn: int) -> list[Items]:
    """What the folder of `endless` may hold in a turn."""
    built = items(turn)
    return [built, together(built, items(turn + 1_000, ADDED, first=ROWS - ADDED // 2))]


def endless(folder: Path) -> None:
    """Build anew, add and rebuild, turn after turn, until a kill."""
    for turn in range(1, 1_000):
        search.build(folder, items(turn), overwrite=True)
        if turn == 1:
            sys.stdout.write("built\n")
            sys.stdout.flush()
        index = search.open(folder)
        index.add(items(turn + 1_000, ADDED, first=ROWS - ADDED // 2))
        index.rebuild()


if __name__ == "__main__":
    if len(sys.argv) == 2:
        endless(Path(sys.argv[1]))
    else:
        main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

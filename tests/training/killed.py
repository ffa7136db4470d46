"""Run by test_launching.py: trains again and again, killed by SIGKILL each time, to the end.

Children are forked from one process that has imported everything but computed nothing, so that
a run that lives for milliseconds does not cost seconds of imports.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tupelo import checkpoints
from tupelo.data import ImageSet
from tupelo.losses import Contrastive
from tupelo.models import embedder
from tupelo.objectives import Memory, OnPairs
from tupelo.training import Settings, fit


def train(out: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(256, size=(2, 30, 8, 8), dtype=np.uint8)
    train, validate = (ImageSet.from_arrays(p, np.repeat(np.arange(5), 6)) for p in pixels)
    resuming = any(out.glob("checkpoint/last-*"))
    torch.manual_seed(os.getpid() if resuming else 0)  # weights of a resumed run do not matter
    backbone = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten())
    fit(
        embedder(backbone, features=36, dim=4, channels=1, dropout=0.2),
        Memory(OnPairs(Contrastive(), positives="random"), size=20, dim=4),
        train,
        validate=validate,
        out=out,
        settings=Settings(
            epochs=6, classes=3, per_class=2, lr=0.01, checkpoint_every=1, log_every=3
        ),
        augment=lambda images, generator: images * torch.rand(1, generator=generator),
    )


def child(out: Path, prepare) -> int:
    process = os.fork()
    if process == 0:
        try:
            prepare()
            train(out)
        except BaseException as error:  # noqa: BLE001
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    return process


def ended(process: int) -> bool:
    """Wait for a child; whether it came to the end."""
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code not in (0, -signal.SIGKILL):
        raise SystemExit(f"a child ended with {code}")
    return code == 0


def dying_in(name: str, call: int, *, halfway: bool):
    """Replace a function of checkpoints by one that kills its process at the given call."""
    original, left = getattr(checkpoints, name), [call]

    def replaced(*arguments):
        left[0] -= 1
        if left[0] == 0:
            if halfway:
                path, payload = arguments
                path.write_bytes(payload[: len(payload) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)

    setattr(checkpoints, name, replaced)


def main(folder: Path, seed: int) -> None:
    torch.set_num_threads(1)
    started = time.perf_counter()
    assert ended(child(folder / "whole", lambda: None))
    length = time.perf_counter() - started
    places = [
        ("_write", 1, True),
        ("_write", 4, True),
        ("_write", 7, False),
        ("_flush_folder", 3, False),
        ("_flush_folder", 6, False),
        ("prune", 4, False),
    ]
    for name, call, halfway in places:
        process = child(folder / "resumed", lambda: dying_in(name, call, halfway=halfway))  # noqa: B023
        assert not ended(process)
    chance, kills = random.Random(seed), 0
    while True:
        process = child(folder / "resumed", lambda: None)
        if kills < 12:
            time.sleep(chance.uniform(0.2, 0.7) * length)
            os.kill(process, signal.SIGKILL)
            kills += 1
        if ended(process) and kills == 12:
            break
    sys.stdout.write(f"{kills + len(places)} kills")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))

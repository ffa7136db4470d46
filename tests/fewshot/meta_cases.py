"""Small tasks, domains and learners that tests of meta-learning share."""

import numpy as np
import torch
from torch import nn

from tupelo.fewshot import Domain, Episode, FewShot, Matching, MetaCell, MetaMetricLearner, conv4

SIDE = 16


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(head=None, *, width=3, seed=0, smooth=False):
    """`smooth`: an encoder whose gradient can be differentiated again."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if smooth:
            layers = nn.Conv2d(1, 3, 3, stride=4), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten()
            encoder = nn.Sequential(*layers)
        else:
            encoder = conv4(width=width, size=SIDE)
        return FewShot(encoder, head or Matching(), mean=(1.0,), std=(-1.0,))


def learner(head=None, *, hidden=3, cell=None, smooth=False, **options):
    cell = cell or MetaCell(hidden, generator=seeded(1))
    inner = network(head, smooth=smooth)
    return MetaMetricLearner(inner, cell=cell, steps=options.pop("steps", 2), **options)


def pictures(labels, seed=0):
    """Each class has a pattern of its own, under noise."""
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(99).random((64, 1, SIDE, SIDE))
    noise = rng.random((len(labels), 1, SIDE, SIDE))
    return torch.from_numpy((0.6 * patterns[np.asarray(labels)] + 0.4 * noise).astype(np.float32))


def task(counts=(2, 2, 2), queries=2, seed=0):
    """A task with so many support items of each class."""
    known = np.repeat(np.arange(len(counts)), counts)
    asked = np.repeat(np.arange(len(counts)), queries)
    return Episode(
        pictures(known, seed),
        torch.from_numpy(known),
        pictures(asked, seed + 1000),
        torch.from_numpy(asked),
        len(counts),
    )


def domain(name="a", classes=4, per_class=6, first=0, seed=0):
    labels = np.repeat(np.arange(classes), per_class)
    pixels = pictures(labels + 7 * seed % 50, seed).mul(255).to(torch.uint8)
    names = tuple(f"{name}/{c}" for c in range(classes))
    return Domain(name, pixels, labels, names, np.arange(first, first + len(labels)))

"""Labelled pictures: reading, splitting, batches, augmentation."""

from tupelo.data.augment import BoxJitter, ShiftedBoxes, default_augmentation
from tupelo.data.batches import (
    ClassBalanced,
    NPair,
    RandomPairs,
    Shuffled,
    Triplets,
    WithShifted,
)
from tupelo.data.images import ImageData, images
from tupelo.data.imageset import Augment, Batch, ImageSet
from tupelo.data.known import known
from tupelo.data.listing import BadItem
from tupelo.data.loader import BatchMaker, loader
from tupelo.data.rotating import rotated

__all__ = [
    "Augment",
    "BadItem",
    "Batch",
    "BatchMaker",
    "BoxJitter",
    "ClassBalanced",
    "ImageData",
    "ImageSet",
    "NPair",
    "RandomPairs",
    "ShiftedBoxes",
    "Shuffled",
    "Triplets",
    "WithShifted",
    "default_augmentation",
    "images",
    "known",
    "loader",
    "rotated",
]

"""Labelled pictures: reading, splitting, batches, augmentation."""

from tupelo.data.augment import default_augmentation
from tupelo.data.batches import ClassBalanced, NPair, RandomPairs, Shuffled, Triplets
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
    "ClassBalanced",
    "ImageData",
    "ImageSet",
    "NPair",
    "RandomPairs",
    "Shuffled",
    "Triplets",
    "default_augmentation",
    "images",
    "known",
    "loader",
    "rotated",
]

"""Labelled pictures: reading, splitting, batches, augmentation."""

from tupelo.data.batches import ClassBalanced, NPair, Shuffled, Triplets
from tupelo.data.images import ImageData, images
from tupelo.data.imageset import Batch, ImageSet
from tupelo.data.known import known
from tupelo.data.listing import BadItem

__all__ = [
    "BadItem",
    "Batch",
    "ClassBalanced",
    "ImageData",
    "ImageSet",
    "NPair",
    "Shuffled",
    "Triplets",
    "images",
    "known",
]

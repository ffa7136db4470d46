"""Backbones, the embedder around them, and how a model is saved."""

from tupelo.models.architecture import Architecture, Learners
from tupelo.models.backbones import ConvNet
from tupelo.models.embedder import Embedder, embedder
from tupelo.models.ensemble import Ensemble
from tupelo.models.saving import about, load, save

__all__ = [
    "embedder",
    "Embedder",
    "Ensemble",
    "Architecture",
    "Learners",
    "ConvNet",
    "save",
    "load",
    "about",
]

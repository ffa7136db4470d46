"""Backbones, the embedder around them, and how a model is saved."""

from tupelo.models.architecture import Architecture, Learners
from tupelo.models.backbones import ConvNet
from tupelo.models.divided import Divided, divided
from tupelo.models.embedder import Embedder, embedder
from tupelo.models.ensemble import Ensemble
from tupelo.models.members import Members, members
from tupelo.models.saving import about, load, save

__all__ = [
    "embedder",
    "Embedder",
    "Ensemble",
    "divided",
    "Divided",
    "members",
    "Members",
    "Architecture",
    "Learners",
    "ConvNet",
    "save",
    "load",
    "about",
]

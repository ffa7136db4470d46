"""Backbones, the embedder around them, and how a model is saved."""

from tupelo.models.architecture import Architecture, Learners
from tupelo.models.attention import Attentive, attentive
from tupelo.models.backbones import ConvNet
from tupelo.models.divided import Divided, divided
from tupelo.models.embedder import Embedder, embedder
from tupelo.models.ensemble import Ensemble
from tupelo.models.heads import ManyHeads, many_heads
from tupelo.models.members import Members, members
from tupelo.models.saving import about, load, save

__all__ = [
    "embedder",
    "Embedder",
    "Ensemble",
    "attentive",
    "Attentive",
    "many_heads",
    "ManyHeads",
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

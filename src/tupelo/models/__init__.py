"""Backbones, the embedder around them, and how a model is saved."""

from tupelo.models.backbones import ConvNet
from tupelo.models.embedder import Architecture, Embedder, embedder
from tupelo.models.saving import about, load, save

__all__ = ["embedder", "Embedder", "Architecture", "ConvNet", "save", "load", "about"]

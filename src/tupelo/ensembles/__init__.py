"""Ensembles: objectives that train several learners to complement each other."""

from tupelo.ensembles.abe import Divergence, OnDrawnPairs, attention_based
from tupelo.ensembles.bier import Boosted
from tupelo.ensembles.diversity import ActivationDiversity, AdversarialDiversity
from tupelo.ensembles.dreml import MetaClassification, joined, meta_classes
from tupelo.ensembles.initialising import init_embeddings

__all__ = [
    "meta_classes",
    "MetaClassification",
    "joined",
    "attention_based",
    "Divergence",
    "OnDrawnPairs",
    "Boosted",
    "ActivationDiversity",
    "AdversarialDiversity",
    "init_embeddings",
]

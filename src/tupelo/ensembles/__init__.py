"""Ensembles: objectives that train several learners to complement each other."""

from tupelo.ensembles.bier import Boosted
from tupelo.ensembles.diversity import ActivationDiversity, AdversarialDiversity
from tupelo.ensembles.initialising import init_embeddings

__all__ = ["Boosted", "ActivationDiversity", "AdversarialDiversity", "init_embeddings"]

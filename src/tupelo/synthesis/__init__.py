"""Synthesis of embeddings: harder negatives (HDML), further members of classes (IAA)."""

from tupelo.synthesis.hdml import HardnessAware
from tupelo.synthesis.iaa import AugmentedClasses, IntraClassAugmented
from tupelo.synthesis.pulling import pull

__all__ = ["HardnessAware", "pull", "IntraClassAugmented", "AugmentedClasses"]

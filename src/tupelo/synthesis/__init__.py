"""Synthesis of embeddings: harder negatives (HDML), further members of classes (IAA)."""

from tupelo.synthesis.iaa import AugmentedClasses, IntraClassAugmented

__all__ = ["AugmentedClasses", "IntraClassAugmented"]

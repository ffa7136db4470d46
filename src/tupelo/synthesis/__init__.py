"""Synthesis of embeddings: harder negatives (HDML), further members of classes (IAA)."""

"""Measures of embeddings: pure functions on arrays, exact and independent of tile or thread."""

from tupelo.evaluation.clustering import ClusteringReport, clustering
from tupelo.evaluation.learners import LearnersReport, learners
from tupelo.evaluation.neighbours import Neighbours, nearest
from tupelo.evaluation.retrieval import RetrievalReport, retrieval

__all__ = [
    "retrieval",
    "RetrievalReport",
    "nearest",
    "Neighbours",
    "clustering",
    "ClusteringReport",
    "learners",
    "LearnersReport",
]

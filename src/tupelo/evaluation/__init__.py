"""Measures of embeddings: pure functions on arrays, exact and independent of tile or thread."""

from tupelo.evaluation.clear_mot import MOTMETRICS, TRACKEVAL, ClearMot, ClearRules, clear_mot
from tupelo.evaluation.clustering import ClusteringReport, clustering
from tupelo.evaluation.hota import ALPHAS, Hota, hota
from tupelo.evaluation.identity import Identity, identity
from tupelo.evaluation.learners import LearnersReport, learners
from tupelo.evaluation.neighbours import Neighbours, nearest
from tupelo.evaluation.reid import ReidReport, reid, single_shot_cmc
from tupelo.evaluation.retrieval import RetrievalReport, retrieval
from tupelo.evaluation.templates import (
    Identified,
    Pooled,
    Spread,
    identify,
    over_splits,
    pool,
    softmax_scores,
    template_scores,
)
from tupelo.evaluation.tracking_scores import TrackingScores, pooled, score_tracks
from tupelo.evaluation.tracks import (
    DISTRACTORS,
    MOT20_DISTRACTORS,
    Tracks,
    preprocess_mot,
)
from tupelo.evaluation.verification import (
    FoldAccuracy,
    Roc,
    accuracy_at,
    best_threshold,
    centred_scores,
    fold_accuracy,
    pair_scores,
    roc,
)
from tupelo.evaluation.videos import frame_pair_scores, video_scores

__all__ = [
    "retrieval",
    "RetrievalReport",
    "nearest",
    "Neighbours",
    "clustering",
    "ClusteringReport",
    "learners",
    "LearnersReport",
    "fold_accuracy",
    "FoldAccuracy",
    "accuracy_at",
    "best_threshold",
    "roc",
    "Roc",
    "pair_scores",
    "centred_scores",
    "video_scores",
    "frame_pair_scores",
    "pool",
    "Pooled",
    "template_scores",
    "softmax_scores",
    "identify",
    "Identified",
    "over_splits",
    "Spread",
    "reid",
    "ReidReport",
    "single_shot_cmc",
    "score_tracks",
    "TrackingScores",
    "pooled",
    "Tracks",
    "preprocess_mot",
    "DISTRACTORS",
    "MOT20_DISTRACTORS",
    "clear_mot",
    "ClearMot",
    "ClearRules",
    "TRACKEVAL",
    "MOTMETRICS",
    "identity",
    "Identity",
    "hota",
    "Hota",
    "ALPHAS",
]

"""Losses: on all pairs of a comparison, on tuples, and on learned class rows."""

from tupelo.losses.adaptive import AdaptiveMargin, Mining
from tupelo.losses.angular import AngularSoftmax, CosineMargin, ExponentialMean, usual_scale
from tupelo.losses.classes import (
    ArcFace,
    CosFace,
    CosineSoftmax,
    NormalizedSoftmax,
    ProxyAnchor,
    ProxyNCA,
)
from tupelo.losses.pairs import (
    AllTriplets,
    BinomialDeviance,
    Contrastive,
    CosineContrastive,
    HardestNegativeTriplets,
    LiftedStructure,
    MultiSimilarity,
    NPairs,
    NTXent,
    SquaredContrastive,
)
from tupelo.losses.tuples import Margin, NPair, SoftTriplet, Triplet

__all__ = [
    "AllTriplets",
    "BinomialDeviance",
    "Contrastive",
    "CosineContrastive",
    "HardestNegativeTriplets",
    "LiftedStructure",
    "MultiSimilarity",
    "NPairs",
    "NTXent",
    "SquaredContrastive",
    "Margin",
    "NPair",
    "SoftTriplet",
    "Triplet",
    "ArcFace",
    "CosFace",
    "CosineSoftmax",
    "NormalizedSoftmax",
    "ProxyAnchor",
    "ProxyNCA",
    "AdaptiveMargin",
    "AngularSoftmax",
    "CosineMargin",
    "ExponentialMean",
    "Mining",
    "usual_scale",
]

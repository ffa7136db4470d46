"""Names that options take, as they stand in recipe files and on the command line."""

from typing import Literal, get_args

PairLossName = Literal[
    "contrastive",
    "squared-contrastive",
    "cosine-contrastive",
    "multi-similarity",
    "binomial-deviance",
    "nt-xent",
    "all-triplets",
    "hardest-triplets",
    "n-pair",
    "lifted",
]
TupleLossName = Literal["triplet", "margin"]
ClassLossName = Literal[
    "proxy-nca",
    "proxy-anchor",
    "softmax",
    "cosface",
    "arcface",
    "angular",
    "angular-exponential",
]
LossName = Literal[PairLossName, TupleLossName, ClassLossName]
Positives = Literal["all", "random", "easiest", "hardest"]
Negatives = Literal["random", "hardest", "semi-hard", "semi-hard-nearest", "distance-weighted"]
Synthesis = Literal["none", "hdml", "iaa"]
Ensemble = Literal["none", "heads", "abe", "bier", "dreml"]
Engine = Literal["sequential", "processes", "ray"]
Batches = Literal["classes", "n-pair", "triplets", "pairs"]

PAIR_LOSSES, TUPLE_LOSSES = get_args(PairLossName), get_args(TupleLossName)
CLASS_LOSSES = get_args(ClassLossName)
PAIR_SUMS = ("contrastive", "squared-contrastive", "cosine-contrastive", "binomial-deviance")
RAW_ROWS = ("n-pair", "lifted")  # compare what the network puts out, not unit rows

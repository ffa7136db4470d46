"""Embeddings that can also draw: the triplet variational autoencoder."""

from tupelo.generative.batches import FreshTriplets, TripletBatches
from tupelo.generative.drawing import reconstructions, samples, sections, traversals
from tupelo.generative.measuring import (
    ByTriplets,
    Elbo,
    TripletAccuracy,
    means,
    negative_elbo,
    triplet_accuracy,
)
from tupelo.generative.objective import TripletVAE
from tupelo.generative.reconstructing import Bernoulli, Perceptual, ReconstructionLoss, Squared
from tupelo.generative.triplets import TripletList, random_triplets, read_triplets

__all__ = [
    "TripletVAE",
    "ReconstructionLoss",
    "Bernoulli",
    "Squared",
    "Perceptual",
    "TripletList",
    "random_triplets",
    "read_triplets",
    "TripletBatches",
    "FreshTriplets",
    "means",
    "triplet_accuracy",
    "TripletAccuracy",
    "negative_elbo",
    "Elbo",
    "ByTriplets",
    "reconstructions",
    "samples",
    "traversals",
    "sections",
]

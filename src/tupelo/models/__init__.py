"""Backbones, the embedder around them, autoencoders, and how a model is saved."""

from tupelo.models.architecture import Architecture, Learners
from tupelo.models.attention import Attentive, attentive
from tupelo.models.backbones import ConvNet
from tupelo.models.divided import Divided, divided
from tupelo.models.embedder import Embedder, embedder
from tupelo.models.ensemble import Ensemble
from tupelo.models.heads import ManyHeads, many_heads
from tupelo.models.members import Members, members
from tupelo.models.rebuilding import Model
from tupelo.models.reid import ReidNet, small_reid_net
from tupelo.models.saving import about, load, save
from tupelo.models.vae import VAE, Autoencoded, Posterior, conv_vae, mlp_vae

__all__ = [
    "embedder",
    "Embedder",
    "Ensemble",
    "attentive",
    "Attentive",
    "many_heads",
    "ManyHeads",
    "divided",
    "Divided",
    "members",
    "Members",
    "mlp_vae",
    "conv_vae",
    "VAE",
    "Autoencoded",
    "Posterior",
    "Model",
    "Architecture",
    "Learners",
    "ConvNet",
    "ReidNet",
    "small_reid_net",
    "save",
    "load",
    "about",
]

"""Few-shot learning: episodes, encoders and the heads that answer from a small support."""

from tupelo.fewshot.angular_heads import NormalisedContrastive, arc_face, cos_face, norm_face
from tupelo.fewshot.auxiliary import Transfer, fit_each, retrieve, transfers
from tupelo.fewshot.calibrating import (
    Calibration,
    Reliability,
    Temperature,
    calibrate,
    layouts_to_calibrate,
    reliability,
    temperature,
)
from tupelo.fewshot.classifying import Classified, classify
from tupelo.fewshot.domains import (
    FIVE_VS_THREE,
    THREE_VS_FIVE,
    Domain,
    Tasks,
    picture_domains,
)
from tupelo.fewshot.encoders import Conv4, conv4
from tupelo.fewshot.episodes import UNLABELLED, Episode, Episodes, Layout, draw_episodes
from tupelo.fewshot.evaluating import Accuracy, ByEpisodes, Running, embed_once, evaluate, score
from tupelo.fewshot.graph import GraphHead
from tupelo.fewshot.graph_encoders import GraphEncoder, graph_encoder
from tupelo.fewshot.large_margin import (
    LargeMargin,
    PointLoss,
    TripletTable,
    graph_triplets,
    prototype_triplets,
)
from tupelo.fewshot.learner import Answer, EpisodeHead, FewShot
from tupelo.fewshot.matching import FullContext, Matching
from tupelo.fewshot.meta import Adapted, Direct, EpisodicModel, MetaMetricLearner
from tupelo.fewshot.meta_cell import MetaCell, preprocess
from tupelo.fewshot.meta_lstm import MetaLSTM
from tupelo.fewshot.meta_saving import load_meta, save_meta
from tupelo.fewshot.meta_testing import meta_evaluate
from tupelo.fewshot.meta_training import MetaProgress, MetaRun, MetaSettings, meta_fit
from tupelo.fewshot.objectives import OnEpisodes
from tupelo.fewshot.prototypical import Prototypical
from tupelo.fewshot.saving import about, load, save
from tupelo.fewshot.text import TextCNN, TextFewShot, Vocabulary, word_vectors, words
from tupelo.fewshot.text_data import TextDomain, read_texts, text_domains

__all__ = [
    "Layout",
    "Episode",
    "Episodes",
    "draw_episodes",
    "UNLABELLED",
    "FewShot",
    "EpisodeHead",
    "Answer",
    "Conv4",
    "conv4",
    "Prototypical",
    "Matching",
    "FullContext",
    "OnEpisodes",
    "LargeMargin",
    "PointLoss",
    "TripletTable",
    "prototype_triplets",
    "graph_triplets",
    "evaluate",
    "embed_once",
    "score",
    "Accuracy",
    "Running",
    "ByEpisodes",
    "save",
    "load",
    "about",
    "classify",
    "Classified",
    "calibrate",
    "layouts_to_calibrate",
    "Calibration",
    "Temperature",
    "temperature",
    "reliability",
    "Reliability",
    "GraphHead",
    "GraphEncoder",
    "graph_encoder",
    "norm_face",
    "cos_face",
    "arc_face",
    "NormalisedContrastive",
    "MetaMetricLearner",
    "MetaCell",
    "preprocess",
    "MetaLSTM",
    "Direct",
    "EpisodicModel",
    "Adapted",
    "meta_fit",
    "MetaSettings",
    "MetaProgress",
    "MetaRun",
    "meta_evaluate",
    "save_meta",
    "load_meta",
    "Domain",
    "Tasks",
    "FIVE_VS_THREE",
    "THREE_VS_FIVE",
    "picture_domains",
    "fit_each",
    "transfers",
    "retrieve",
    "Transfer",
    "Vocabulary",
    "words",
    "word_vectors",
    "TextCNN",
    "TextFewShot",
    "TextDomain",
    "read_texts",
    "text_domains",
]

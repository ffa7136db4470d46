"""Few-shot learning: episodes, encoders and the heads that answer from a small support."""

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
from tupelo.fewshot.encoders import Conv4, conv4
from tupelo.fewshot.episodes import UNLABELLED, Episode, Episodes, Layout, draw_episodes
from tupelo.fewshot.learner import Answer, EpisodeHead, FewShot
from tupelo.fewshot.prototypical import Prototypical

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
    "classify",
    "Classified",
    "calibrate",
    "layouts_to_calibrate",
    "Calibration",
    "Temperature",
    "temperature",
    "reliability",
    "Reliability",
]

"""Cells of `benchmarks/tracking_ablation.py` on MOT17: public detections, few frames."""

import os
from dataclasses import replace
from pathlib import Path

from tracking_cells import network, plain
from tupelo.recipes.crop_embedding import open_embedder
from tupelo.recipes.footage import of_sequence
from tupelo.recipes.tracking_ablation import ablation
from tupelo.recipes.tracking_data import MOT17, first_frames, full_sequence
from tupelo.tracking import TrackerSettings


def root() -> Path:
    """The folder of the shared data."""
    return Path(os.environ["TUPELO_DATA"]) / "mot" / "mot17"


def motion_cell(choices: tuple[tuple[int, ...], ...]) -> dict:
    """Full sequences without pictures; hidden tracks are found again by motion alone."""
    footages = [replace(of_sequence(full_sequence(root(), name)), pictures=None) for name in MOT17]
    settings = TrackerSettings(occlusion_cost="motion")
    found = ablation(footages, settings, None, choices=choices)
    return plain(found.as_json())


def frames_cell() -> dict:
    """The frames that are there, with a network of people where there is one, else of faces."""
    dataset = "market" if "TUPELO_MARKET" in os.environ else "lfw"
    opened = open_embedder(network(dataset, 0))
    settings = TrackerSettings.calibrated(
        opened.far_distance, opened.same_distance, confirm_after=1
    )
    footages = [of_sequence(first_frames(root(), name)) for name in MOT17]
    found = ablation(footages, settings, opened.embed)
    name = {"market": "trained on Market-1501", "lfw": "trained on faces"}[dataset]
    return {"network": name, **plain(found.as_json())}

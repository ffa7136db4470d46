"""Cells of `benchmarks/tracking_ablation.py`: a network is trained and tracks what it never saw."""

import os
import tempfile
import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from tupelo.data import ImageSet, images
from tupelo.recipes import reid
from tupelo.recipes.crop_embedding import open_embedder
from tupelo.recipes.footage import Footage, of_scene
from tupelo.recipes.reid_recipe import ReidRecipe
from tupelo.recipes.tracking_ablation import ablation
from tupelo.recipes.tracking_scenes import draw_crops
from tupelo.tracking import TrackerSettings
from tupelo.tracking.scenes import Scene, render

RUNS = Path(__file__).parent / "runs" / "tracking"
KINDS = {"walking": {}, "crossing": {"crossing": True}}
LFW_SIZE, MARKET_SIZE = (32, 32), (64, 32)
EPOCHS = {"lfw": 12, "market": 12}


def network(dataset: str, seed: int, epochs: int | None = None) -> Path:
    """A network trained on the identities that show in no scene; made once.

    Args:
        dataset: "lfw" or "market".
        seed: of the training.
        epochs: default those of `EPOCHS`.
    """
    out = RUNS / f"{dataset}-{seed}-{epochs or EPOCHS[dataset]}"
    if not (out / "calibration.json").exists():
        source = lfw_half(0) if dataset == "lfw" else Path(os.environ["TUPELO_MARKET"])
        reid.run(
            ReidRecipe(
                source=str(source),
                network="reid-small",
                size=LFW_SIZE if dataset == "lfw" else MARKET_SIZE,
                epochs=epochs or EPOCHS[dataset],
                seed=seed,
                tensorboard=False,
            ),
            out,
        )
    return out


def cell(dataset: str, kind: str, seed: int, scenes: int, epochs: int | None = None) -> dict:
    """The ablation on several scenes, with the thresholds that the network was calibrated to."""
    opened = open_embedder(network(dataset, seed, epochs))
    settings = TrackerSettings.calibrated(opened.far_distance, opened.same_distance)
    found = ablation(
        [scene(dataset, kind, number) for number in range(scenes)], settings, opened.embed
    )
    distances = {"far distance": opened.far_distance, "same distance": opened.same_distance}
    return {**distances, **plain(found.as_json())}


def plain(numbers: dict) -> dict:
    """Without what a page does not need."""
    for row in numbers["uses"].values():
        row.pop("by_alpha", None)
    del numbers["each"]
    return numbers


def scene(dataset: str, kind: str, number: int) -> Footage:
    """Scenes are the same for all networks."""
    wanted = Scene(seed=number, **KINDS[kind])
    crops = draw_crops(unseen(dataset), wanted.walkers, seed=number)
    return of_scene(render(crops, wanted), f"{dataset}-{kind}-{number}")


@lru_cache(2)
def unseen(dataset: str) -> ImageSet:
    """Crops of the identities that no network trains on."""
    if dataset == "lfw":
        return images(lfw_half(1), split="none", size=(64, 64), channels=3).train
    test = images(
        os.environ["TUPELO_MARKET"], split="given", size=(128, 64), channels=3, resize="squash"
    ).gallery
    real = [
        place
        for place, name in enumerate(test.class_names)
        if name.lstrip("-").strip("0") not in ("", "1")
    ]
    return test.subset(np.flatnonzero(np.isin(test.labels, real)))


def lfw_half(half: int) -> Path:
    """A folder of the people of one half who have two pictures or more: every other name.

    The folder is outside of the repository's files, and made once.
    """
    folder = RUNS / f"lfw-half-{half}"
    if folder.is_dir():
        return folder
    archive = Path(os.environ["TUPELO_DATA"]) / "lfw" / "lfw_deepfunneled_crop64.zip"
    RUNS.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive) as packed, tempfile.TemporaryDirectory(dir=RUNS) as made:
        people: dict[str, list[str]] = {}
        for name in sorted(packed.namelist()):
            if name.endswith((".jpg", ".png")):
                people.setdefault(name.split("/")[-2], []).append(name)
        several = sorted(person for person, names in people.items() if len(names) > 1)
        for person in several[half::2]:
            (Path(made) / "half" / person).mkdir(parents=True)
            for name in people[person]:
                target = Path(made) / "half" / person / name.rsplit("/", 1)[1]
                target.write_bytes(packed.read(name))
        (Path(made) / "half").rename(folder)
    return folder

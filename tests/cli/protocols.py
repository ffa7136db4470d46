"""Small protocols of face verification, with pictures and with files of features."""

from pathlib import Path

import numpy as np
from PIL import Image

HEADING = "TEMPLATE_ID,SUBJECT_ID,FILE,MEDIA_ID"


def write_protocols(folder: Path) -> None:
    """What the examples of `tupelo faces evaluate` speak of."""
    rng = np.random.default_rng(0)
    _lfw(folder, rng)
    _ytf(folder, rng)
    _ijba(folder, rng)


def _lfw(folder: Path, rng: np.random.Generator) -> None:
    lines, names = [], []
    for fold in range(2):
        people = [f"P{fold}{number}" for number in range(4)]
        names += [f"{person}/{person}_000{number}.jpg" for person in people for number in (1, 2)]
        lines += [f"{person}\t1\t2" for person in people]
        lines += [f"{one}\t1\t{people[place - 1]}\t2" for place, one in enumerate(people)]
    _draw(folder / "lfw", names, rng)
    _features(folder / "faces.npz", names, rng)
    lists = {"pairs.txt": ["2\t4", *lines], "pairsDevTrain.txt": ["4", *lines[:8]]}
    lists["pairsDevTest.txt"] = ["4", *lines[8:]]
    for place in (folder, folder / "lfw"):
        for name, text in lists.items():
            (place / name).write_text("\n".join(text) + "\n")


def _ytf(folder: Path, rng: np.random.Generator) -> None:
    lines, names = [], []
    for fold in (1, 2):
        for person in range(3):
            one = f"P{fold}{person}"
            names += [f"{one}/{video}/0.{frame}.jpg" for video in (0, 1) for frame in (1, 2)]
            lines.append(f"{fold}, {one}/0, {one}/1, 1")
            lines.append(f"{fold}, {one}/0, P{fold}{(person + 1) % 3}/1, 0")
    _draw(folder / "aligned_images_DB", names, rng)
    _features(folder / "frames.npz", names, rng)
    (folder / "splits.txt").write_text("\n".join(lines) + "\n")


def _ijba(folder: Path, rng: np.random.Generator) -> None:
    gallery, probes, names = [], [], []
    for subject in range(6):
        for template in range(3):
            names.append(f"img/{subject}{template}.jpg")
            line = f"{10 * subject + template},{subject},{names[-1]},{len(names)}"
            if template:
                probes.append(line)
            elif subject < 4:
                gallery.append(line)
    _draw(folder / "images", names, rng)
    _features(folder / "templates.npz", names, rng)
    (folder / "none.txt").write_text("img/51.jpg\n")
    place = folder / "ijba" / "split1"
    place.mkdir(parents=True)
    tables = {"search_gallery": gallery, "search_probe": probes}
    for name, lines in {**tables, "verify_metadata": [*gallery, *probes]}.items():
        (place / f"{name}_1.csv").write_text("\n".join([HEADING, *lines]) + "\n")
    (place / "verify_comparisons_1.csv").write_text("0,1\n0,11\n1,12\n10,12\n1,22\n")


def _draw(folder: Path, names: list[str], rng: np.random.Generator) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(path)


def _features(path: Path, names: list[str], rng: np.random.Generator) -> None:
    np.savez(path, z=rng.normal(size=(len(names), 8)), paths=np.array(names))

"""Every command shows how it is used, and what it shows runs."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from tupelo.cli import app

from .protocols import write_protocols
from .tracked import write_tracked

# Examples that end otherwise in a scratch folder: exit status, what is said, and why.
INCOMPLETE = (1, "omniglot", "the scratch folder holds two characters of 1,623")
OTHERWISE: dict[str, tuple[int, str, str]] = {
    "tupelo datasets prepare omniglot --root data": INCOMPLETE,
    "tupelo datasets check omniglot --root data": INCOMPLETE,
    "tupelo datasets check omniglot --root data --deep --out omniglot.csv": INCOMPLETE,
    "tupelo faces evaluate lfw runs/faces": (2, "TUPELO_DATA", "it is not set in these tests"),
}
NOT_RUN = {"tupelo datasets prepare mnist --root data --download": "it downloads"}
# Examples of these commands need what others leave, or make what others need.
FIRST = ["train", "embed", "index", "search", "faces train", "reid train", "track scene"]
# They take long beside the others, and have tests that run them.
OF_THEIR_OWN = {"demo", "track scene", "track run", "track ablation"}
LAST = ["datasets prepare", "datasets check"]


def commands() -> dict[str, click.Command]:
    """Every command of the application by its name, those of sub-applications too."""

    def below(group: click.Group, words: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from below(command, (*words, name))
            else:
                yield " ".join((*words, name)), command

    return dict(below(typer.main.get_command(app), ()))


def examples(name: str) -> list[str]:
    """The lines of a command's help that begin with `tupelo`."""
    epilog = (commands()[name].epilog or "").replace("\\[", "[")
    return re.findall(r"^tupelo .+$", epilog, re.MULTILINE)


NAMES = sorted(
    commands(),
    key=lambda name: (
        FIRST.index(name)
        if name in FIRST
        else len(FIRST) + (1 + LAST.index(name) if name in LAST else 0)
    ),
)


def draw(folder: Path, classes: int, each: int, seed: int) -> None:
    """Classes of their own colour, all of one size: others would be enlarged to 224 pixels."""
    rng = np.random.default_rng(seed)
    for number in range(classes):
        (folder / f"class{number:02}").mkdir(parents=True)
        colour = rng.integers(0, 200, 3)
        for picture in range(each):
            pixels = colour + rng.integers(0, 55, (24, 24, 3))
            path = folder / f"class{number:02}" / f"{picture}.png"
            Image.fromarray(pixels.astype(np.uint8)).save(path)


def tables() -> None:
    """A table with a class in every row, and one with a class in every other."""
    rng = np.random.default_rng(0)
    rows = [
        [*(rng.normal(size=3) + number % 2).round(4), "ab"[int(rng.integers(2))], f"c{number % 2}"]
        for number in range(40)
    ]
    for name, step in (("table.csv", 1), ("partly.csv", 2)):
        lines = [
            ",".join(map(str, [*row[:-1], row[-1] if number // 2 % step == 0 else ""]))
            for number, row in enumerate(rows)
        ]
        Path(name).write_text("\n".join(["x,y,z,kind,class", *lines]) + "\n")


@pytest.fixture
def scratch(tmp_path, monkeypatch) -> Path:
    """What the examples speak of: photos, others to compare with, a manifest, one query."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUPELO_DATA", raising=False)
    for seed, name in enumerate(("photos", "other", "other-photos", "more", "queries", "shop")):
        draw(tmp_path / name, 8, 6, seed)
    files = sorted(path.as_posix() for path in Path("photos").glob("*/*"))
    rows = [f"{path},{path.split('/')[1]}" for path in files]
    Path("photos.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    Image.open(files[0]).convert("RGB").save("query.jpg")
    for seed, name in enumerate(("people", "crops", "gallery"), 7):
        draw(tmp_path / name, 16, 4, seed=seed)
    for name in ("one", "other", "probe"):
        Image.open("people/class00/0.png").save(f"{name}.jpg")
    tables()
    write_protocols(tmp_path)
    write_tracked(tmp_path)
    draw(tmp_path / "moved/photos", 8, 6, seed=0)
    for half in ("background", "evaluation"):
        draw(tmp_path / f"data/omniglot/images_{half}/Greek", 1, 20, seed=0)
    return tmp_path


def test_every_exception_is_an_example():
    shown = {line for name in NAMES for line in examples(name)}
    assert not {*OTHERWISE, *NOT_RUN} - shown


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_an_example(name):
    found = examples(name)
    assert found, f"tupelo {name} --help has no example"
    assert all(line.startswith("tupelo ") for line in found)
    short = name.removesuffix(" run")  # the default of its group need not be named
    assert any(line.startswith(f"tupelo {short}") for line in found)
    result = CliRunner().invoke(app, [*name.split(), "--help"])
    assert result.exit_code == 0
    said = " ".join(re.sub(r"[│╭╰─╮╯]", " ", result.output).split())
    for line in found:
        assert " ".join(line.split()) in said


def run(lines: list[str]) -> list[str]:
    """Run examples in order; what went wrong, one text each."""
    wrong = []
    for line in lines:
        code, phrase, _ = OTHERWISE.get(line, (0, "", ""))
        result = CliRunner().invoke(app, shlex.split(line)[1:])
        said = " ".join(result.output.replace("│", " ").split())
        if result.exit_code != code or phrase not in said:
            wrong.append(f"{line}\n  -> {result.exit_code}: {said[-600:]} {result.exception!r}")
    return wrong


def test_the_first_example_of_each_command_runs(scratch):
    lines = {name: examples(name)[0] for name in NAMES if name not in OF_THEIR_OWN}
    for name in ("train", "faces train"):
        lines[name] += " --steps 2 --classes 2 --per-class 2"
    wrong = run([*lines.values()])
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_all_examples_run_as_they_stand(scratch):
    wrong = run([line for name in NAMES for line in examples(name) if line not in NOT_RUN])
    assert not wrong, "\n".join(wrong)

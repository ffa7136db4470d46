"""Sections: asked of every module once, kept as JSON, read back by later and earlier versions."""

import base64
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tupelo import sections
from tupelo.sections import Bars, Curves, Pictures, Points, Section, Shown, Table

SHOWN = Shown(torch.zeros(3, 1, 4, 4), torch.tensor([0, 1, 1]), ["ant", "bee"], ["cat"])


class Shows(nn.Module):
    def __init__(self, title: str, *inner: nn.Module):
        super().__init__()
        self.title = title
        self.inner = nn.ModuleList(inner)

    def sections(self, model, shown):
        return [Section(self.title, f"{len(shown.images)} pictures, {shown.labels.tolist()}", [])]


class Answers(nn.Module):
    """Answers whatever it is given; an exception is raised."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def sections(self, model, shown):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_every_module_is_asked_once_outer_ones_first():
    shared = Shows("shared")
    model = nn.Sequential(nn.Linear(2, 2), Shows("layer", shared))
    objective = Shows("objective", nn.Sequential(shared))
    found = sections.ask([model, objective], model, SHOWN)
    assert [section.title for section in found] == ["layer", "shared", "objective"]
    assert found[0].text == "3 pictures, [0, 1, 1]"


def test_what_is_written_is_read_again():
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    all_kinds = [
        Section(
            "Everything",
            "one of each",
            [
                Curves(["hardness", "loss"], "share", log=True),
                Bars(["a", "b"], [1.5, float(np.float32(0.1))], "metres"),
                Points([0.0], [1.0], ["real"], ["<x>"]),
                Table(["name", "number"], [["a", 1], ["b", 2.5]]),
                Pictures.of([[pixels, pixels[:, :, 0]]], [["colour", "grey"]], ["row"]),
            ],
        )
    ]
    text = json.dumps(sections.to_json(all_kinds))
    assert sections.from_json(json.loads(text)) == all_kinds
    shown = Image.open(io.BytesIO(base64.b64decode(all_kinds[0].parts[4].rows[0][0])))
    assert np.array_equal(np.asarray(shown), pixels)


def test_parts_and_fields_of_a_later_version_are_left_out():
    later = [
        {
            "title": "t",
            "text": "",
            "parts": [
                {"kind": "Hologram", "depth": 3},
                {"kind": "Bars", "names": ["a"], "values": [1.0], "label": "", "colour": "red"},
            ],
        }
    ]
    assert sections.from_json(later) == [Section("t", "", [Bars(["a"], [1.0])])]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (ValueError("no [ink]"), "This section failed: ValueError: no [ink]"),
        (None, "This section failed: Type"),
        (Section("alone", "", []), "This section failed: Type"),
        ([SimpleNamespace(title="t", text="", parts=["a word"])], "This section failed: Type"),
    ],
)
def test_a_module_that_fails_costs_its_section_only(answer, said, caplog):
    found = sections.ask([Answers(answer), Shows("other")], nn.Identity(), SHOWN)
    assert [section.title for section in found] == ["Answers", "other"]
    assert said in found[0].text
    assert "no section of Answers" in caplog.text


def test_numbers_may_be_arrays_and_tensors():
    given = [
        Bars(("a", "b"), torch.tensor([1.5, 2.5])),
        Points(np.zeros(2), torch.ones(2), ["x", "y"]),
        Table(["n"], [[np.float32(0.5)], [torch.tensor(3)]]),
    ]
    (found,) = sections.ask([Answers([Section("t", "", given)])], nn.Identity(), SHOWN)
    assert found.parts == [
        Bars(["a", "b"], [1.5, 2.5], ""),
        Points([0.0, 0.0], [1.0, 1.0], ["x", "y"], []),
        Table(["n"], [[0.5], [3]]),
    ]


def test_equal_sections_are_kept_once_and_equal_titles_name_their_module():
    def bars(value):
        return Answers([Section("Bars", "", [Bars(["a"], [value])])])

    found = sections.ask([nn.Sequential(bars(1.0), bars(1.0), bars(2.0))], nn.Identity(), SHOWN)
    assert [section.title for section in found] == ["Bars (0)", "Bars (2)"]


def test_pictures_are_made_of_tensors_and_of_arrays():
    ramp = torch.linspace(-0.5, 1.5, 48).reshape(3, 4, 4)
    expected = (ramp.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    made = Pictures.of([[ramp, ramp[0], ramp[:1], expected[..., :1]]])
    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))) for png in made.rows[0]]
    assert np.array_equal(shown[0], expected)
    for grey in shown[1:]:
        assert np.array_equal(grey, expected[..., 0])


@pytest.mark.parametrize("shape", [(30, 5), (1, 5), (30, 1), (4, 2, 3)])
def test_points_are_placed_by_principal_components(shape):
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 7
    found = Points.of(rows, ["kind"] * shape[0])
    flat = rows.flatten(1).numpy()
    centred = flat - flat.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    for place, axis in enumerate((found.x, found.y)):
        expected = centred @ vectors[:, ::-1][:, place] if place < flat.shape[1] else 0 * flat[:, 0]
        np.testing.assert_allclose(np.abs(axis), np.abs(expected), atol=1e-4)
    share = 100 * values[-1] / values.sum() if shape[0] > 1 else 0
    assert found.x_label == f"first principal component, {share:.0f} % of the variance"

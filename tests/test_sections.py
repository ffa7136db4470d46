"""Sections: asked of every module once, kept as JSON, read back by later and earlier versions."""

import base64
import io
import json

import numpy as np
import torch
from PIL import Image
from torch import nn

from tupelo import sections
from tupelo.sections import Bars, Curves, Pictures, Points, Section, Table


class Shows(nn.Module):
    def __init__(self, title: str, *inner: nn.Module):
        super().__init__()
        self.title = title
        self.inner = nn.ModuleList(inner)

    def sections(self, model, images, labels):
        return [Section(self.title, f"{len(images)} pictures, {labels.tolist()}", [])]


def test_every_module_is_asked_once_outer_ones_first():
    shared = Shows("shared")
    model = nn.Sequential(nn.Linear(2, 2), Shows("layer", shared))
    objective = Shows("objective", nn.Sequential(shared))
    found = sections.ask(
        [model, objective], model, torch.zeros(3, 1, 4, 4), torch.tensor([0, 1, 1])
    )
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

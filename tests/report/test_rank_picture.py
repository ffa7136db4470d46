"""The picture of ranks is well-formed and says what the numbers say."""

import xml.etree.ElementTree as ElementTree

import numpy as np

from tupelo.evaluation.ranks import Ranks
from tupelo.report.rank_picture import rank_picture

SVG = "{http://www.w3.org/2000/svg}"


def test_every_method_stands_at_its_rank():
    ranks = Ranks(np.array([2.5, 1.25, 3.0, 3.25]), 4.0, 0.01, 1.0, 20)
    names = ["<b> & co", "best", "third", "worst"]
    root = ElementTree.fromstring(rank_picture(ranks, names))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"<b> & co (2.50)", "best (1.25)", "third (3.00)", "worst (3.25)"} <= set(texts)
    assert "critical difference 1.00" in texts
    assert root.find(f"{SVG}title").text.startswith("Mean ranks over 20 data sets: best 1.25, <b>")
    starts = [float(line.get("points").split(",")[0]) for line in root.iter(f"{SVG}polyline")]
    axis = next(line for line in root.iter(f"{SVG}line") if line.get("stroke-width") == "1.2")
    low, high = float(axis.get("x1")), float(axis.get("x2"))
    expected = [low + (rank - 1) / 3 * (high - low) for rank in (1.25, 2.5, 3.0, 3.25)]
    assert np.allclose(starts, expected, atol=0.1)
    bars = [line for line in root.iter(f"{SVG}line") if line.get("stroke-width") == "4"]
    assert len(bars) == len(ranks.cliques()) == 1

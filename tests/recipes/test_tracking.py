import json
from dataclasses import replace

import numpy as np
import pytest

from tupelo.errors import DataError, InputError
from tupelo.recipes.footage import Footage, of_scene
from tupelo.recipes.tracking import Following, run, write
from tupelo.recipes.tracking_ablation import CHOICES, ablation, name_of
from tupelo.tracking import Tracker, TrackerSettings
from tupelo.tracking.crops import cut
from tupelo.tracking.mot_files import read_results
from tupelo.tracking.scenes import Scene, render

SETTINGS = TrackerSettings(confirm_after=2)


def grid(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Colours of 6 x 3 blocks, less their mean, as unit rows: a network that needs no training."""
    crops, visible = cut(image, boxes, 6, 3)
    rows = crops.reshape(len(crops), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    rows[visible <= 0] = np.nan
    return rows


def textures(identities: int, seed: int) -> list[list[np.ndarray]]:
    """Crops of 6 x 3 coloured blocks; those of an identity differ a little."""
    generator = np.random.default_rng(seed)
    crops = []
    for _ in range(identities):
        base = generator.integers(0, 256, (6, 3, 3))
        noisy = [base + generator.normal(0, 12, base.shape) for _ in range(6)]
        crops.append(
            [
                np.clip(each.repeat(8, axis=0).repeat(8, axis=1), 0, 255).astype(np.uint8)
                for each in noisy
            ]
        )
    return crops


def scene(seed: int = 0, **changes) -> Footage:
    wanted = Scene(width=160, height=120, walkers=3, frames=12, drop_out=0.1, seed=seed)
    return of_scene(render(textures(4, seed), replace(wanted, **changes)), f"scene-{seed}")


def test_the_recipe_is_the_loop_that_anybody_would_write():
    footage = scene()
    result = run(footage, SETTINGS, grid)
    tracker, expected = Tracker(SETTINGS, grid), []
    of = footage.frames_of_detections()
    for number, picture in enumerate(footage.pictures(), 1):
        seen = tracker.update(*of(number), picture)
        expected += [(number, each) for each in seen.ids.tolist()]
    got = list(zip(result.rows.frames.tolist(), result.rows.ids.tolist(), strict=True))
    assert got == expected
    assert len(got) > 20
    assert result.scores is not None
    assert result.cost.frames == 12


def test_cost_parts_are_positive_and_apart():
    following = Following(scene(), SETTINGS, grid, frames=5)
    steps = list(following)
    cost = following.cost
    assert [step.number for step in steps] == [1, 2, 3, 4, 5]
    assert cost.frames == 5
    assert min(cost.association, cost.embedding, cost.reading) > 0
    rates = cost.rates()
    assert rates["tracking"] < min(rates["association"], rates["embedding"])


def test_results_are_written_with_a_summary(tmp_path):
    result = run(scene(), SETTINGS, grid)
    path = write(result, tmp_path / "new" / "tracks")
    back = read_results(path)
    assert np.array_equal(back.ids, result.rows.ids)
    assert np.abs(back.boxes - result.rows.boxes).max() < 1e-3
    about = json.loads(path.with_suffix(".json").read_text())
    assert about["sequence"] == "scene-0"
    assert about["frames"] == 12
    assert about["tracks"] == len(set(result.rows.ids.tolist()))
    assert about["settings"]["confirm_after"] == 2
    assert 0 < about["scores"]["MOTA"] <= 1
    assert about["proposals"] == result.proposals


def test_without_any_track_there_is_an_empty_result(tmp_path):
    result = run(scene(drop_out=1.0, false_positives=0.0), SETTINGS.with_uses())
    assert len(result.rows.ids) == 0
    assert write(result, tmp_path).read_text() == ""


def test_settings_without_what_they_need_are_refused():
    footage = scene()
    blind = replace(footage, pictures=None)
    with pytest.raises(InputError, match=r"proposals \(use 3\) look into them.*--uses 1,2"):
        run(blind, SETTINGS, grid)
    with pytest.raises(InputError, match="no pictures from which to embed"):
        run(blind, SETTINGS.with_uses(1, 2), grid)
    with pytest.raises(InputError, match="need a network: give --embedder RUN, or --uses none"):
        run(footage, SETTINGS)
    assert len(run(blind, SETTINGS.with_uses()).rows.ids) > 0


def test_footage_that_ends_early():
    footage = scene()
    short = replace(footage, pictures=lambda: iter(list(footage.pictures())[:7]))
    with pytest.raises(DataError, match="ends after frame 7, and there are detections up to"):
        run(short, SETTINGS, grid)
    assert run(short, SETTINGS, grid, frames=7).cost.frames == 7
    with pytest.raises(DataError, match="ends after frame 7 of 12"):
        ablation([short], SETTINGS, grid)


def test_the_ablation_equals_tracking_with_each_choice_alone():
    footages = [scene(0), scene(1, crossing=True)]
    told = []
    found = ablation(
        footages, SETTINGS, grid, progress=lambda name, done, total: told.append((name, done))
    )
    assert [row.uses for row in found.rows] == list(CHOICES)
    assert told[-1] == ("scene-1", 12)
    for row in found.rows[::3]:
        alone = [run(each, SETTINGS.with_uses(*row.uses), grid) for each in footages]
        for footage, result in zip(footages, alone, strict=True):
            assert found.each[row.name][footage.name].as_json() == result.scores.as_json()
        assert row.proposals == sum(result.proposals for result in alone)
        assert row.scores.clear.fn == sum(result.scores.clear.fn for result in alone)
    text = found.markdown().splitlines()
    assert text[0] == "| uses | MOTA | IDF1 | HOTA | FP | FN | IDs | Frag | MT |"
    assert [line.split(" | ")[0] for line in text[2:]] == [
        f"| {name}" for name in ("none", "1", "2", "3", "1+2", "1+3", "2+3", "all")
    ]
    assert json.loads(json.dumps(found.as_json()))["frames"] == 24


def test_an_ablation_needs_truth_and_names_of_its_own():
    footage = scene()
    with pytest.raises(InputError, match="one or more of different names, got"):
        ablation([footage, footage], SETTINGS, grid)
    with pytest.raises(InputError, match="scene-0 has no truth"):
        ablation([replace(footage, truth=None)], SETTINGS, grid)
    only = ablation([replace(footage, pictures=None)], SETTINGS, None, choices=[()])
    assert [row.name for row in only.rows] == ["none"]


@pytest.mark.slow
def test_the_uses_come_out_in_the_order_of_the_specification():
    """Six scenes as F.4 describes them; what each use must be worth."""
    footages = [of_scene(render(textures(10, s), Scene(seed=s)), f"scene-{s}") for s in range(6)]
    found = {row.uses: row.scores for row in ablation(footages, TrackerSettings(), grid).rows}
    none, every = found[()], found[(1, 2, 3)]
    assert found[(2,)].clear.switches <= 0.6 * none.clear.switches
    assert found[(2,)].identity.idf1 > none.identity.idf1 + 0.1
    assert found[(3,)].clear.fn <= 0.6 * none.clear.fn
    assert found[(3,)].clear.fp - none.clear.fp <= 0.01 * 7200
    assert every.identity.idf1 >= max(scores.identity.idf1 for scores in found.values())
    assert every.clear.switches <= min(scores.clear.switches for scores in found.values())
    assert name_of((1, 2, 3)) == "all"


@pytest.mark.slow
def test_a_laxer_proposal_threshold_trades_misses_for_false_positives():
    footages = [of_scene(render(textures(10, s), Scene(seed=s)), f"scene-{s}") for s in range(3)]
    counts = []
    for distance in (0.1, 0.2, 0.4, 0.8):
        settings = TrackerSettings(proposal=distance)
        (row,) = ablation(footages, settings, grid, choices=[(1, 2, 3)]).rows
        counts.append((row.scores.clear.fp, row.scores.clear.fn))
    assert [fp for fp, _ in counts] == sorted(fp for fp, _ in counts)
    assert [fn for _, fn in counts] == sorted((fn for _, fn in counts), reverse=True)

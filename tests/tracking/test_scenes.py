from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tupelo.errors import InputError
from tupelo.tracking.boxes import overlaps
from tupelo.tracking.scenes import Scene, render

SMALL = Scene(width=120, height=90, walkers=3, frames=12)


def coloured(identities: int = 4, crops: int = 2) -> list[list[np.ndarray]]:
    """Crops of one colour for each identity, no two alike."""
    generator = np.random.default_rng(5)
    return [
        [
            np.full((24, 12 + 2 * n, 3), (40 + 50 * n, 200 - 40 * n, 90), np.uint8)
            for _ in range(crops)
        ]
        for n in range(identities)
    ] + [[generator.integers(0, 256, (24, 12, 3), dtype=np.uint8)]]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    crossing=st.booleans(),
    walkers=st.integers(1, 5),
    size=st.tuples(st.integers(48, 200), st.integers(48, 200)),
)
def test_everything_stays_inside_and_pictures_agree_with_the_truth(seed, crossing, walkers, size):
    scene = Scene(
        width=size[0], height=size[1], walkers=walkers, frames=5, seed=seed, crossing=crossing
    )
    rendered = render(coloured(), scene)
    x, y, w, h = np.moveaxis(rendered.boxes, -1, 0)
    assert min(x.min(), y.min()) >= 0
    assert min(w.min(), h.min()) >= 4
    assert (x + w).max() <= size[0]
    assert (y + h).max() <= size[1]
    assert np.array_equal(rendered.boxes, np.round(rendered.boxes))
    assert ((rendered.visibility >= 0) & (rendered.visibility <= 1)).all()
    assert (rendered.detections[:, 2:] > 0).all()
    assert np.isfinite(rendered.detections).all()
    assert (np.diff(rendered.detection_frames) >= 0).all()
    for picture in rendered.pictures():
        assert picture.shape == (size[1], size[0], 3)


def test_visibility_is_the_share_of_pixels_that_a_picture_shows():
    crops = coloured()[:4]
    rendered = render(
        crops, replace(SMALL, walkers=4, frames=6, crossing=True), np.zeros((90, 120, 3), np.uint8)
    )
    hidden = 0
    for number in range(1, 7):
        picture = rendered.frame(number)
        for walker, identity in enumerate(rendered.identities):
            x, y, w, h = rendered.boxes[number - 1, walker].astype(int)
            colour = crops[identity][0][0, 0]
            seen = (picture[y : y + h, x : x + w] == colour).all(axis=2).mean()
            assert rendered.visibility[number - 1, walker] == pytest.approx(seen)
            hidden += seen < 1
    assert hidden > 0


def test_the_seed_decides_everything():
    one, same, other = (render(coloured(), replace(SMALL, seed=s)) for s in (1, 1, 2))
    for name in ("boxes", "visibility", "detections", "confidence", "background", "identities"):
        assert np.array_equal(getattr(one, name), getattr(same, name))
    assert not np.array_equal(one.boxes, other.boxes)
    assert np.array_equal(one.frame(7), list(same.pictures())[6])


def test_the_detector_fails_in_bursts_invents_and_is_less_sure_of_what_is_hidden():
    scene = Scene(width=480, height=360, walkers=8, frames=400, seed=0, drop_out=0.05)
    rendered = render(coloured(8), scene)
    frames = range(1, 401)
    near, scores, seen = np.zeros((400, 8), bool), [], []
    false = []
    for number in frames:
        boxes, confidence = rendered.detections_of(number)
        overlap = overlaps(rendered.boxes[number - 1], boxes)
        near[number - 1] = (overlap > 0.6).any(axis=1)
        for walker in np.flatnonzero(near[number - 1]):
            scores.append(confidence[overlap[walker].argmax()])
            seen.append(rendered.visibility[number - 1, walker])
        if len(boxes):
            false.extend(confidence[overlap.max(axis=0) < 0.3])
    clear = rendered.visibility > 0.99
    runs = [run for walker in range(8) for run in runs_of(~near[:, walker] & clear[:, walker])]
    lost = (~near & clear).sum() / clear.sum()
    assert 0.15 < lost < 0.4  # bursts of mean 7 at 0.05 a frame
    assert max(runs) <= 22  # two bursts may touch
    assert np.mean(np.array(scores) >= 0.6) > 0.85
    assert np.corrcoef(scores, seen)[0, 1] > 0.5
    assert 60 < len(false) < 160  # 0.3 a frame, some of them upon an object
    assert max(false) <= 0.65
    assert min(false) >= 0.1
    covered = rendered.visibility < 0.4
    assert covered.any()
    at = {
        (f, tuple(b)) for f, b in zip(rendered.detection_frames, rendered.detections, strict=True)
    }
    assert len(at) == len(rendered.detections)


def runs_of(flags: np.ndarray) -> list[int]:
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return list(edges[1::2] - edges[::2])


def test_a_perfect_detector_reports_every_object_where_it_is():
    perfect = replace(SMALL, drop_out=0.0, covered=1.0, false_positives=0.0, noise=0.0)
    rendered = render(coloured(), perfect)
    for number in range(1, 13):
        boxes, _ = rendered.detections_of(number)
        key = np.lexsort(boxes.T)
        truth = rendered.boxes[number - 1]
        assert np.array_equal(boxes[key], truth[np.lexsort(truth.T)])


def test_faint_detections_fill_bursts():
    broken = replace(SMALL, drop_out=1.0, covered=1.0, false_positives=0.0, faint=1.0)
    rendered = render(coloured(), broken)
    assert len(rendered.detections) == 36
    assert ((rendered.confidence >= 0.1) & (rendered.confidence <= 0.3)).all()
    assert not len(render(coloured(), replace(broken, faint=0.0)).detections)


def test_objects_of_a_crossing_scene_meet_more_often_at_similar_speeds():
    hidden = {
        crossing: np.mean(
            [
                render(coloured(9), Scene(walkers=10, crossing=crossing, seed=seed)).visibility
                for seed in range(3)
            ]
        )
        for crossing in (False, True)
    }
    assert hidden[True] < hidden[False]
    boxes = render(coloured(9), Scene(walkers=10, crossing=True)).boxes
    middle = boxes[..., 0] + boxes[..., 2] / 2
    steps = np.abs(middle[10:] - middle[:-10]) / 10
    assert 1.2 < np.median(steps) < 3.2


def test_an_object_shows_several_of_its_crops_in_turn():
    crops = [[np.full((20, 10, 3), 20 * n + 10, np.uint8) for n in range(8)]]
    rendered = render(crops, replace(SMALL, walkers=1, frames=60, hold=5))
    shades = []
    for number, picture in enumerate(rendered.pictures()):
        x, y, w, h = rendered.boxes[number, 0].astype(int)
        shades.append(picture[y + h // 2, x + w // 2, 0])
    assert len(set(shades)) > 4
    held = np.diff(np.flatnonzero(np.diff(shades)))
    assert held.max() <= 20  # a new draw may be the same crop


def test_bad_scenes_are_refused():
    with pytest.raises(InputError, match="walkers must be 1 or more, got 0"):
        Scene(walkers=0)
    with pytest.raises(InputError, match=r"noise must be in \[0, 1\], got 2"):
        Scene(noise=2.0)
    with pytest.raises(InputError, match="false_positives must be 0 or more"):
        Scene(false_positives=-1.0)
    with pytest.raises(InputError, match=r"at least as many identities.*got 1 of 3; give more"):
        render(coloured()[:1], SMALL)
    with pytest.raises(InputError, match="each identity needs a crop, and number 1 has none"):
        render([coloured()[0], [], coloured()[0]], SMALL)
    with pytest.raises(InputError, match=r"uint8 \(h, w, 3\), got uint8 of shape \(9, 0, 3\)"):
        render([[np.zeros((9, 0, 3), np.uint8)]] * 3, SMALL)
    with pytest.raises(InputError, match=r"background must be \(90, 120, 3\), got \(9, 9, 3\)"):
        render(coloured(), SMALL, np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(InputError, match=r"frame must be in \[1, 12\], got 13"):
        render(coloured(), SMALL).frame(13)

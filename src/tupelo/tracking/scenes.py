"""Video made of crops of real objects, with everything about it known.

Objects move before a background, cross and hide each other; a detector that fails in bursts reports
them. So a tracker can be measured, and tried, where nobody has labelled a video. The plan of a
scene (boxes, visibility, detections) is made at once, pictures one at a time when asked for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8
from PIL import Image

from tupelo.errors import InputError

TALLEST, LOWEST = 1 / 3, 1 / 6  # of the height of the picture
BACKGROUND_GRIDS = (3, 7, 24, 90)  # cells across of the layers of a background, coarse to fine
SWELLING = 0.08  # share by which an object grows and shrinks
TURNING = 0.02  # of a frame, that an object of a crossing scene turns back
LANES = 2


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is rendered.

    Attributes:
        width: of a picture, pixels.
        height: of a picture, pixels.
        walkers: objects, each an identity of its own, all there from first to last frame.
        frames: how many.
        crossing: objects walk on two lanes in both directions at similar speeds and sometimes
            turn back, so that many meet and place alone does not tell who is who; otherwise each
            goes its own way at 1 to 4 pixels a frame.
        hold: frames for which an object shows the same crop, at most; its crops change at random.
        drop_out: probability of a frame that the detector loses an object for 3 to 11 frames.
        faint: probability, within such a burst, that it still reports the object with a confidence
            of 0.1 to 0.3.
        covered: share of an object that others hide, above which it is not detected.
        false_positives: mean number in a frame (Poisson).
        noise: standard deviation of the error of a detected box, as a share of its sides.
        seed: of everything.

    Raises:
        InputError: a size or number is too small, or a share is not one.
    """

    width: int = 480
    height: int = 360
    walkers: int = 10
    frames: int = 120
    crossing: bool = False
    hold: int = 6
    drop_out: float = 0.03
    faint: float = 0.0
    covered: float = 0.6
    false_positives: float = 0.3
    noise: float = 0.03
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"width": 48, "height": 48, "walkers": 1, "frames": 1, "hold": 1, "seed": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise InputError(f"{name} must be {value} or more, got {getattr(self, name)}")
        for name in ("drop_out", "faint", "covered", "noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be in [0, 1], got {getattr(self, name):g}")
        if not 0 <= self.false_positives < np.inf:
            raise InputError(f"false_positives must be 0 or more, got {self.false_positives:g}")


@dataclass(frozen=True)
class RenderedScene:
    """A scene whose pictures are made when they are asked for; `render` makes it.

    Frames count from 1, boxes are x, y, w, h from 0. The truth holds every object in every frame,
    hidden ones too; `visibility` tells the share that is seen.

    Attributes:
        scene: what was asked for.
        identities: of the given crops, which each object shows, (walkers,).
        boxes: of the objects, whole pixels, (frames, walkers, 4).
        visibility: in [0, 1], (frames, walkers).
        detection_frames: (n,).
        detections: (n, 4).
        confidence: (n,).
        background: (height, width, 3).
    """

    scene: Scene
    identities: Int64[np.ndarray, " walkers"]
    boxes: Float64[np.ndarray, "frames walkers 4"]
    visibility: Float64[np.ndarray, "frames walkers"]
    detection_frames: Int64[np.ndarray, " n"]
    detections: Float64[np.ndarray, "n 4"]
    confidence: Float64[np.ndarray, " n"]
    background: UInt8[np.ndarray, "height width 3"]
    _crops: Sequence[Sequence[np.ndarray]]
    _shown: Int64[np.ndarray, "frames walkers"]

    def frame(self, number: int) -> UInt8[np.ndarray, "height width 3"]:
        """The picture of a frame, counted from 1.

        Raises:
            InputError: there is no such frame.
        """
        if not 1 <= number <= self.scene.frames:
            raise InputError(f"frame must be in [1, {self.scene.frames}], got {number}")
        picture = self.background.copy()
        whole = self.boxes[number - 1].astype(np.int64)
        for walker in _from_far_to_near(self.boxes):
            x, y, w, h = whole[walker]
            of_identity = self._crops[int(self.identities[walker])]
            crop = of_identity[int(self._shown[number - 1, walker])]
            scaled = Image.fromarray(crop).resize((int(w), int(h)), Image.Resampling.BICUBIC)
            picture[y : y + h, x : x + w] = np.asarray(scaled)
        return picture

    def pictures(self) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """All frames in order, one in memory at a time."""
        return map(self.frame, range(1, self.scene.frames + 1))

    def detections_of(
        self, number: int
    ) -> tuple[Float64[np.ndarray, "m 4"], Float64[np.ndarray, " m"]]:
        """Boxes and confidence of what was detected in a frame."""
        here = self.detection_frames == number
        return self.detections[here], self.confidence[here]


def render(
    crops: Sequence[Sequence[UInt8[np.ndarray, "_ _ 3"]]],
    scene: Scene,
    background: UInt8[np.ndarray, "height width 3"] | None = None,
) -> RenderedScene:
    """Plan a scene of objects that look like these crops.

    An object has the mean aspect of its crops, and the area of one that is 1/6 to 1/3 of the
    picture high and half as wide; taller ones are nearer and hide smaller ones. Detections have the
    boxes of their objects with some error. Their confidence is 0.95, less 0.5 times the hidden
    share, less 2 times the error of the box as a share of its sides, with a standard deviation of
    0.05: most are above 0.6, hidden and misplaced ones below. False ones have 0.1 to 0.65 and stand
    anywhere.

    Args:
        crops: for each identity its pictures, RGB of any size.
        scene: what to make of them.
        background: default one drawn by the seed.

    Raises:
        InputError: there are fewer identities than objects, one has no crop, or the background has
            another size.

    >>> crops = [[np.full((40, 20, 3), shade, np.uint8)] for shade in (0, 120, 250)]
    >>> scene = render(crops, Scene(walkers=3, frames=12))
    >>> scene.frame(1).shape, scene.boxes.shape
    ((360, 480, 3), (12, 3, 4))
    """
    _check(crops, scene, background)
    generator = np.random.default_rng(scene.seed)
    identities = generator.permutation(len(crops))[: scene.walkers]
    if background is None:
        background = _background(scene, generator)
    boxes = _paths(scene, _aspects(crops, identities), generator)
    visibility = _visibility(boxes, scene)
    frames, found, confidence = _detect(scene, boxes, visibility, generator)
    counts = np.array([len(crops[identity]) for identity in identities])
    shown = _shown(scene, counts, generator)
    return RenderedScene(
        scene, identities, boxes, visibility, frames, found, confidence, background, crops, shown
    )


def _from_far_to_near(boxes: Float64[np.ndarray, "frames walkers 4"]) -> Int64[np.ndarray, " w"]:
    """Objects in the order in which they are painted: the nearer one is the taller one at first."""
    return np.argsort(boxes[0, :, 3], kind="stable")


def _aspects(crops, identities: np.ndarray) -> Float64[np.ndarray, " walkers"]:
    """Width over height."""
    return np.array(
        [np.mean([crop.shape[1] / crop.shape[0] for crop in crops[each]]) for each in identities]
    )


def _paths(
    scene: Scene, aspects: Float64[np.ndarray, " walkers"], generator: np.random.Generator
) -> Float64[np.ndarray, "frames walkers 4"]:
    """Boxes in whole pixels, inside the picture, of nearly constant velocity."""
    n = scene.walkers
    room = np.array([scene.width, scene.height], np.float64)
    tall = scene.height * generator.uniform(LOWEST, TALLEST, n)
    phase = generator.uniform(0, 2 * np.pi, n)
    period = generator.uniform(60, 120, n)
    place = generator.uniform(0.15, 0.85, (n, 2)) * room
    heading = generator.uniform(0, 2 * np.pi, n)
    speed = generator.uniform(1, 4, n)
    velocity = speed[:, None] * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    if scene.crossing:
        lane = (np.arange(n) % LANES + 1) / (LANES + 1)
        place[:, 1] = lane * scene.height + generator.normal(0, 0.01 * scene.height, n)
        tall = scene.height * generator.uniform(0.9 * TALLEST, TALLEST, n)
        across = generator.choice((-1, 1), n) * generator.uniform(2, 3, n)
        velocity = np.stack([across, generator.normal(0, 0.05, n)], axis=1)
    boxes = np.empty((scene.frames, n, 4))
    for frame in range(scene.frames):
        h = (
            tall
            * (0.5 / aspects) ** 0.5
            * (1 + SWELLING * np.sin(phase + 2 * np.pi * frame / period))
        )
        size = np.stack([np.minimum(aspects * h, 0.8 * scene.width), h], axis=1)
        size = np.maximum(np.round(size), 4)
        low, high = size / 2, room - size / 2
        velocity = np.where(place < low, np.abs(velocity), velocity)
        velocity = np.where(place > high, -np.abs(velocity), velocity)
        corner = np.round(np.clip(place, low, high) - size / 2)
        boxes[frame] = np.concatenate([np.clip(corner, 0, room - size), size], axis=1)
        place = place + velocity
        velocity = velocity + generator.normal(0, 0.05, (n, 2)) * np.array(
            [1.0, 0.2 if scene.crossing else 1.0]
        )
        if scene.crossing:
            velocity[generator.random(n) < TURNING, 0] *= -1
    return boxes


def _visibility(
    boxes: Float64[np.ndarray, "frames walkers 4"], scene: Scene
) -> Float64[np.ndarray, "frames walkers"]:
    """The share of each box that is seen, counted in pixels."""
    order = _from_far_to_near(boxes)
    seen = np.empty(boxes.shape[:2])
    for frame, whole in enumerate(boxes.astype(np.int64)):
        owner = np.full((scene.height, scene.width), -1, np.int16)
        for walker in order:
            x, y, w, h = whole[walker]
            owner[y : y + h, x : x + w] = walker
        pixels = np.bincount(owner.ravel() + 1, minlength=len(order) + 1)[1:]
        seen[frame] = pixels / (whole[:, 2] * whole[:, 3])
    return seen


def _bursts(scene: Scene, generator: np.random.Generator) -> Bool[np.ndarray, "frames walkers"]:
    """Where the detector loses an object."""
    lost = np.zeros((scene.frames, scene.walkers), bool)
    begins = generator.random(lost.shape) < scene.drop_out
    lengths = generator.integers(3, 12, lost.shape)
    for walker in range(scene.walkers):
        free = 0
        for frame in np.flatnonzero(begins[:, walker]):
            if frame >= free:
                free = frame + lengths[frame, walker]
                lost[frame:free, walker] = True
    return lost


def _detect(
    scene: Scene,
    boxes: Float64[np.ndarray, "frames walkers 4"],
    visibility: Float64[np.ndarray, "frames walkers"],
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames, boxes and confidence of what a detector reports, by frame."""
    lost = _bursts(scene, generator)
    faint = lost & (generator.random(lost.shape) < scene.faint)
    reported = (~lost | faint) & (1 - visibility <= scene.covered)
    error = scene.noise * generator.standard_normal(boxes.shape)
    sides = np.concatenate([boxes[..., 2:], boxes[..., 2:]], axis=-1)
    placed = boxes + error * sides
    placed[..., 2:] = np.maximum(placed[..., 2:], 0.5 * boxes[..., 2:])
    wrong = np.abs(error).mean(axis=-1)
    sure = 0.95 - 0.5 * (1 - visibility) - 2 * wrong
    sure = np.clip(sure + generator.normal(0, 0.05, sure.shape), 0.05, 1.0)
    sure = np.where(faint, generator.uniform(0.1, 0.3, sure.shape), sure)
    at, walker = np.nonzero(reported)
    false = generator.poisson(scene.false_positives, scene.frames)
    n = int(false.sum())
    size = boxes[0, generator.integers(0, scene.walkers, n), 2:] * generator.uniform(
        0.8, 1.2, (n, 1)
    )
    corner = generator.random((n, 2)) * np.maximum([scene.width, scene.height] - size, 1)
    frames = np.concatenate([at, np.repeat(np.arange(scene.frames), false)]) + 1
    found = np.concatenate([placed[at, walker], np.concatenate([corner, size], axis=1)])
    confidence = np.concatenate([sure[at, walker], generator.uniform(0.1, 0.65, n)])
    mixed = generator.permutation(len(frames))  # so that order tells nothing
    order = mixed[np.argsort(frames[mixed], kind="stable")]
    return frames[order], found[order], confidence[order]


def _shown(
    scene: Scene, counts: Int64[np.ndarray, " walkers"], generator: np.random.Generator
) -> Int64[np.ndarray, "frames walkers"]:
    """The crop each object shows in each frame."""
    changes = generator.random((scene.frames, scene.walkers)) < 1.5 / scene.hold
    drawn = generator.integers(0, counts, (scene.frames, scene.walkers))
    shown = np.empty_like(drawn)
    age = np.zeros(scene.walkers, np.int64)
    for frame in range(scene.frames):
        new = changes[frame] | (age >= scene.hold) | (frame == 0)
        shown[frame] = np.where(new, drawn[frame], shown[frame - 1])
        age = np.where(new, 1, age + 1)
    return shown


def _background(
    scene: Scene, generator: np.random.Generator
) -> UInt8[np.ndarray, "height width 3"]:
    """Layers of smooth noise, coarse ones strong and fine ones weak, in muted colours."""
    size = (scene.width, scene.height)
    total = np.zeros((scene.height, scene.width, 3), np.float32)
    for cells in BACKGROUND_GRIDS:
        down = max(2, round(cells * scene.height / scene.width))
        grey = generator.random((down, cells, 1))
        noise = 0.7 * grey + 0.3 * generator.random((down, cells, 3))
        layer = Image.fromarray(np.uint8(255 * noise)).resize(size, Image.Resampling.BICUBIC)
        total += (np.asarray(layer, np.float32) - 127) / cells**0.5
    slope = np.linspace(-25, 25, scene.height, dtype=np.float32)[:, None, None]
    return np.clip(120 + total + slope, 0, 255).astype(np.uint8)


def _check(crops, scene: Scene, background: np.ndarray | None) -> None:
    if len(crops) < scene.walkers:
        raise InputError(
            f"crops must show at least as many identities as there are walkers, got {len(crops)} "
            f"of {scene.walkers}; give more, or fewer walkers"
        )
    for number, of_one in enumerate(crops):
        if not len(of_one):
            raise InputError(f"each identity needs a crop, and number {number} has none")
        for crop in of_one:
            if crop.dtype != np.uint8 or crop.ndim != 3 or crop.shape[2] != 3 or not crop.size:
                raise InputError(
                    f"crops must be uint8 (h, w, 3), got {crop.dtype} of shape {crop.shape} of "
                    f"identity {number}"
                )
    wanted = (scene.height, scene.width, 3)
    if background is not None and background.shape != wanted:
        raise InputError(f"background must be {wanted}, got {background.shape}")

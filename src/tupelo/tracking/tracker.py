"""Online tracking by detection with an appearance metric that is used three ways.

Thoreau & Kottege (2018) name the uses: against identity switches, through occlusion, and to
propose detections where the detector fails. The frame loop around them is reconstructed
(`docs/tracker.md`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from numpy.typing import ArrayLike

from tupelo.errors import InputError
from tupelo.tracking import kalman
from tupelo.tracking.association import assigned, in_cascade
from tupelo.tracking.boxes import (
    checked,
    from_measured,
    kept,
    measured,
    overlaps,
    visible_share,
)
from tupelo.tracking.galleries import Embed, Galleries, checked_embeddings
from tupelo.tracking.proposals import NOISE, accepted, candidates
from tupelo.tracking.settings import TrackerSettings

VETO = 2.0  # a match by place is refused if the look is so many times too far
LOOK, MOTION = 0.5, 0.5  # weights of the two in the first stage


@dataclass(frozen=True)
class Tracked:
    """The tracks that were seen in a frame, by number.

    Attributes:
        ids: numbers of tracks, from 1, never used again.
        boxes: x, y, w, h in pixels, as the filter corrects them.
        scores: confidence of the detection; of a proposal 1 - its cosine distance.
        detections: row of the detection given to `update`; -1 for a proposal.
        proposed: which ones the tracker found itself.
    """

    ids: Int64[np.ndarray, " m"]
    boxes: Float64[np.ndarray, "m 4"]
    scores: Float64[np.ndarray, " m"]
    detections: Int64[np.ndarray, " m"]
    proposed: Bool[np.ndarray, " m"]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class _Found:
    """The detections of a frame that are strong enough to be associated."""

    rows: Int64[np.ndarray, " d"]  # of the detections given
    boxes: Float64[np.ndarray, "d 4"]
    scores: Float64[np.ndarray, " d"]
    measurements: Float64[np.ndarray, "d 4"]
    embeddings: Float32[np.ndarray, "d e"]  # of width 0 where nothing looks at them
    weak: Float64[np.ndarray, "w 4"]  # boxes below that


Cost = Callable[[np.ndarray, _Found, np.ndarray], np.ndarray]


class Tracker:
    """Follows objects from frame to frame; only frames up to the present are used.

    Detections may come from any detector and embeddings from any network.

    Args:
        settings: thresholds and switches; None: the defaults.
        embed: `(image, boxes) -> unit rows`, for detections without embeddings and for proposals.
            Cosine distances of its rows are what the thresholds mean.
        size: width and height of the frames in pixels, where no images are given; tracks that leave
            it are ended.

    >>> tracker = Tracker(TrackerSettings(confirm_after=2).with_uses())
    >>> for x in (10, 12, 14):
    ...     seen = tracker.update([[x, 20, 10, 30]], [0.9])
    >>> seen.ids.tolist(), seen.boxes.round().tolist()
    ([1], [[14.0, 20.0, 10.0, 30.0]])
    """

    def __init__(
        self,
        settings: TrackerSettings | None = None,
        embed: Embed | None = None,
        *,
        size: tuple[int, int] | None = None,
    ):
        self.settings = settings or TrackerSettings()
        self.embed = embed
        self.size = size
        self.frame = 0
        self._born = 0
        self._galleries = Galleries(self.settings.gallery)
        self._states = kalman.initiated(np.zeros((0, 4)))
        # of the living tracks, beside their states
        self._ids = np.zeros(0, dtype=np.int64)
        self._hits = np.zeros(0, dtype=np.int64)  # in a row, until they confirm
        self._misses = np.zeros(0, dtype=np.int64)  # frames since a detection or a proposal
        self._proposals = np.zeros(0, dtype=np.int64)  # one after another
        self._places = np.zeros(0, dtype=np.int64)  # of galleries
        # of the tracks updated in this frame
        self._rows = np.zeros(0, dtype=np.int64)
        self._scores = np.zeros(0)

    def __len__(self) -> int:
        """Living tracks, confirmed or not."""
        return len(self._ids)

    @property
    def ids(self) -> Int64[np.ndarray, " n"]:
        """Numbers of the living tracks."""
        return self._ids.copy()

    @property
    def boxes(self) -> Float64[np.ndarray, "n 4"]:
        """Where the living tracks are, or are believed to be while they are not seen."""
        return from_measured(self._states.position)

    @property
    def confirmed(self) -> Bool[np.ndarray, " n"]:
        """Which of the living tracks have been seen often enough."""
        return self._hits >= self.settings.confirm_after

    @property
    def misses(self) -> Int64[np.ndarray, " n"]:
        """Frames since each living track was last seen."""
        return self._misses.copy()

    def update(
        self,
        boxes: ArrayLike,
        scores: ArrayLike,
        image: np.ndarray | None = None,
        *,
        embeddings: ArrayLike | None = None,
        frame: int | None = None,
    ) -> Tracked:
        """The next frame. It must be called for frames without detections too.

        Args:
            boxes: detections `(n, 4)`: x, y, w, h in pixels, top left from 0.
            scores: confidence of each.
            image: `(h, w, 3)` of uint8, RGB; needed to propose, and to embed.
            embeddings: unit rows `(n, d)`, a row of NaN where a box cannot be seen; without them
                `embed` is asked.
            frame: its number; None: the next one. Frames left out are predicted through.

        Raises:
            InputError: bad boxes, scores, embeddings or image, a frame that does not come after
                the last one, or a use of the appearance without what it needs. Nothing has changed
                then.
            TrackingDiverged: the filter of a track broke down.
        """
        number = self.frame + 1 if frame is None else frame
        if number <= self.frame:
            raise InputError(
                f"frame must be above {self.frame}, the last one, got {number}; begin another "
                "Tracker for another video"
            )
        size = self._size_of(image)
        if self.settings.propose and (image is None or self.embed is None):
            what = "image" if image is None else "embed"
            raise InputError(
                f"propose needs the pictures and a network: {what} must be given, got None; give "
                "it, or switch propose off"
            )
        found = self._detections(*checked(boxes, scores), image, embeddings)

        self.size = size
        self._skip(number - self.frame - 1)
        self.frame = number
        self._predict()
        kalman.check_definite(self._states, self._ids, number)
        free = self._associate(found)
        if self.settings.propose and image is not None and self.embed is not None and size:
            self._propose(image, self.embed, size, found.weak)
        self._begin(found, free)
        self._end()
        return self._seen()

    # --- what comes in

    def _size_of(self, image: np.ndarray | None) -> tuple[int, int] | None:
        if image is None:
            return self.size
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(
                f"image must be (h, w, 3) of uint8, RGB, got {image.shape} of {image.dtype}"
            )
        height, width, _ = image.shape
        if self.size is not None and self.size != (width, height):
            raise InputError(
                f"image must be as large as the frames before, {self.size[0]} x {self.size[1]}, "
                f"got {width} x {height}"
            )
        return width, height

    def _detections(
        self,
        boxes: Float64[np.ndarray, "n 4"],
        scores: Float64[np.ndarray, " n"],
        image: np.ndarray | None,
        embeddings: ArrayLike | None,
    ) -> _Found:
        settings = self.settings
        tall = boxes[:, 3] >= settings.min_height
        rows = np.flatnonzero(tall & (scores >= settings.min_confidence))
        rows = rows[kept(boxes[rows], scores[rows], settings.nms_overlap)]
        weak = tall & (scores >= settings.low_confidence) & (scores < settings.min_confidence)
        looks = np.zeros((len(rows), 0), dtype=np.float32)
        if settings.needs_embeddings:
            looks = self._embeddings(boxes, rows, image, embeddings)
        return _Found(rows, boxes[rows], scores[rows], measured(boxes[rows]), looks, boxes[weak])

    def _embeddings(
        self,
        boxes: np.ndarray,
        rows: np.ndarray,
        image: np.ndarray | None,
        given: ArrayLike | None,
    ) -> Float32[np.ndarray, "d e"]:
        width = self._galleries.width
        if given is not None:
            return checked_embeddings(given, len(boxes), width)[rows]
        if self.embed is None or image is None:
            raise InputError(
                "embeddings must be given, or image and embed, since the settings use the "
                "appearance; give them, or TrackerSettings(...).with_uses()"
            )
        made = self.embed(image, boxes[rows]) if len(rows) else np.zeros((0, width or 0))
        return checked_embeddings(made, len(rows), width)

    # --- one frame

    def _skip(self, frames: int) -> None:
        """Frames that were left out: nothing was seen in them."""
        for _ in range(frames):
            if not len(self):
                return
            self._predict()
            self._end()

    def _predict(self) -> None:
        self._states = kalman.predicted(self._states)
        self._misses += 1
        self._rows = np.full(len(self), -1, dtype=np.int64)
        self._scores = np.zeros(len(self))

    def _associate(self, found: _Found) -> Int64[np.ndarray, " f"]:
        """All stages in turn; which detections are left."""
        free = np.arange(len(found.rows))
        active = self.confirmed & (self._misses == 1)
        free = self._match(self._near, np.flatnonzero(active), found, free)
        if self.settings.hidden_first:
            return self._fall_back(found, self._find_again(found, free))
        return self._find_again(found, self._fall_back(found, free))

    def _fall_back(self, found: _Found, free: np.ndarray) -> Int64[np.ndarray, " f"]:
        """Stage B: tracks seen a frame ago and new ones."""
        near = np.flatnonzero((self._misses == 1) | ((self._misses > 0) & ~self.confirmed))
        return self._match(self._by_place, near, found, free)

    def _find_again(self, found: _Found, free: np.ndarray) -> Int64[np.ndarray, " f"]:
        """Stage C: tracks that were not seen for a while."""
        if not self.settings.through_occlusion:
            return free
        lost = np.flatnonzero(self.confirmed & (self._misses > 1))
        return self._match(self._hidden, lost, found, free, cascade=self.settings.cascade)

    def _near(self, tracks: np.ndarray, found: _Found, free: np.ndarray) -> np.ndarray:
        """Stage A: tracks seen a frame ago, by look and motion (use 1), or by place."""
        settings = self.settings
        if not settings.against_switches:
            return self._overlap_cost(tracks, found, free)
        motion = kalman.distances(self._states.take(tracks), found.measurements[free])
        looks = self._looks(tracks, found, free, motion <= settings.gate)
        looks[looks > settings.appearance] = np.inf
        return LOOK * looks / settings.appearance + MOTION * motion / settings.gate

    def _by_place(self, tracks: np.ndarray, found: _Found, free: np.ndarray) -> np.ndarray:
        """By overlap; use 1 refuses what looks quite different."""
        settings = self.settings
        cost = self._overlap_cost(tracks, found, free)
        if settings.against_switches:
            near = np.isfinite(cost) & self.confirmed[tracks, None]
            looks = self._looks(tracks, found, free, near)
            # a look that is unknown refuses nothing
            cost[np.isfinite(looks) & (looks > VETO * settings.appearance)] = np.inf
        return cost

    def _overlap_cost(self, tracks: np.ndarray, found: _Found, free: np.ndarray) -> np.ndarray:
        cost = 1 - overlaps(from_measured(self._states.position[tracks]), found.boxes[free])
        cost[cost > self.settings.iou_distance] = np.inf
        return cost

    def _hidden(self, tracks: np.ndarray, found: _Found, free: np.ndarray) -> np.ndarray:
        """By look within the gate, which has grown with the misses (use 2)."""
        settings = self.settings
        motion = kalman.distances(self._states.take(tracks), found.measurements[free])
        possible = motion <= settings.gate
        if settings.occlusion_cost == "motion":
            return np.where(possible, motion, np.inf)
        looks = self._looks(tracks, found, free, possible)
        looks[looks > settings.reidentify] = np.inf
        return looks

    def _looks(
        self, tracks: np.ndarray, found: _Found, free: np.ndarray, wanted: np.ndarray
    ) -> Float64[np.ndarray, "n m"]:
        return self._galleries.distances(self._places[tracks], found.embeddings[free], wanted)

    def _match(
        self,
        cost_of: Cost,
        tracks: np.ndarray,
        found: _Found,
        free: np.ndarray,
        *,
        cascade: bool = False,
    ) -> Int64[np.ndarray, " f"]:
        """Correct the tracks that found a detection; the detections that are left."""
        if not len(tracks) or not len(free):
            return free
        cost = cost_of(tracks, found, free)
        if cascade:
            first, second = in_cascade(cost, self._misses[tracks])
        else:
            first, second = assigned(cost)
        if not len(first):
            return free
        rows, chosen = tracks[first], free[second]
        corrected = kalman.updated(self._states.take(rows), found.measurements[chosen])
        self._states = self._states.put(rows, corrected)
        self._misses[rows] = self._proposals[rows] = 0
        self._hits[rows] += 1
        self._rows[rows] = found.rows[chosen]
        self._scores[rows] = found.scores[chosen]
        self._remember(self._places[rows], found, chosen)
        return np.delete(free, second)

    def _remember(
        self, places: np.ndarray, found: _Found, chosen: np.ndarray, *, first: bool = False
    ) -> None:
        """Keep what strong detections look like that nobody covers, and always the first."""
        if not found.embeddings.shape[1] or not len(chosen):
            return
        rows = found.embeddings[chosen]
        seen = ~np.isnan(rows[:, 0])
        strong = found.scores[chosen] >= self.settings.strong_confidence
        shared = overlaps(found.boxes[chosen], found.boxes)
        shared[np.arange(len(chosen)), chosen] = 0
        apart = (shared < self.settings.gallery_overlap).all(axis=1)
        wanted = seen & ((strong & apart) | first | (self._galleries.lengths(places) == 0))
        self._galleries.add(places[wanted], rows[wanted])

    def _propose(
        self, image: np.ndarray, embed: Embed, size: tuple[int, int], weak: np.ndarray
    ) -> None:
        """Stage D: look for confirmed tracks that the detector missed (use 3)."""
        settings = self.settings
        missed = self.confirmed & (self._misses == 1)
        tracks = np.flatnonzero(missed & (self._proposals < settings.max_proposals))
        if not len(tracks):
            return
        states = self._states.take(tracks)
        places = candidates(states, self._ids[tracks], weak, size, self.frame, settings)
        if not len(places):
            return
        rows = checked_embeddings(embed(image, places.boxes), len(places), self._galleries.width)
        owned = places.owner == np.arange(len(tracks))[:, None]
        looks = self._galleries.distances(self._places[tracks], rows, owned)
        looks = looks[places.owner, np.arange(len(places))]
        taken = from_measured(self._states.position[self._misses == 0])
        chosen = accepted(places, looks, taken, settings)
        if not len(chosen):
            return
        rows = tracks[places.owner[chosen]]
        corrected = kalman.updated(self._states.take(rows), places.measurements[chosen], NOISE)
        self._states = self._states.put(rows, corrected)
        self._misses[rows] = 0
        self._proposals[rows] += 1
        self._scores[rows] = np.clip(1 - looks[chosen], 0, 1)

    def _begin(self, found: _Found, free: np.ndarray) -> None:
        """Strong detections that nobody took begin tracks."""
        new = free[found.scores[free] >= self.settings.strong_confidence]
        if not len(new):
            return
        places = self._galleries.opened(len(new))
        self._remember(places, found, new, first=True)
        self._states = self._states.joined(kalman.initiated(found.measurements[new]))
        self._ids = np.concatenate([self._ids, self._born + 1 + np.arange(len(new))])
        self._born += len(new)
        nothing = np.zeros(len(new), dtype=np.int64)
        self._hits = np.concatenate([self._hits, nothing + 1])
        self._misses = np.concatenate([self._misses, nothing])
        self._proposals = np.concatenate([self._proposals, nothing])
        self._places = np.concatenate([self._places, places])
        self._rows = np.concatenate([self._rows, found.rows[new]])
        self._scores = np.concatenate([self._scores, found.scores[new]])

    def _end(self) -> None:
        """Tracks that were missed too long, that never were confirmed, or that left."""
        confirmed, position = self.confirmed, self._states.position
        lives = (self._misses == 0) | (confirmed & (self._misses <= self.settings.lifetime))
        lives &= (position[:, 2:] > 0).all(axis=1)
        if self.size is not None and lives.any():
            boxes = from_measured(position[lives])
            lives[lives] = visible_share(boxes, *self.size) > 0
        if lives.all():
            return
        self._galleries.close(self._places[~lives])
        self._states = self._states.take(lives)
        for name in ("_ids", "_hits", "_misses", "_proposals", "_places", "_rows", "_scores"):
            setattr(self, name, getattr(self, name)[lives])

    def _seen(self) -> Tracked:
        seen = self.confirmed & (self._misses == 0)
        rows = self._rows[seen]
        return Tracked(
            self._ids[seen],
            from_measured(self._states.position[seen]),
            self._scores[seen],
            rows,
            rows < 0,
        )

"""The tracker as the specification tells it: one track at a time, 8 x 8 matrices, no shortcuts."""

from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import linear_sum_assignment

MOTION = np.eye(8) + np.eye(8, k=4)
MEASURING = np.eye(4, 8)
INFEASIBLE = 1e5


def measure(box):
    """Middle, aspect, height."""
    x, y, w, h = box
    return np.array([x + w / 2, y + h / 2, w / h, h])


def iou(a, b):
    """Of two boxes."""
    across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(across, 0.0) * max(down, 0.0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


class Filter:
    """One Kalman filter, with its 8 x 8 covariance."""

    def __init__(self, z):
        h = z[3]
        std = [h / 10, h / 10, 1e-2, h / 10, h / 16, h / 16, 1e-5, h / 16]
        self.mean, self.cov = np.r_[z, np.zeros(4)], np.diag(np.square(std))

    def predict(self):
        h = self.mean[3]
        std = [h / 20, h / 20, 1e-2, h / 20, h / 160, h / 160, 1e-5, h / 160]
        self.mean = MOTION @ self.mean
        self.cov = MOTION @ self.cov @ MOTION.T + np.diag(np.square(std))

    def innovation(self, noise=1.0):
        h = self.mean[3]
        std = noise * np.array([h / 20, h / 20, 1e-1, h / 20])
        return MEASURING @ self.cov @ MEASURING.T + np.diag(np.square(std))

    def distance(self, z):
        apart = z - MEASURING @ self.mean
        return apart @ cho_solve(cho_factor(self.innovation()), apart)

    def update(self, z, noise=1.0):
        S = self.innovation(noise)
        gain = cho_solve(cho_factor(S), MEASURING @ self.cov.T).T
        self.mean = self.mean + gain @ (z - MEASURING @ self.mean)
        self.cov = self.cov - gain @ S @ gain.T
        self.mean[3] = max(self.mean[3], 1)
        self.mean[2] = max(self.mean[2], 1 / self.mean[3])

    @property
    def box(self):
        x, y, a, h = self.mean[:4]
        return np.array([x - a * h / 2, y - h / 2, a * h, h])


@dataclass
class Track:
    """One object."""

    number: int
    filter: Filter
    hits: int = 1
    miss: int = 0
    proposals: int = 0
    gallery: list = field(default_factory=list)

    def look(self, row):
        """Least cosine distance."""
        if not self.gallery or np.isnan(row).any():
            return np.inf
        return min(1 - float(np.dot(each, row)) for each in self.gallery)


class NaiveTracker:
    """Sections 3.6, 3.7 and 3.9."""

    def __init__(self, settings, embed=None, size=None):
        self.s, self.embed, self.size = settings, embed, size
        self.tracks, self.born, self.frame = [], 0, 0

    def confirmed(self, track):
        return track.hits >= self.s.confirm_after

    def update(self, boxes, scores, image=None, embeddings=None, frame=None):
        s = self.s
        number = self.frame + 1 if frame is None else frame
        while self.frame < number - 1:
            self.frame += 1
            self.step()
            self.die()
        self.frame = number
        boxes, scores = np.asarray(boxes, float).reshape(-1, 4), np.asarray(scores, float)
        dets = [i for i in range(len(boxes)) if scores[i] >= s.min_confidence]
        dets = [i for i in dets if boxes[i][3] >= s.min_height]
        rows = {}
        if s.needs_embeddings and dets:
            every = embeddings if embeddings is not None else None
            made = self.embed(image, boxes[dets]) if every is None else every[dets]
            rows = dict(zip(dets, made, strict=True))
        self.step()
        self.seen = {}
        free = list(dets)
        active = [t for t in self.tracks if self.confirmed(t) and t.miss == 1]
        tentative = [t for t in self.tracks if not self.confirmed(t)]

        def stage_a(t, i):
            if not s.against_switches:
                return self.place(t, boxes[i])
            d2 = t.filter.distance(measure(boxes[i]))
            look = t.look(rows[i])
            if d2 > s.gate or look > s.appearance:
                return INFEASIBLE
            return 0.5 * look / s.appearance + 0.5 * d2 / s.gate

        def stage_b(t, i):
            cost = self.place(t, boxes[i])
            if s.against_switches and self.confirmed(t):
                look = t.look(rows[i])
                if np.isfinite(look) and look > 2 * s.appearance:
                    return INFEASIBLE
            return cost

        def stage_c(t, i):
            d2 = t.filter.distance(measure(boxes[i]))
            if d2 > s.gate:
                return INFEASIBLE
            if s.occlusion_cost == "motion":
                return d2
            look = t.look(rows[i])
            return INFEASIBLE if look > s.reidentify else look

        context = (boxes, scores, rows, dets)
        free = self.match(active, free, stage_a, context)
        for stage in "CB" if s.hidden_first else "BC":
            if stage == "B":
                rest = [t for t in active if t.miss == 1] + tentative
                rest.sort(key=lambda t: t.number)
                free = self.match(rest, free, stage_b, context)
            elif s.through_occlusion:
                lost = [t for t in self.tracks if self.confirmed(t) and t.miss > 1]
                groups = [lost]
                if s.cascade:
                    groups = [[t for t in lost if t.miss == m] for m in range(2, s.max_age + 2)]
                for group in groups:
                    free = self.match(group, free, stage_c, context)
        if s.propose:
            weak = [
                boxes[i]
                for i in range(len(boxes))
                if s.low_confidence <= scores[i] < s.min_confidence and boxes[i][3] >= s.min_height
            ]
            self.propose(image, weak)
        for i in free:
            if scores[i] >= s.strong_confidence:
                self.born += 1
                track = Track(self.born, Filter(measure(boxes[i])))
                self.tracks.append(track)
                self.seen[track.number] = (i, scores[i])
                if i in rows and not np.isnan(rows[i]).any():
                    track.gallery.append(rows[i])
        self.die()
        out = [t for t in self.tracks if self.confirmed(t) and t.miss == 0]
        return [(t.number, t.filter.box, *self.seen[t.number]) for t in out]

    def step(self):
        for t in self.tracks:
            t.filter.predict()
            t.miss += 1

    def place(self, t, box):
        cost = 1 - iou(t.filter.box, box)
        return INFEASIBLE if cost > self.s.iou_distance else cost

    def match(self, tracks, free, cost, context):
        boxes, scores, rows, dets = context
        if not tracks or not free:
            return free
        table = np.array([[cost(t, i) for i in free] for t in tracks])
        taken = set()
        for a, b in zip(*linear_sum_assignment(table), strict=True):
            if table[a, b] >= INFEASIBLE:
                continue
            t, i = tracks[a], free[b]
            t.filter.update(measure(boxes[i]))
            t.miss = t.proposals = 0
            t.hits += 1
            self.seen[t.number] = (i, scores[i])
            taken.add(i)
            if i in rows and not np.isnan(rows[i]).any():
                apart = all(
                    iou(boxes[i], boxes[j]) < self.s.gallery_overlap for j in dets if j != i
                )
                if (scores[i] >= self.s.strong_confidence and apart) or not t.gallery:
                    t.gallery.append(rows[i])
                    t.gallery = t.gallery[-self.s.gallery :]
        return [i for i in free if i not in taken]

    def propose(self, image, weak):
        s, (width, height) = self.s, self.size
        picks = []
        before = [t.filter.box for t in self.tracks if t.miss == 0]
        for t in self.tracks:
            if not self.confirmed(t) or t.miss != 1 or t.proposals >= s.max_proposals:
                continue
            mu, S = t.filter.mean[:4], t.filter.innovation()
            L = np.linalg.cholesky(S)
            rng = np.random.default_rng((s.seed, t.number, self.frame))
            places = [mu]
            if s.candidates == "samples":
                for xi in rng.standard_normal((s.samples, 4)):
                    z = mu + L @ xi
                    z[2] = mu[2]
                    z[3] = np.clip(z[3], 0.8 * mu[3], 1.2 * mu[3])
                    places.append(z)
            else:
                for dx in (-2, -1, 0, 1, 2):
                    for dy in (-2, -1, 0, 1, 2):
                        for scale in (0.9, 1.0, 1.1):
                            z = mu.copy()
                            z[0] += dx * np.sqrt(S[0, 0])
                            z[1] += dy * np.sqrt(S[1, 1])
                            z[3] *= scale
                            places.append(z)
            places += [measure(b) for b in weak if t.filter.distance(measure(b)) <= s.gate]
            best = None
            for z in places:
                if z[2] <= 0 or z[3] <= 0:
                    continue
                box = np.array([z[0] - z[2] * z[3] / 2, z[1] - z[3] / 2, z[2] * z[3], z[3]])
                across = min(box[0] + box[2], width) - max(box[0], 0)
                down = min(box[1] + box[3], height) - max(box[1], 0)
                share = max(across, 0) * max(down, 0) / (box[2] * box[3])
                if share < 0.5 or box[3] < s.min_height:
                    continue
                look = t.look(self.embed(image, box[None])[0])
                worth = look + 0.1 * t.filter.distance(z) / s.gate
                if best is None or worth < best[0]:
                    best = (worth, look, box, z, t)
            if best and best[1] <= s.proposal and all(iou(best[2], b) < 0.7 for b in before):
                picks.append(best)
        chosen = []
        for pick in sorted(picks, key=lambda p: p[1]):
            if all(iou(pick[2], other[2]) < 0.7 for other in chosen):
                chosen.append(pick)
        for _, look, _, z, t in chosen:
            t.filter.update(z, noise=2.0)
            t.miss = 0
            t.proposals += 1
            self.seen[t.number] = (-1, np.clip(1 - look, 0, 1))

    def die(self):
        def lives(t):
            most = self.s.max_age if self.s.through_occlusion else self.s.max_age_without
            if t.miss and not (self.confirmed(t) and t.miss <= most):
                return False
            if t.filter.mean[2] <= 0 or t.filter.mean[3] <= 0:
                return False
            if self.size is None:
                return True
            x, y, w, h = t.filter.box
            return x < self.size[0] and y < self.size[1] and x + w > 0 and y + h > 0

        self.tracks = [t for t in self.tracks if lives(t)]

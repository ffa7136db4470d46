"""What distances mean for a network: those of the same and of different identities, held out.

Thresholds of a tracker are stated as multiples of these, so that they survive another network.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float, Int64

from tupelo.data import ImageSet
from tupelo.errors import CheckpointError, InputError
from tupelo.evaluation import Roc, roc
from tupelo.inference import embed
from tupelo.recipes.places import write_text
from tupelo.trained import Trained

log = logging.getLogger(__name__)
NAME = "calibration.json"
SAME_SHARE, FAR = 0.95, 0.01
COMPARED_AT_MOST = 3000  # crops: 4.5 million pairs
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Calibration:
    """Cosine distances, 1 - cosine, of pairs of crops of held-out identities.

    Attributes:
        same_distance: 95 % of the pairs of one identity are at most so far apart.
        far_distance: of the pairs of two, at most 1 % are nearer.
        genuine: pairs of one identity.
        impostor: pairs of two.
        identities: that were held out.
    """

    same_distance: float
    far_distance: float
    genuine: int
    impostor: int
    identities: int


def pairs_of(rows: Float[np.ndarray, "n d"], labels: Int64[np.ndarray, " n"]) -> Roc:
    """Cosines of all pairs of unit rows; of more than 3,000, which are drawn.

    Raises:
        InputError: there is no pair of one identity, or none of two.
    """
    if len(rows) > COMPARED_AT_MOST:
        drawn = np.sort(np.random.default_rng(0).permutation(len(rows))[:COMPARED_AT_MOST])
        rows, labels = rows[drawn], labels[drawn]
    counts = np.unique(labels, return_counts=True)[1]
    if len(counts) < 2 or counts.max() < 2:
        raise InputError(
            f"calibration needs pairs of the same and of different identities, got {len(rows)} "
            f"crops of {len(counts)}; hold out more identities (--validation)"
        )
    wide = rows.astype(np.float64)
    first, second = np.triu_indices(len(wide), k=1)
    return roc((wide @ wide.T)[first, second], labels[first] == labels[second])


def calibrate(rows: Float[np.ndarray, "n d"], labels: Int64[np.ndarray, " n"]) -> Calibration:
    """The two distances that thresholds are stated by.

    With fewer than 100 pairs of different identities 1 % of them cannot be told; then the nearest
    of them is taken, which is logged.

    Args:
        rows: unit rows of crops that did not train.
        labels: their identities.

    Raises:
        InputError: see `pairs_of`.

    >>> rows = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.0, 1.0]])
    >>> found = calibrate(rows, np.array([0, 0, 1, 1]))
    >>> round(found.same_distance, 2), round(found.far_distance, 2)
    (0.19, 0.4)
    """
    found = pairs_of(rows, labels)
    threshold = found.threshold_at(FAR)
    if threshold is None:
        threshold = float(found.impostor[-1])
        log.warning(
            "%d pairs of different identities cannot tell a false-accept rate of %g: the distance "
            "of the nearest pair is taken",
            len(found.impostor),
            FAR,
        )
    return Calibration(
        same_distance=float(max(0.0, 1 - np.quantile(found.genuine, 1 - SAME_SHARE))),
        far_distance=max(0.0, 1 - threshold),
        genuine=len(found.genuine),
        impostor=len(found.impostor),
        identities=len(np.unique(labels)),
    )


def set_calibration(
    trained: Trained, held_out: ImageSet, progress: Progress | None = None
) -> Calibration:
    """Calibrate on held-out crops; the distances stand in the run.

    Args:
        trained: the model.
        held_out: crops of identities that did not train.
        progress: called while they are embedded.

    Raises:
        InputError: see `pairs_of`.
    """
    rows = embed(trained.model, held_out, progress=progress).z.numpy()
    found = calibrate(rows, held_out.labels)
    about = {"identity": trained.identity, **asdict(found)}
    write_text(trained.folder / NAME, json.dumps(about, indent=2) + "\n")
    return found


def calibration_of(trained: Trained) -> Calibration:
    """The distances that a run keeps.

    Raises:
        CheckpointError: there are none, they cannot be read, or the model is another one now.
    """
    path = trained.folder / NAME
    if not path.exists():
        raise CheckpointError(
            f"{trained.folder} has no {NAME}: the run was not made by tupelo reid train, or was "
            "stopped before its end; repeat that command"
        )
    try:
        stated = json.loads(path.read_text())
        identity = stated.pop("identity")
        found = Calibration(**stated)
        distances = (found.same_distance, found.far_distance)
        if not all(0 <= float(distance) <= 2 for distance in distances):
            raise ValueError(f"distances {distances} are none of unit rows")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is damaged: {error}; repeat tupelo reid train, which makes it anew"
        ) from error
    if identity != trained.identity:
        raise CheckpointError(
            f"{path} was made for other weights; repeat tupelo reid train, which makes it anew"
        )
    return found

"""What model and objective have to show when training is over, kept in the run."""

import json
import logging

import numpy as np
import torch
from jaxtyping import Int64

from tupelo import inference
from tupelo.data import ImageSet
from tupelo.models.saving import replace_file
from tupelo.sections import Shown, ask, to_json
from tupelo.training.records import Job

logger = logging.getLogger(__name__)

NAME = "sections.json"
CLASSES, EACH = 5, 8  # pictures that are shown


def keep_sections(job: Job, *, anew: bool) -> None:
    """Write `sections.json` into the run where something has sections; no failure ends the run.

    Args:
        job: trained.
        anew: replace what an earlier part of the run wrote.
    """
    if job.out is None or ((job.out / NAME).exists() and not anew):
        return
    asked = [job.model, job.objective]
    if not any(hasattr(module, "sections") for outer in asked for module in outer.modules()):
        return
    try:
        torch.manual_seed(job.settings.seed)  # `fit` gives the caller's random state back
        with (
            torch.no_grad(),
            inference.evaluating(job.model),
            inference.evaluating(job.objective),
        ):
            found = ask(asked, job.model, _shown(job))
        replace_file(job.out / NAME, json.dumps(to_json(found)).encode())
    except Exception as error:  # pictures or the disk may be gone, and the run is there
        logger.warning("the run keeps no sections: %s: %s", type(error).__name__, error)
        logger.debug("where it failed", exc_info=True)


def _shown(job: Job) -> Shown:
    pictures = job.validate or job.train
    batch = pictures.batch(some_rows(pictures))
    device = next(job.model.parameters()).device
    return Shown(
        batch.images.to(device),
        batch.labels.to(device),
        pictures.class_names,
        job.train.class_names,
    )


def some_rows(pictures: ImageSet) -> Int64[np.ndarray, " n"]:
    """The first pictures of each of some classes that are spread over all of them.

    >>> labels = np.repeat(np.arange(50), 10)
    >>> rows = some_rows(ImageSet.from_arrays(np.zeros((500, 8, 8), np.uint8), labels))
    >>> len(rows), np.unique(labels[rows]).tolist()
    (40, [0, 12, 24, 37, 49])
    """
    labels = pictures.labels
    if labels.ndim == 2:
        return np.linspace(0, len(labels) - 1, min(CLASSES * EACH, len(labels))).astype(np.int64)
    numbers = np.unique(labels)
    spread = np.linspace(0, len(numbers) - 1, min(CLASSES, len(numbers))).round().astype(int)
    each = CLASSES * EACH // len(spread)
    return np.concatenate([np.flatnonzero(labels == number)[:each] for number in numbers[spread]])

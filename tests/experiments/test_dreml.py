"""What random meta-classes must show: the paper's claims that a processor can check.

136 Omniglot characters of 14 x 14 pixels train six members for 255 steps each; Recall@1 is of 78
characters of other alphabets. The numbers stand in docs/dreml.md.
"""

import os
import warnings
from typing import NamedTuple

import numpy as np
import pytest

from tupelo import evaluation
from tupelo.data import ImageData, known
from tupelo.ensembles import joined, meta_classes
from tupelo.inference import embed
from tupelo.recipes import building
from tupelo.recipes.member import MemberOptions
from tupelo.recipes.members import PUBLISHED, train_members
from tupelo.recipes.recipe import RetrievalRecipe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.data,
    pytest.mark.skipif("TUPELO_DATA" not in os.environ, reason="Omniglot is read from TUPELO_DATA"),
]
TRAIN, TEST, MEMBERS = 136, 78, 6


class Scores(NamedTuple):
    """Recall@1 in percent: of the first 1, 2, ... members together, and of each alone."""

    together: list[float]
    alone: list[float]


@pytest.fixture(scope="module")
def pictures():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = known("omniglot", size=14, channels=1, validation=0)
    parts = [
        part.subset(np.flatnonzero(np.isin(part.labels, np.unique(part.labels)[:classes])))
        for part, classes in ((data.train, TRAIN), (data.test, TEST))
    ]
    return ImageData(parts[0], None, parts[1], ())


@pytest.fixture(scope="module")
def scored(pictures, tmp_path_factory):
    """Scores by name of the setting, each trained once."""

    def measure(name, n_meta, bags=None, **options):
        settings = {**PUBLISHED, "lr": 0.05, "steps": 255, "augment": "none", "seed": 0}
        recipe = building.resolve(
            RetrievalRecipe(source="known:omniglot", **settings), pictures.train
        )
        trained = train_members(
            recipe, pictures, tmp_path_factory.mktemp(name), learners=MEMBERS, bags=bags, threads=1,
            options=MemberOptions(meta_classes=n_meta, **options),
        )  # fmt: skip
        rows = [embed(member, pictures.test).z.numpy() for member in trained.model.members]
        together = [joined(rows[: i + 1]) / np.sqrt(i + 1) for i in range(MEMBERS)]
        return Scores([recall(z, pictures) for z in together], [recall(z, pictures) for z in rows])

    shared = np.repeat(meta_classes(TRAIN, 12, 1, seed=0), MEMBERS, axis=1)
    return {
        "4": measure("four", 4),
        "12": measure("twelve", 12),
        "136": measure("unmerged", TRAIN),
        "shared": measure("shared", 12, shared),
        "normalize": measure("normalize", 12, normalize=True),
    }


def recall(z, pictures):
    report = evaluation.retrieval(z, pictures.test.labels, ks=(1,))
    return round(100 * report.as_dict()["recall@1"], 1)


@pytest.mark.parametrize("name", ["4", "12", "136"])
def test_an_ensemble_is_far_above_its_members_and_grows_with_them(scored, name):
    """Claim (a)."""
    together, alone = scored[name]
    assert together[-1] > max(alone) + 5
    assert together[0] < together[1] < together[3] < together[5] + 0.5


def test_bags_of_their_own_are_clearly_above_one_shared_bag(scored):
    """Claim (b): without bags of their own only the start and the order of pictures differ."""
    assert scored["12"].together[-1] > scored["shared"].together[-1] + 3


def test_more_meta_classes_make_members_better_and_leave_less_to_gain(scored):
    """Claim (c)."""
    settings = [scored[name] for name in ("4", "12", "136")]
    single = [np.mean(alone) for _, alone in settings]
    gain = [together[-1] - np.mean(alone) for together, alone in settings]
    assert single[0] < single[1] < single[2]
    assert gain[0] > gain[2]
    assert gain[1] > gain[2]


def test_many_small_bags_beat_one_large_classifier(scored):
    """Claim (d): 6 members of 12 dimensions against one of 136."""
    assert scored["12"].together[-1] > scored["136"].together[0]

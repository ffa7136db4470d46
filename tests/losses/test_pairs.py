import pytest
import torch

from tupelo import losses
from tupelo.comparison import Comparison
from tupelo.errors import InputError

# Four points on the circle: similarities 01 .6, 02 0, 03 -1, 12 .8, 13 -.6, 23 0, so distances
# sqrt(2 - 2 s): 01 .894427, 02 1.414214, 03 2, 12 .632456, 13 1.788854, 23 1.414214.
POINTS = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 1, 1])

BY_HAND = [
    # positives (.894427 + 1.414214) / 2; of the negatives only 12 is active: 1 - .632456
    (losses.Contrastive(), 1.154321 + 0.367544),
    # ((.2 + .8) * 2 + .3 * 2) / 4
    (losses.CosineContrastive(), 0.65),
    # anchor 0 and 3: no negative is mined. Anchor 1: log(1 + e^-.2) / 2 + log(1 + e^12) / 40.
    # Anchor 2: log(1 + e) / 2 + log(1 + e^-20 + e^12) / 40
    (losses.MultiSimilarity(), (0.2990695 + 0.3000002 + 0.656631 + 0.3000002) / 4),
    # (log(1 + e^-.2) + log(1 + e)) / 2 + log(1 + e^15) / 4, the other negatives add < e^-25
    (losses.BinomialDeviance(), 0.9557005 + 3.75),
    # log(1 + (1 + e^-1) / e^.6), log(1 + (e^.8 + e^-.6) / e^.6), log(2 + e^.8),
    # log(1 + e^-1 + e^-.6)
    (losses.NTXent(temperature=1.0), (0.560020 + 0.925289 + 1.441147 + 0.650600) / 4),
    # the same, and all norms are 1
    (losses.NPairs(), (0.560020 + 0.925289 + 1.441147 + 0.650600) / 4 + 0.002),
    # log(e^(1 - 1.414214) + e^-1 + e^(1 - .632456) + e^(1 - 1.788854)) = 1.074077 for both pairs:
    # ((1.074077 + .894427)^2 / 2 + (1.074077 + 1.414214)^2 / 2) / 2
    (losses.LiftedStructure(), (1.937504 + 3.095796) / 2),
    # (1,0,2): .461971, (2,3,0): .2, (2,3,1): .981758; the other five are inactive
    (losses.AllTriplets(), 1.643729 / 3),
    (losses.AllTriplets(average="all"), 1.643729 / 8),
    # nearest negatives at 1.414214, .632456, .632456, 1.788854: anchor 1 .461971, anchor 2 .981758
    (losses.HardestNegativeTriplets(), (0.461971 + 0.981758) / 4),
]


@pytest.mark.parametrize(("loss", "value"), BY_HAND, ids=lambda x: type(x).__name__)
def test_value_worked_by_hand(loss, value):
    terms = loss(Comparison.within(POINTS, LABELS))
    assert terms.shape == (4,)
    assert terms.mean().item() == pytest.approx(value, abs=3e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: losses.Contrastive(-0.1), "0 <= positive_margin < negative_margin, got -0.1"),
        (lambda: losses.Contrastive(1.0, 1.0), "0 <= positive_margin < negative_margin"),
        (lambda: losses.Contrastive(average="all"), "'active' or 'pairs', got 'all'"),
        (lambda: losses.MultiSimilarity(alpha=0.0), "alpha and beta must be > 0, got 0.0"),
        (lambda: losses.MultiSimilarity(negative_reference="x"), "'kept' or 'all', got 'x'"),
        (lambda: losses.BinomialDeviance(negative_cost=0.0), "negative_cost must be > 0"),
        (lambda: losses.NTXent(temperature=0.0), "temperature must be > 0, got 0.0"),
        (lambda: losses.NPairs(l2_weight=-1.0), "l2_weight must be >= 0, got -1.0"),
        (lambda: losses.LiftedStructure(margin=0.0), "margin must be > 0, got 0.0"),
        (lambda: losses.AllTriplets(margin=0.0), "margin must be > 0, in distance units, got 0.0"),
        (lambda: losses.AllTriplets(average="sum"), "'active' or 'all', got 'sum'"),
        (lambda: losses.HardestNegativeTriplets(0.0), "margin must be > 0, in distance units"),
        (lambda: losses.HardestNegativeTriplets(average="x"), "'active', 'all' or 'sum', got 'x'"),
    ],
)
def test_settings_out_of_range_are_refused(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_lifted_structure_takes_the_negatives_of_remembered_candidates_from_the_anchors():
    # anchor 0 and 2 against one remembered candidate of anchor 0's class: N of the candidate is {2}
    z = POINTS[[0, 2]]
    within = Comparison.within(z, torch.tensor([0, 1]))
    comparison = within.with_candidates(
        POINTS[[1]], torch.tensor([[True], [False]]), torch.tensor([[False], [True]])
    )
    # log(e^(1 - 1.414214) + e^(1 - .632456)) + .894427 = .744337 + .894427, squared, halved
    assert losses.LiftedStructure()(comparison).mean().item() == pytest.approx(1.342774, abs=3e-6)

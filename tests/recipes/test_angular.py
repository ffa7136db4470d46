import pytest

from tupelo.errors import InputError
from tupelo.losses import AdaptiveMargin, ExponentialMean, Mining
from tupelo.recipes.angular import angular, angular_exponential


@pytest.mark.parametrize("made", [angular, angular_exponential])
def test_every_option_reaches_the_loss(made):
    loss = made(
        5,
        4,
        margin=0.5,
        mining="topk",
        share=0.5,
        power=2,
        weight=3.0,
        scale=8.0,
        learn_scale=True,
        start_step=7,
        learning_rate=0.2,
    )
    assert loss.constraint.margin == 0.5
    assert loss.constraint.mining == Mining("topk", 0.5, 2)
    assert (loss.weight, loss.scale, loss.start_step, loss.learning_rate) == (3.0, 8.0, 7, 0.2)
    assert loss.raw_scale is not None
    assert loss.weights.shape == (5, 4)
    margin = made(5, 4, adaptive=True, highest=0.7).constraint.margin
    assert isinstance(margin, AdaptiveMargin)
    assert margin.highest == 0.7


def test_what_they_are_without_options():
    assert angular(5, 4).constraint.margin == 0.9
    assert angular_exponential(5, 4).constraint.margin == 1.2
    exponential = angular_exponential(5, 4, margin=20.0, sharpness=30.0, form="log").constraint
    assert isinstance(exponential, ExponentialMean)
    assert (exponential.sharpness, exponential.form) == (30.0, "log")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adaptive": True, "margin": 0.5}, "margin does nothing with adaptive=true"),
        ({"highest": 0.5}, "highest is of a margin that sets itself; give adaptive=true too"),
        ({"share": 0.5}, "share is of mining=topk, got mining=hinge"),
    ],
)
@pytest.mark.parametrize("made", [angular, angular_exponential])
def test_options_that_would_do_nothing_are_refused(made, options, message):
    with pytest.raises(InputError, match=message):
        made(5, 4, **options)

"""The angular-discriminative softmax from flat options, as the command line gives them."""

from typing import Literal

from tupelo.errors import InputError
from tupelo.losses import (
    AdaptiveMargin,
    AngularSoftmax,
    CosineMargin,
    ExponentialMean,
    Mining,
)

Mode = Literal["none", "hinge", "violators", "topk"]


def angular(
    n_classes: int,
    dim: int,
    *,
    margin: float | None = None,
    adaptive: bool = False,
    highest: float | None = None,
    mining: Mode = "hinge",
    share: float | None = None,
    power: int = 1,
    weight: float = 1.0,
    scale: float | None = None,
    learn_scale: bool = False,
    start_step: int = 0,
    learning_rate: float | None = None,
) -> AngularSoftmax:
    """Softmax with a margin on the cosine of each picture and its class.

    Args:
        n_classes: training classes.
        dim: embedding width.
        margin: of the cosine, 0.9 where it is not given; not with `adaptive`.
        adaptive: the margin sets itself, up to `highest`.
        highest: see `AdaptiveMargin`; with `adaptive` alone.
        mining, share, power: see `Mining`.
        weight, scale, learn_scale, start_step, learning_rate: see `AngularSoftmax`.

    Raises:
        InputError: as these, or an option that would do nothing.
    """
    bound = _margin(0.9 if margin is None else margin, margin is not None, adaptive, highest)
    chosen = _mining(mining, share, power)
    return AngularSoftmax(
        n_classes,
        dim,
        constraint=CosineMargin(bound, mining=chosen),
        weight=weight,
        scale=scale,
        learn_scale=learn_scale,
        start_step=start_step,
        learning_rate=learning_rate,
    )


def angular_exponential(
    n_classes: int,
    dim: int,
    *,
    margin: float | None = None,
    adaptive: bool = False,
    highest: float | None = None,
    sharpness: float = 1.0,
    form: Literal["outside", "inside", "log"] = "outside",
    mining: Mode = "hinge",
    share: float | None = None,
    power: int = 1,
    weight: float = 1.0,
    scale: float | None = None,
    learn_scale: bool = False,
    start_step: int = 0,
    learning_rate: float | None = None,
) -> AngularSoftmax:
    """Softmax with a margin over the mean of the other classes, in exponential space.

    Args:
        n_classes: training classes.
        dim: embedding width.
        margin: of the exponentials, 1.2 where it is not given; not with `adaptive`.
        adaptive: the margin sets itself, up to `highest`.
        highest: see `AdaptiveMargin`; with `adaptive` alone.
        sharpness, form: see `ExponentialMean`.
        mining, share, power: see `Mining`.
        weight, scale, learn_scale, start_step, learning_rate: see `AngularSoftmax`.

    Raises:
        InputError: as these, or an option that would do nothing.
    """
    bound = _margin(1.2 if margin is None else margin, margin is not None, adaptive, highest)
    chosen = _mining(mining, share, power)
    return AngularSoftmax(
        n_classes,
        dim,
        constraint=ExponentialMean(bound, sharpness=sharpness, form=form, mining=chosen),
        weight=weight,
        scale=scale,
        learn_scale=learn_scale,
        start_step=start_step,
        learning_rate=learning_rate,
    )


def _margin(
    margin: float, given: bool, adaptive: bool, highest: float | None
) -> float | AdaptiveMargin:
    if adaptive and given:
        raise InputError(
            "margin does nothing with adaptive=true, where the margin sets itself; give highest, "
            "or leave one of them out"
        )
    if highest is not None and not adaptive:
        raise InputError("highest is of a margin that sets itself; give adaptive=true too")
    return AdaptiveMargin(highest=highest) if adaptive else margin


def _mining(mode: Mode, share: float | None, power: int) -> Mining:
    if share is None:
        return Mining(mode, power=power)
    if mode != "topk":
        raise InputError(f"share is of mining=topk, got mining={mode}; leave it out")
    return Mining(mode, share, power)

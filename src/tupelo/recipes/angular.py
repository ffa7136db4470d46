"""The angular-discriminative softmax from flat options, as the command line gives them."""

from typing import Literal

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
    margin: float = 0.9,
    adaptive: bool = False,
    highest: float = 0.98,
    mining: Mode = "hinge",
    share: float = 0.25,
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
        margin: of the cosine; not looked at where it is adaptive.
        adaptive: the margin sets itself, up to `highest`.
        highest: see `AdaptiveMargin`.
        mining, share, power: see `Mining`.
        weight, scale, learn_scale, start_step, learning_rate: see `AngularSoftmax`.
    """
    chosen = Mining(mining, share, power)
    bound = AdaptiveMargin(highest=highest) if adaptive else margin
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
    margin: float = 1.2,
    adaptive: bool = False,
    sharpness: float = 1.0,
    form: Literal["outside", "inside", "log"] = "outside",
    mining: Mode = "hinge",
    share: float = 0.25,
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
        margin: of the exponentials; not looked at where it is adaptive.
        adaptive: the margin sets itself.
        sharpness, form: see `ExponentialMean`.
        mining, share, power: see `Mining`.
        weight, scale, learn_scale, start_step, learning_rate: see `AngularSoftmax`.
    """
    chosen = Mining(mining, share, power)
    bound = AdaptiveMargin() if adaptive else margin
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

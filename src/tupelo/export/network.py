"""What is exported: the network with all that stands between pixels and unit rows."""

from collections.abc import Sequence

from torch import Tensor, nn

from tupelo.errors import InputError
from tupelo.inference import rows_of, scales_of
from tupelo.models import VAE, Autoencoded, Embedder
from tupelo.types import Embedded


class PixelsToRows(nn.Module):
    """Pixels uint8 (b, h, w, c), as Pillow gives them, to unit rows float32 (b, d).

    With `half` the backbone computes in half precision; scaling, normalisation, the head and the
    unit rows stay in float32, as they do in mixed precision.

    Args:
        model: in float32 on the CPU; its backbone is converted in place.
        half: see above. Of a model that is no `Embedder` everything but the unit rows is halved.
    """

    def __init__(self, model: nn.Module, *, half: bool = False) -> None:
        super().__init__()
        self.model = model
        self.half_precision = half
        if half:
            (model.backbone if isinstance(model, Embedder) else model).half()

    def forward(self, pictures: Tensor) -> Tensor:
        """The rows of a batch."""
        images = pictures.permute(0, 3, 1, 2).float() / 255
        if self.half_precision and isinstance(self.model, Embedder):
            model = self.model
            images = (images - model.mean) / model.std
            return model.embed(model.backbone(images.half())).z
        if self.half_precision:
            images = images.half()
        if isinstance(self.model, VAE):  # neither noise nor pictures are wanted
            return unit_rows(self.model.encode(images).mean)
        output = self.model(images)
        return unit_rows(output, scales_of(self.model))


def unit_rows(output: object, scales: Sequence[float] = ()) -> Tensor:
    """Rows of what a model returned: `Embedded`, or one per learner.

    Raises:
        InputError: it is something else.
    """
    learners = output if isinstance(output, (tuple, list)) else ()
    if isinstance(output, Embedded | Autoencoded):
        return output.z.float()
    if learners and all(isinstance(learner, Embedded) for learner in learners):
        return rows_of(learners, scales).float()
    raise InputError(
        f"a model to export must return Embedded, or one per learner; got {type(output).__name__}"
    )

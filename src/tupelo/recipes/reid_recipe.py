"""The options of `tupelo reid train`: one frozen record, equal to a file and to the options.

As `RetrievalRecipe`: None means chosen from the data when the run starts, said on screen and
written into the run.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tupelo.recipes.fields import Options, Size, option, to_yaml

Network = Literal["reid", "reid-small"]
LossName = Literal["contrastive", "triplet", "softmax"]
TITLES = {
    "contrastive": "Siamese: all same pairs and as many of the hardest different ones, margin {:g}",
    "triplet": "batch-hard triplets, soft margin",
    "softmax": "softmax over cosines, their scale learned",
}
USUAL_DIM = {"reid": 128, "reid-small": 64}
USUAL_SHIFTED = 0.25


class ReidRecipe(BaseModel):
    """How to train an embedding that finds the same person, or thing, again; in full.

    Raises:
        pydantic.ValidationError: a value is out of its range or two options contradict each
            other; use `reading.checked` for errors that name the option of the command line.

    >>> ReidRecipe(source="crops", loss="softmax").shifted
    0.0
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="folder with a sub-folder per identity, or Market-1501")

    size: Size | None = option(
        None, "Data", "HEIGHTxWIDTH in pixels, to which each crop is squeezed [128x64 for reid, "
        "64x32 for reid-small]"
    )  # fmt: skip
    channels: Literal["auto", "1", "3"] = option(
        "3", "Data", "1 grey, 3 colour, auto grey when every picture is"
    )
    validation: float = option(
        0.1, "Data", "share of the training identities held out to choose and calibrate on", gt=0,
        lt=1,
    )  # fmt: skip
    columns: dict[str, str] = option(
        {}, "Data", "your name of a manifest column, as in path=file or label=person"
    )
    allow_bad: float = option(
        0.01, "Data", "share of pictures that may be unusable before the run stops", ge=0, le=1
    )
    flip: bool = option(True, "Data", "mirror half of the training crops")
    jitter: float = option(
        0.05, "Data", "training crops are moved and scaled by up to this share", ge=0, lt=1
    )

    network: Network | None = option(
        None, "Model", "the network of DeepSORT (2.8 M weights), or a small one for a CPU "
        "[reid with a GPU, else reid-small]"
    )  # fmt: skip
    dim: int | None = option(
        None, "Model", "width of the embedding [128 for reid, 64 for reid-small]", ge=1
    )

    loss: LossName = option(
        "contrastive", "Method", "pairs, batch-hard triplets, or classification of identities"
    )
    loss_options: Options = option(
        {}, "Method", "a number of the loss by its name in Python, as in scale=20 of softmax; "
        "repeat for more",
    )  # fmt: skip
    margin: float = option(1.0, "Method", "of contrastive, in distance of unit rows", gt=0, le=2)
    shifted: float | None = option(
        None, "Method", "share of the crops of a batch that come again, moved off their object, as "
        "negatives [0.25; 0 for softmax]", ge=0, lt=1,
    )  # fmt: skip

    epochs: int | None = option(
        None, "Training", "passes over the training crops [about 3,000 steps, 10 to 200]", ge=1
    )
    identities: int | None = option(
        None, "Training", "identities in a batch [32, or as many as there are]", ge=2
    )
    per_identity: int = option(4, "Training", "crops of each", ge=2)
    lr: float = option(1e-3, "Training", "peak learning rate of Adam", gt=0)
    schedule: Literal["cosine", "constant"] = option(
        "cosine", "Training", "learning rate over the run"
    )
    weight_decay: float = option(1e-8, "Training", "of the weights of the network", ge=0)
    clip_norm: float | None = option(
        None, "Training", "largest norm of the gradient [no limit]", gt=0
    )
    patience: int | None = option(
        None, "Training", "stop after so many evaluations without a better validation mAP [never]",
        ge=1,
    )  # fmt: skip
    evaluate_every: int | None = option(
        None, "Training", "epochs between evaluations on validation [about 10 in a run]", ge=1
    )
    seed: int = option(0, "Training", "of the split, the start and all draws", ge=0, lt=2**63)

    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto", "Machine", "of the network; bfloat16 where the hardware is faster in it (auto)"
    )
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = option("auto", "Machine", "kind of device")
    workers: int = option(0, "Machine", "processes that prepare batches", ge=0)
    checkpoint_every: int | None = option(
        500, "Machine", "steps between checkpoints; one follows each epoch anyway", ge=1
    )
    log_every: int = option(50, "Machine", "steps between rows of metrics.csv", ge=1)
    tensorboard: bool | None = option(
        None, "Machine", "also log for TensorBoard [when it is installed]"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_method(cls, values: Any) -> Any:
        """What follows from the loss alone."""
        if not isinstance(values, Mapping):
            return values
        given = {name: value for name, value in values.items() if value is not None}
        shifted = 0.0 if given.get("loss") == "softmax" else USUAL_SHIFTED
        return {**values, "shifted": shifted, **given}

    @model_validator(mode="after")
    def _agree(self) -> "ReidRecipe":
        """Refuse options that contradict each other, with the reason."""
        if self.loss == "softmax" and self.shifted:
            raise ValueError(
                f"--shifted must be 0 for --loss softmax, which has no class for a crop of nobody, "
                f"got {self.shifted:g}; take contrastive or triplet"
            )
        return self

    @property
    def title(self) -> str:
        """The loss in words."""
        return TITLES[self.loss].format(self.margin)

    def to_yaml(self) -> str:
        """The recipe as a file, in the order of the options, grouped as in the help."""
        return to_yaml(self)


def is_reid(values: Mapping[str, Any]) -> bool:
    """Whether the options of a recipe file are of this kind."""
    return "per_identity" in values


def as_retrieval(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options by which other commands read pictures as this run did.

    Parts are those of the source: which identities were held out is known to the run alone.

    >>> as_retrieval({"source": "crops", "seed": 3, "margin": 0.2})
    {'source': 'crops', 'seed': 3, 'resize': 'squash', 'validation': 0, 'test': 0}
    """
    shared = ("source", "size", "channels", "columns", "allow_bad", "seed", "dim", "precision")
    known = {name: values[name] for name in shared if values.get(name) is not None}
    return {**known, "resize": "squash", "validation": 0, "test": 0}

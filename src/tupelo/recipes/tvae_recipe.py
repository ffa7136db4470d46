"""The options of `tupelo tvae train`: one frozen record, equal to a file and to the options.

As `RetrievalRecipe`: None means chosen from the data when the run starts, said on screen and
written into the run.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tupelo.recipes.fields import option, to_yaml

Method = Literal["tvae", "vae", "triplet"]
TITLES = {
    "tvae": "triplet variational autoencoder (TVAE)",
    "vae": "variational autoencoder without triplets (VAE)",
    "triplet": "triplets alone, without the ELBO",
}
WEIGHTS = {
    "tvae": {"weight_vae": 0.01, "weight_triplet": 1.0, "weight_regulariser": 0.001},
    "vae": {"weight_vae": 0.01, "weight_triplet": 0.0, "weight_regulariser": 0.0},
    "triplet": {"weight_vae": 0.0, "weight_triplet": 1.0, "weight_regulariser": 0.001},
}
SHARED = (
    "source", "size", "channels", "resize", "split", "validation", "test", "columns", "allow_bad",
    "seed", "dim", "precision",
)  # fmt: skip
"""Options that mean the same in `RetrievalRecipe`."""


class TvaeRecipe(BaseModel):
    """How to train a triplet variational autoencoder from labelled pictures, in full.

    Raises:
        pydantic.ValidationError: a value is out of its range or two options contradict each
            other; use `reading.checked` for errors that name the option of the command line.

    >>> TvaeRecipe(source="photos", method="vae").weight_triplet
    0.0
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(
        description="folder with a sub-folder per class, manifest, zip, or data set"
    )

    size: int | None = option(
        None, "Data", "side in pixels [as the pictures are when all agree, else 224]", ge=4, le=1024
    )
    channels: Literal["auto", "1", "3"] = option(
        "auto", "Data", "1 grey, 3 colour, auto grey when every picture is"
    )
    resize: Literal["crop", "squash", "pad"] = option(
        "crop", "Data", "how pictures of other shapes are made square"
    )
    split: Literal["auto", "classes", "items", "given"] = option(
        "auto",
        "Data",
        "parts share no class (classes), every class is divided (items), as the source says "
        "(given), given where there is one and else items (auto)",
    )
    validation: float | None = option(
        None, "Data", "share of pictures (or classes) to choose on; 0: none, the last weights are "
        "kept [0.1, or 2 of each class]", ge=0, lt=1,
    )  # fmt: skip
    test: float | None = option(
        None,
        "Data",
        "share of pictures (or classes) looked at once, at the end [0.15, or 2 of each class]",
        ge=0,
        lt=1,
    )
    labelled: float = option(
        1.0,
        "Data",
        "share of training pictures whose class is used; the others only teach the autoencoder",
        gt=0,
        le=1,
    )
    columns: dict[str, str] = option(
        {}, "Data", "your name of a manifest column, as in path=file or label=species"
    )
    allow_bad: float = option(
        0.01, "Data", "share of pictures that may be unusable before the run stops", ge=0, le=1
    )

    model: Literal["mlp", "conv"] | None = option(
        None, "Model", "one hidden layer, or convolutions [mlp up to 32 px, else conv]"
    )
    dim: int | None = option(None, "Model", "width of the code [20 for mlp, 64 for conv]", ge=1)
    hidden: int | None = option(None, "Model", "units of both hidden layers of mlp [400]", ge=1)
    reconstruction: Literal["bernoulli", "squared"] = option(
        "bernoulli",
        "Model",
        "cross-entropy of pixels, or their squared differences (conv only)",
    )

    method: Method = option("tvae", "Method", "the whole, or a baseline that leaves parts out")
    margin: float | None = option(
        None, "Method", "of the triplets, in distance between means [0.2]", gt=0,
        allow_inf_nan=False,
    )  # fmt: skip
    weight_vae: float | None = option(
        None, "Method", "of the negative ELBO [0.01]", ge=0, allow_inf_nan=False
    )
    weight_triplet: float | None = option(
        None, "Method", "of the triplets [1]", ge=0, allow_inf_nan=False
    )
    weight_regulariser: float | None = option(
        None, "Method", "of the norms of the means [0.001]", ge=0, allow_inf_nan=False
    )
    triplets: int | None = option(
        None, "Method", "training triplets, drawn once [as many as training pictures]", ge=1
    )
    fresh: bool = option(
        False, "Method", "draw the training triplets anew for every epoch (not of the paper)"
    )
    test_triplets: int = option(10_000, "Method", "test triplets to judge by, drawn once", ge=1)

    epochs: int = option(10, "Training", "passes over the training triplets", ge=1)
    batch: int = option(120, "Training", "triplets a step", ge=1)
    lr: float = option(1e-3, "Training", "learning rate of Adam", gt=0)
    schedule: Literal["constant", "cosine"] = option(
        "constant", "Training", "learning rate over the run"
    )
    clip_norm: float | None = option(
        None, "Training", "largest norm of the gradient [no limit]", gt=0
    )
    patience: int | None = option(
        None, "Training", "stop after so many epochs without better validation triplets, nor, of "
        "equal ones, a better ELBO; vae: without a better ELBO [never]",
        ge=1,
    )  # fmt: skip
    seed: int = option(0, "Training", "of the split, the start and all draws", ge=0, lt=2**63)

    precision: Literal["auto", "float32", "bfloat16"] = option(
        "float32", "Machine", "of the network; bfloat16 where the hardware is faster in it (auto)"
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
        """What follows from the method alone."""
        if not isinstance(values, Mapping):
            return values
        given = {name: value for name, value in values.items() if value is not None}
        usual = WEIGHTS.get(given.get("method", "tvae"), {})
        return {**values, **usual, "margin": 0.2, **given}

    @model_validator(mode="after")
    def _agree(self) -> "TvaeRecipe":
        """Refuse options that contradict each other, with the reason."""
        for name, of in (("weight_vae", "triplet"), ("weight_triplet", "vae")):
            if self.method == of and getattr(self, name):
                raise ValueError(
                    f"--{name.replace('_', '-')} must be 0 for --method {of}, which leaves that "
                    f"part out, got {getattr(self, name):g}; take --method tvae"
                )
        if not self.weight_vae and not self.weight_triplet:
            raise ValueError(
                "--weight-vae or --weight-triplet must be above 0, or nothing would be learned"
            )
        if self.reconstruction == "squared" and self.model == "mlp":
            raise ValueError(
                "--reconstruction squared needs --model conv, whose decoder gives pixels; mlp "
                "gives logits"
            )
        if self.hidden is not None and self.model == "conv":
            raise ValueError("--hidden is for --model mlp; leave it out")
        if (self.validation or 0) + (self.test or 0) >= 1:
            raise ValueError(
                "--validation and --test must leave something to train on: their sum must be "
                f"below 1, got {self.validation} and {self.test}"
            )
        if self.patience is not None and self.validation == 0 and self.split != "given":
            raise ValueError("--patience needs a validation part to watch; give --validation > 0")
        return self

    @property
    def title(self) -> str:
        """The method in words."""
        return TITLES[self.method]

    def to_yaml(self) -> str:
        """The recipe as a file, in the order of the options, grouped as in the help."""
        return to_yaml(self)


def is_tvae(values: Mapping[str, Any]) -> bool:
    """Whether the options of a recipe file are of this kind."""
    return "weight_triplet" in values


def as_retrieval(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options by which other commands read pictures as this run did.

    >>> as_retrieval({"source": "photos", "split": "items", "margin": 0.2})
    {'source': 'photos', 'split': 'items'}
    """
    return {name: values[name] for name in SHARED if name in values}

"""The options of `tupelo train`: one frozen record, equal to a YAML file and to the command line.

Every field is an option of the same name (`per_class` is `--per-class`) with its help text here.
None means: chosen from the data when the run starts, said on screen and written into the run.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tupelo.errors import InputError

PairLossName = Literal[
    "contrastive",
    "multi-similarity",
    "binomial-deviance",
    "nt-xent",
    "all-triplets",
    "n-pair",
    "lifted",
]
TupleLossName = Literal["triplet", "margin"]
ClassLossName = Literal["proxy-nca", "proxy-anchor", "softmax", "cosface", "arcface"]
LossName = Literal[PairLossName, TupleLossName, ClassLossName]
Positives = Literal["all", "random", "easiest", "hardest"]
Negatives = Literal["random", "hardest", "semi-hard", "semi-hard-nearest", "distance-weighted"]


def _side(value: Any) -> Any:
    """`64` and `48x64` of a command line as numbers; everything else as it is."""
    if isinstance(value, str):
        parts = value.lower().split("x")
        if len(parts) <= 2 and all(part.strip().isdigit() for part in parts):
            numbers = [int(part) for part in parts]
            return numbers[0] if len(numbers) == 1 else numbers
    return value


Side = Annotated[int, Field(ge=8, le=4096)]
Size = Annotated[Side | tuple[Side, Side], BeforeValidator(_side)]


def _option(default: Any, panel: str, text: str, **limits: Any) -> Any:
    # **limits go to pydantic as they are: ge, gt, le, lt
    return Field(default, description=text, json_schema_extra={"panel": panel}, **limits)


class RetrievalRecipe(BaseModel):
    """How to train an embedding for retrieval from labelled pictures, in full.

    Raises:
        pydantic.ValidationError: a value is out of its range or two options contradict each
            other; use `recipe_from` for errors that name the option of the command line.

    >>> RetrievalRecipe(source="photos", loss="margin").positives
    'easiest'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(
        description="folder with a sub-folder per class, manifest, zip, or data set"
    )

    size: Size | None = _option(
        None,
        "Data",
        "side in pixels, or HEIGHTxWIDTH [as the pictures are when all agree, else 224]",
    )
    channels: Literal["auto", "1", "3"] = _option(
        "auto", "Data", "1 grey, 3 colour, auto grey when every picture is"
    )
    resize: Literal["crop", "squash", "pad"] = _option(
        "crop", "Data", "how pictures of other shapes are made square"
    )
    split: Literal["auto", "classes", "items", "given"] = _option(
        "auto",
        "Data",
        "parts share no class (classes), every class is divided (items), as the source says "
        "(given), given where there is one and else classes (auto)",
    )
    validation: float = _option(
        0.15, "Data", "share of classes (or items) to choose on; 0: none", ge=0, lt=1
    )
    test: float = _option(
        0.15, "Data", "share of classes (or items) looked at once, at the end", ge=0, lt=1
    )
    labels: Literal["class", "alphabet"] = _option(
        "class", "Data", "what is a class; alphabet is for Omniglot"
    )
    columns: dict[str, str] = _option(
        {}, "Data", "your name of a manifest column, as in path=file or label=species"
    )
    allow_bad: float = _option(
        0.01, "Data", "share of pictures that may be unusable before the run stops", ge=0, le=1
    )
    augment: Literal["auto", "none", "shift", "crop", "crop-flip"] = _option(
        "auto",
        "Data",
        "moved by up to an eighth (shift), random parts scaled (crop), also mirrored (crop-flip), "
        "crop-flip in colour and crop in grey (auto)",
    )

    backbone: str | None = _option(
        None, "Model", "convnet or any timm name [convnet up to 128 px, else resnet18]"
    )
    dim: int = _option(128, "Model", "width of the embedding", ge=1)
    pretrained: bool = _option(
        False, "Model", "start from the weights timm publishes (downloads them when not here)"
    )
    weights: str | None = _option(
        None, "Model", "start from a local file of weights (.safetensors, .pth without pickles)"
    )

    loss: LossName = _option("margin", "Method", "what the comparison must satisfy")
    positives: Positives | None = _option(
        None,
        "Method",
        "who is pulled; easiest is easy positive sampling (EPS), for classes of several looks or "
        "labels with mistakes [easiest for triplet and margin, all for pair losses]",
    )
    negatives: Negatives | None = _option(
        None,
        "Method",
        "who is pushed, for triplet and margin [semi-hard for triplet, distance-weighted for "
        "margin]",
    )
    memory: int = _option(
        0, "Method", "recent embeddings kept as further candidates (cross-batch memory)", ge=0
    )
    memory_after: int = _option(0, "Method", "steps before the memory takes part", ge=0)

    epochs: int | None = _option(
        None, "Training", "passes over the training part [about 2,000 steps, 10 to 100]", ge=1
    )
    steps: int | None = _option(None, "Training", "optimiser steps, instead of epochs", ge=1)
    classes: int | None = _option(
        None, "Training", "classes in a batch [16, or as many as there are]", ge=2
    )
    per_class: int | None = _option(
        None, "Training", "pictures of each class in a batch; EPS needs 3 [batches of 64]", ge=2
    )
    lr: float | None = _option(
        None, "Training", "peak learning rate [0.001 from scratch, 0.0001 from weights]", gt=0
    )
    weight_decay: float = _option(1e-4, "Training", "of the weights of the network", ge=0)
    optimizer: Literal["adamw", "adam", "sgd"] = _option("adamw", "Training", "update rule")
    schedule: Literal["cosine", "constant", "step"] = _option(
        "cosine", "Training", "learning rate over the run"
    )
    warmup_steps: int = _option(0, "Training", "steps of linearly rising rate", ge=0)
    clip_norm: float | None = _option(
        None, "Training", "largest norm of the gradient [no limit]", gt=0
    )
    chunk: int | None = _option(
        None,
        "Training",
        "pictures in memory at once, for exact large batches in little memory [the whole batch]",
        ge=1,
    )
    patience: int | None = _option(
        None, "Training", "stop after so many evaluations without a better MAP@R [never]", ge=1
    )
    evaluate_every: int | None = _option(
        None, "Training", "epochs between evaluations on validation [about 20 in a run]", ge=1
    )
    seed: int = _option(0, "Training", "of the split, the start and all draws", ge=0, lt=2**63)

    precision: Literal["auto", "float32", "bfloat16"] = _option(
        "auto", "Machine", "of the network; bfloat16 where the hardware is faster in it (auto)"
    )
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = _option(
        "auto", "Machine", "kind of device"
    )
    processes: int = _option(1, "Machine", "training processes, one a device", ge=1)
    workers: int = _option(0, "Machine", "processes that prepare batches", ge=0)
    checkpoint_every: int | None = _option(
        500, "Machine", "steps between checkpoints; one follows each epoch anyway", ge=1
    )
    log_every: int = _option(50, "Machine", "steps between rows of metrics.csv", ge=1)
    tensorboard: bool | None = _option(
        None, "Machine", "also log for TensorBoard [when it is installed]"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_method(cls, values: Any) -> Any:
        """Positives and negatives that follow from the loss alone."""
        if not isinstance(values, Mapping):
            return values
        loss = values.get("loss") or cls.model_fields["loss"].default
        usual: dict[str, str] = {}
        if loss in get_args(TupleLossName):
            negatives = "semi-hard" if loss == "triplet" else "distance-weighted"
            usual = {"positives": "easiest", "negatives": negatives}
        elif loss in get_args(PairLossName):
            usual = {"positives": "all"}
        given = {name: value for name, value in values.items() if value is not None}
        return {**values, **usual, **given}

    @model_validator(mode="after")
    def _agree(self) -> "RetrievalRecipe":
        """Refuse options that contradict each other, with the reason."""
        if self.loss in get_args(ClassLossName):
            for name, value in (("positives", self.positives), ("negatives", self.negatives)):
                if value is not None:
                    raise ValueError(
                        f"{_flag(name)} {value} cannot be used with --loss {self.loss}: it "
                        "compares pictures with a learned row per class, so there are no "
                        f"{name} to choose; leave {_flag(name)} out or take a pair or tuple loss"
                    )
            if self.memory:
                raise ValueError(
                    f"--memory cannot be used with --loss {self.loss}: it compares pictures with "
                    "a learned row per class, not with other pictures"
                )
        if self.loss in get_args(PairLossName) and self.negatives is not None:
            raise ValueError(
                f"--negatives {self.negatives} cannot be used with --loss {self.loss}: a pair "
                "loss weighs all negatives itself; leave it out, or take --loss triplet or margin"
            )
        if self.loss in get_args(TupleLossName) and self.positives == "all":
            raise ValueError(
                f"--positives all cannot be used with --loss {self.loss}, which takes one "
                "positive an anchor; take easiest, random or hardest, or --loss all-triplets"
            )
        if self.pretrained and self.weights is not None:
            raise ValueError("give --pretrained or --weights FILE, not both")
        if self.pretrained and self.backbone == "convnet":
            raise ValueError(
                "--pretrained needs a backbone with published weights, such as --backbone "
                "resnet18; convnet has none"
            )
        if self.weights is not None and self.backbone is None:
            raise ValueError("--weights needs --backbone, the name of the network they belong to")
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give --epochs or --steps, not both")
        if self.validation + self.test >= 1:
            raise ValueError(
                "--validation and --test must leave something to train on: their sum must be "
                f"below 1, got {self.validation} and {self.test}"
            )
        if self.patience is not None and self.validation == 0 and self.split != "given":
            raise ValueError("--patience needs a validation part to watch; give --validation > 0")
        return self

    @property
    def advice(self) -> tuple[str, ...]:
        """What is allowed but probably not meant, one sentence each."""
        said = []
        if self.positives in ("easiest", "hardest") and self.per_class == 2:
            said.append(
                f"--positives {self.positives} has no effect with --per-class 2, where an anchor "
                "has a single positive; give 3 or more"
            )
        return tuple(said)

    def to_yaml(self) -> str:
        """The recipe as a file, in the order of the options, grouped as in the help."""
        lines, panel = [], ""
        for name, field in type(self).model_fields.items():
            if panel_of(field) != panel:
                panel = panel_of(field)
                lines.append(f"\n# {panel}")
            text = yaml.safe_dump({name: getattr(self, name)}, allow_unicode=True, width=1000)
            lines.append(text.rstrip("\n"))
        return "\n".join(lines) + "\n"


def panel_of(field: Any) -> str:
    """Heading under which an option is listed."""
    return (field.json_schema_extra or {}).get("panel", "")


def recipe_from(values: Mapping[str, Any]) -> RetrievalRecipe:
    """Check values and build the recipe.

    Raises:
        InputError: an option is unknown (close names are given), out of its range, or
            contradicts another; all of them are listed.

    >>> recipe_from({"source": "photos", "per_class": 1})
    Traceback (most recent call last):
    ...
    tupelo.errors.InputError: --per-class: input should be greater than or equal to 2, got 1
    """
    try:
        return RetrievalRecipe.model_validate(dict(values))
    except ValidationError as error:
        raise InputError("\n".join(map(_sentence, error.errors()))) from error


def read_recipe(path: Path) -> dict[str, Any]:
    """The options a YAML file states, unchecked.

    Raises:
        InputError: the file is missing, is no YAML, or is no mapping of options to values.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--recipe {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"--recipe {path} is no valid YAML: {reason}") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise InputError(f"--recipe {path} must be a mapping, one line an option: `loss: margin`")
    return {name.replace("-", "_"): value for name, value in values.items()}


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _sentence(error: Any) -> str:
    """One pydantic error in the words of the command line."""
    if not error["loc"]:  # from _agree, whose messages name their options
        return error["msg"].removeprefix("Value error, ")
    name = str(error["loc"][0])
    if error["type"] == "missing":
        return f"{name} must be given"
    if error["type"] == "extra_forbidden":
        close = get_close_matches(name, RetrievalRecipe.model_fields, n=3)
        hint = f"; did you mean {', '.join(close)}?" if close else "; see tupelo train --help"
        return f"{name} is no option of a recipe{hint}"
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{_flag(name)}: {message}, got {error['input']!r}"

"""The options of `tupelo train`: one frozen record, equal to a YAML file and to the command line.

Every field is an option of the same name (`per_class` is `--per-class`) with its help text here.
None means: chosen from the data when the run starts, said on screen and written into the run.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tupelo.recipes import combinations
from tupelo.recipes.combinations import Combination
from tupelo.recipes.fields import Options, Share, Size, numbers, option, to_yaml
from tupelo.recipes.names import (
    CLASS_LOSSES,
    Batches,
    Engine,
    Ensemble,
    LossName,
    Negatives,
    Positives,
    Synthesis,
)

USUAL_LEARNERS = {"heads": 8, "abe": 8, "bier": 3, "dreml": 12}
USUAL_META_CLASSES = 12
OF_COMPARISON = (
    "loss",
    "loss_options",
    "synthesis",
    "memory",
    "batches",
    "positives",
    "negatives",
    "normalize",
)
"""Options of comparing pictures, which members of DREML that classify do not do."""


def _member_width(options: Mapping[str, Any]) -> int:
    """Of one member of DREML: as many dimensions as meta-classes, unless it is said."""
    return options.get("width") or options.get("meta_classes", USUAL_META_CLASSES)


def _usual_of_members(given: Mapping[str, Any], learners: int) -> dict[str, Any]:
    """What members of DREML train with where it is not said: the authors' values."""
    from tupelo.recipes.members import PUBLISHED  # loads torch

    options = numbers(given.get("ensemble_options") or {})
    dim = _member_width(options) * given.get("learners", learners)
    if options.get("learns", "classification") != "classification":
        return {"dim": dim}
    return {**PUBLISHED, "dim": dim}


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

    size: Size | None = option(
        None,
        "Data",
        "side in pixels, or HEIGHTxWIDTH [as the pictures are when all agree, else 224]",
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
        "(given), given where there is one and else classes (auto)",
    )
    validation: float = option(
        0.15, "Data", "share of classes (or items) to choose on; 0: none", ge=0, lt=1
    )
    test: float = option(
        0.15, "Data", "share of classes (or items) looked at once, at the end", ge=0, lt=1
    )
    labels: Literal["class", "alphabet"] = option(
        "class", "Data", "what is a class; alphabet is for Omniglot"
    )
    columns: dict[str, str] = option(
        {}, "Data", "your name of a manifest column, as in path=file or label=species"
    )
    allow_bad: float = option(
        0.01, "Data", "share of pictures that may be unusable before the run stops", ge=0, le=1
    )
    augment: Literal["auto", "none", "shift", "shift-flip", "crop", "crop-flip"] = option(
        "auto",
        "Data",
        "moved by up to an eighth (shift), random parts scaled (crop), also mirrored (-flip), "
        "crop-flip in colour and crop in grey (auto)",
    )

    backbone: str | None = option(
        None,
        "Model",
        "convnet, googlenet or any timm name [convnet up to 128 px, else resnet18]",
    )
    pooling: Literal["usual", "avgmax"] = option(
        "usual",
        "Model",
        "of what a timm convolutional network sees; avgmax: mean of average and maximum",
    )
    dim: int = option(
        128, "Model", "width of the embedding, of all learners together where there are more", ge=1
    )
    pretrained: bool = option(
        False, "Model", "start from published weights (downloads them when not here)"
    )
    weights: str | None = option(
        None, "Model", "start from a local file of weights (.safetensors, .pth without pickles)"
    )

    batch_norm: bool | None = option(
        None, "Model", "batch normalisation before the last layer [with --synthesis hdml]"
    )

    loss: LossName = option("margin", "Method", "what the comparison must satisfy")
    loss_options: Options = option(
        {},
        "Method",
        "a number of the loss by its name in Python, as in margin=0.1; repeat for more",
    )
    positives: Positives | None = option(
        None,
        "Method",
        "who is pulled; easiest is easy positive sampling (EPS), for classes of several looks or "
        "labels with mistakes [easiest for triplet and margin, all for pair losses]",
    )
    negatives: Negatives | None = option(
        None,
        "Method",
        "who is pushed; for pair losses one instead of all, with positives of one "
        "[semi-hard for triplet, distance-weighted for margin, all for pair losses]",
    )
    normalize: bool | None = option(
        None, "Method", "compare unit rows [yes; n-pair and lifted compare rows as they are]"
    )
    synthesis: Synthesis = option(
        "none",
        "Method",
        "learn from made embeddings too: harder negatives (hdml), further members of each class "
        "(iaa)",
    )
    synthesis_options: Options = option(
        {},
        "Method",
        "a number of the synthesis by its name in Python, as in copies=2; repeat for more",
    )
    memory: int = option(
        0, "Method", "recent embeddings kept as further candidates (cross-batch memory)", ge=0
    )
    memory_after: int = option(0, "Method", "steps before the memory takes part", ge=0)

    ensemble: Ensemble = option(
        "none",
        "Ensemble",
        "several learners: with attention masks (abe), boosted groups of dimensions (bier), "
        "networks of their own on random meta-classes (dreml), heads of their own (heads)",
    )
    learners: int | None = option(
        None, "Ensemble", "how many [8 for abe and heads, 3 for bier, 12 for dreml]", ge=1
    )
    ensemble_options: Options = option(
        {},
        "Ensemble",
        "a number of the ensemble by its name in Python, as in divergence=0.5; repeat for more",
    )

    epochs: int | None = option(
        None, "Training", "passes over the training part [about 2,000 steps, 10 to 100]", ge=1
    )
    steps: int | None = option(None, "Training", "optimiser steps, instead of epochs", ge=1)
    batches: Batches | None = option(
        None,
        "Training",
        "classes: so many pictures of each; as the tuples of the loss: two of each class (n-pair), "
        "or two of half of the classes and one of the others (triplets); or --classes pairs at "
        "random, half of them of one class (pairs) [n-pair for n-pair with hdml, else classes]",
    )
    classes: int | None = option(
        None, "Training", "classes in a batch [16, or as many as there are]", ge=2
    )
    per_class: int | None = option(
        None, "Training", "pictures of each class in a batch; EPS needs 3 [batches of 64]", ge=2
    )
    lr: float | None = option(
        None, "Training", "peak learning rate [0.001 from scratch, 0.0001 from weights]", gt=0
    )
    head_rate: float = option(
        1.0, "Training", "factor on the rate of the head, the layers behind the backbone", gt=0
    )
    weight_decay: float = option(1e-4, "Training", "of the weights of the network", ge=0)
    optimizer: Literal["adamw", "adam", "sgd"] = option("adamw", "Training", "update rule")
    schedule: Literal["cosine", "constant", "step"] = option(
        "cosine", "Training", "learning rate over the run"
    )
    step_at: tuple[Share, ...] = option(
        (0.6, 0.85), "Training", "shares of the run at which schedule step lowers the rate"
    )
    step_factor: float = option(
        0.1, "Training", "by which schedule step multiplies the rate", gt=0, le=1
    )
    warmup_steps: int = option(0, "Training", "steps of linearly rising rate", ge=0)
    clip_norm: float | None = option(
        None, "Training", "largest norm of the gradient [no limit]", gt=0
    )
    chunk: int | None = option(
        None,
        "Training",
        "pictures in memory at once, for exact large batches in little memory [the whole batch]",
        ge=1,
    )
    patience: int | None = option(
        None, "Training", "stop after so many evaluations without a better MAP@R [never]", ge=1
    )
    evaluate_every: int | None = option(
        None, "Training", "epochs between evaluations on validation [about 20 in a run]", ge=1
    )
    seed: int = option(0, "Training", "of the split, the start and all draws", ge=0, lt=2**63)

    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto", "Machine", "of the network; bfloat16 where the hardware is faster in it (auto)"
    )
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = option("auto", "Machine", "kind of device")
    processes: int = option(1, "Machine", "training processes, one a device", ge=1)
    engine: Engine = option(
        "sequential",
        "Machine",
        "who trains the learners of dreml: one after the other, so many "
        "processes, or a Ray cluster",
    )
    jobs: int | None = option(
        None, "Machine", "learners of dreml that train at once [as many as processors]", ge=1
    )
    threads: int | None = option(
        None,
        "Machine",
        "of a learner of dreml, whose last bits depend on them [1]",
        ge=1,
    )
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
        """What follows from loss, synthesis and batches alone."""
        if not isinstance(values, Mapping):
            return values
        given = {name: value for name, value in values.items() if value is not None}
        stated = {name: given[name] for name in Combination._fields if name in given}
        asked = Combination(**{"loss": cls.model_fields["loss"].default} | stated)
        asked = asked._replace(batches=given.get("batches") or combinations.usual_batches(asked))
        asked = combinations.completed(asked)
        usual = {name: getattr(asked, name) for name in ("positives", "negatives", "batches")}
        if asked.loss not in CLASS_LOSSES:
            usual["normalize"] = combinations.compares_unit_rows(asked)
        usual |= {"batch_norm": asked.synthesis == "hdml"}
        if asked.ensemble in USUAL_LEARNERS:
            widths = (given.get("ensemble_options") or {}).get("widths")
            usual["learners"] = len(widths) if widths else USUAL_LEARNERS[asked.ensemble]
        if asked.ensemble == "dreml":
            usual |= _usual_of_members(given, usual["learners"])
        return {**values, **usual, **given}

    @model_validator(mode="after")
    def _agree(self) -> "RetrievalRecipe":
        """Refuse options that contradict each other, with the reason."""
        if reason := combinations.refusal(self.combination):
            raise ValueError(reason)
        if self.synthesis_options and self.synthesis == "none":
            raise ValueError(
                "--synthesis-option needs --synthesis hdml or iaa, to which it belongs"
            )
        self._agree_on_learners()
        if self.loss_options or self.synthesis_options or self.ensemble_options:
            from tupelo.recipes.methods import check_options  # loads torch

            check_options(self)
        if self.batches != "classes":
            if self.per_class not in (None, 2):
                raise ValueError(
                    f"--per-class {self.per_class} cannot be used with --batches {self.batches}, "
                    "which takes 2 pictures of a class; give 2, or leave it out"
                )
            if self.batches == "triplets" and (self.classes or 2) % 2:
                raise ValueError(
                    "--classes must be even with --batches triplets, where half of them are the "
                    f"negatives of the others, got {self.classes}"
                )
        if self.chunk is not None and self.batch_norm:
            raise ValueError(
                "--chunk cannot be used with batch normalisation before the last layer, which "
                "would see chunks instead of batches; give --no-batch-norm, or leave --chunk out"
            )
        if self.pretrained and self.weights is not None:
            raise ValueError("give --pretrained or --weights FILE, not both")
        if self.pretrained and self.backbone == "convnet":
            raise ValueError(
                "--pretrained needs a backbone with published weights, such as --backbone "
                "resnet18; convnet has none"
            )
        if self.pooling != "usual" and self.backbone in (None, "convnet", "googlenet"):
            raise ValueError(
                f"--pooling {self.pooling} needs --backbone, the name of a timm network, such as "
                "resnet50"
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

    def _agree_on_learners(self) -> None:
        if self.ensemble == "none":
            alone = "--ensemble heads, abe, bier or dreml"
            if self.learners is not None:
                raise ValueError(f"--learners needs {alone}, whose learners are counted")
            if self.ensemble_options:
                raise ValueError(f"--ensemble-option needs {alone}, to which it belongs")
        if self.ensemble in ("heads", "abe") and self.dim % (self.learners or 1):
            raise ValueError(
                f"--dim must be a multiple of --learners for --ensemble {self.ensemble}, whose "
                f"learners are equally wide, got {self.dim} and {self.learners}"
            )
        widths = self.ensemble_options.get("widths")
        if widths and len(widths) != self.learners:
            raise ValueError(
                f"--learners must be the number of --ensemble-option widths, {len(widths)}, got "
                f"{self.learners}; leave one of them out"
            )
        if self.ensemble == "dreml":
            self._agree_on_members()
        elif (self.engine, self.jobs, self.threads) != (
            "sequential",
            None,
            None,
        ):
            raise ValueError(
                "--engine, --jobs and --threads need --ensemble dreml, whose learners train "
                "apart; those of others train together: take --processes"
            )

    def _agree_on_members(self) -> None:
        width, learners = _member_width(self.ensemble_options), self.learners or 1
        if self.dim != width * learners:
            raise ValueError(
                f"--dim must be left out for --ensemble dreml, or be {learners} learners times "
                f"{width} (--ensemble-option meta_classes), got {self.dim}"
            )
        if self.engine == "sequential" and self.jobs not in (None, 1):
            raise ValueError(
                f"--jobs {self.jobs} needs --engine processes or ray; sequential trains one "
                "learner at a time"
            )
        if self.patience is not None:
            raise ValueError(
                "--patience cannot be used with --ensemble dreml: no learner is "
                "watched; leave it out"
            )
        if self.ensemble_options.get("learns", "classification") == "classification":
            self._agree_on_classification()

    def _agree_on_classification(self) -> None:
        # a value equal to the usual one cannot be told from one that was left out
        usual = RetrievalRecipe(source=self.source)
        for name in OF_COMPARISON:
            if getattr(self, name) != getattr(usual, name):
                flag = name.replace("loss_options", "loss-option")
                raise ValueError(
                    f"--{flag} has no effect with --ensemble dreml, whose learners classify "
                    "meta-classes; leave it out, or let learners train with it on meta-classes: "
                    "--ensemble-option learns=recipe"
                )

    @property
    def combination(self) -> Combination:
        """Loss, selection, batches, synthesis and memory, of which `combinations` decides."""
        return Combination(
            self.loss,
            self.positives,
            self.negatives,
            synthesis=self.synthesis,
            memory=self.memory > 0,
            batches=self.batches or "classes",
            normalize=self.normalize,
            ensemble=self.ensemble,
        )

    @property
    def batch_size(self) -> int:
        """Pictures in a batch of a resolved recipe."""
        if self.batches == "triplets":
            return 3 * (self.classes or 0) // 2
        return (self.classes or 0) * (self.per_class or 0)

    @property
    def advice(self) -> tuple[str, ...]:
        """What is allowed but probably not meant, one sentence each."""
        said = [*combinations.advice(self.combination)]
        if self.positives in ("easiest", "hardest") and self.per_class == 2:
            said.append(
                f"--positives {self.positives} has no effect with --per-class 2, where an anchor "
                "has a single positive; give 3 or more"
            )
        lowered = self.synthesis_options.get("epochs", self.epochs)
        if self.epochs is not None and lowered != self.epochs:
            said.append(
                f"--synthesis-option epochs={lowered} counts the shares of decay in {lowered} "
                f"epochs, and the run has {self.epochs}"
            )
        return tuple(said)

    def to_yaml(self) -> str:
        """The recipe as a file, in the order of the options, grouped as in the help."""
        return to_yaml(self)

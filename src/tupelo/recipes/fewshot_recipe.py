"""The options of `tupelo fewshot train`: one frozen record, equal to a file and to the options.

As `RetrievalRecipe`: None means chosen from the data and the method when the run starts, said on
screen and written into the run.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tupelo.recipes.fields import Options, number, option, to_yaml

Method = Literal["pn", "l-pn", "matching", "gnn", "l-gnn"]
Similarity = Literal["euclidean", "cosine", "dot"]
MarginLoss = Literal["triplet", "normalised-triplet", "contrastive"]
AnswerLoss = Literal["softmax", "normface", "cosface", "arcface"]
PROTOTYPES, GRAPHS = ("pn", "l-pn"), ("gnn", "l-gnn")
WITH_MARGIN = ("l-pn", "l-gnn")
ANSWER_MARGINS = {"cosface": 0.2, "arcface": 0.1}
TITLES = {
    "pn": "prototypical network (PN)",
    "l-pn": "prototypical network with a large margin (L-PN)",
    "matching": "matching network",
    "gnn": "graph network (GNN)",
    "l-gnn": "graph network with a large margin (L-GNN)",
}
USUAL_SIMILARITY: dict[str, Similarity] = {"pn": "euclidean", "l-pn": "euclidean"}
HEAD_OPTIONS = {
    "matching": ("class_reduce", "steps", "start"),
    "gnn": ("variant", "blocks", "growth", "dropout", "second_operator", "unknown", "embed"),
}
"""By method; all others have options of their own. `steps` and `start` are of --context."""


def _margin(value: Any) -> Any:
    """`10` of a command line as a number, `rule` as it is."""
    return number(value)


Margin = Annotated[
    Literal["rule"] | Annotated[float, Field(gt=0, allow_inf_nan=False)], BeforeValidator(_margin)
]


class FewShotRecipe(BaseModel):
    """How to train a few-shot learner from labelled pictures, in full.

    Raises:
        pydantic.ValidationError: a value is out of its range or two options contradict each
            other; use `reading.checked` for errors that name the option of the command line.

    >>> FewShotRecipe(source="photos").similarity
    'euclidean'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(
        description="folder with a sub-folder per class, manifest, zip, or data set"
    )

    ways: int = option(5, "Tasks", "classes of an episode in which the learner is judged", ge=2)
    shots: int = option(1, "Tasks", "support pictures of each class", ge=1)
    queries: int | None = option(
        None, "Tasks", "pictures asked of each class [15, or what the classes have]", ge=1
    )
    unlabelled: int = option(
        0, "Tasks", "so many of the shots come without their class (gnn and l-gnn)", ge=0
    )
    validation_episodes: int = option(
        200, "Tasks", "episodes of validation classes that choose the weights", ge=1
    )
    test_episodes: int = option(
        1000, "Tasks", "episodes of test classes, before and after training", ge=1
    )

    size: int | None = option(
        None,
        "Data",
        "side in pixels [28 for grey pictures, for others 84, or their own where it is less]",
        ge=16,
        le=1024,
    )
    channels: Literal["auto", "1", "3"] = option(
        "auto", "Data", "1 grey, 3 colour, auto grey when every picture is"
    )
    resize: Literal["crop", "squash", "pad"] = option(
        "crop", "Data", "how pictures of other shapes are made square"
    )
    split: Literal["auto", "classes", "given"] = option(
        "auto", "Data", "parts share no class (classes), as the source says (given), or as it has "
        "one (auto)",
    )  # fmt: skip
    validation: float | None = option(
        None, "Data", "share of classes to choose on; 0: none [0.15, or the classes of an episode]",
        ge=0, lt=1,
    )  # fmt: skip
    test: float | None = option(
        None, "Data", "share of classes looked at once, at the end [as --validation]", ge=0, lt=1
    )
    rotations: bool = option(
        False, "Data", "training classes turned by 90, 180 and 270 degrees are further classes"
    )
    columns: dict[str, str] = option(
        {}, "Data", "your name of a manifest column, as in path=file or label=species"
    )
    allow_bad: float = option(
        0.01, "Data", "share of pictures that may be unusable before the run stops", ge=0, le=1
    )

    method: Method = option("pn", "Method", "what answers from the support")
    similarity: Similarity | None = option(
        None, "Method", "of rows [euclidean for pn and l-pn, cosine for matching]"
    )
    scale: float | None = option(
        None,
        "Method",
        "factor of the similarities [1; 10 for the cosine of matching, normface, cosface, arcface]",
        gt=0,
    )
    context: bool = option(
        False, "Method", "matching: embed every picture in view of the whole support (FCE)"
    )
    head_options: Options = option(
        {},
        "Method",
        "an option of the head by its name in Python, as in growth=24; repeat for more",
    )
    margin_loss: MarginLoss | None = option(
        None,
        "Method",
        "l-pn and l-gnn: what is added to the loss, on points or unit points [triplet]",
    )
    margin: Margin | None = option(
        None,
        "Method",
        "of it: a number in squared distance (contrastive: in distance), or rule: half the mean "
        "length of the points at the start [rule; 1 for contrastive]",
    )
    margin_weight: float | None = option(
        None, "Method", "of it in the loss, lambda [1]", ge=0, allow_inf_nan=False
    )
    margin_warmup: int | None = option(
        None, "Method", "steps in which its weight rises from 0 [0]", ge=0
    )
    answer_loss: AnswerLoss = option(
        "softmax", "Method", "of the answers; the others are for gnn and l-gnn, on cosines"
    )
    answer_margin: float | None = option(
        None, "Method", "of cosface (a cosine) and arcface (radians) [0.2 and 0.1]", ge=0, lt=1.5
    )
    encoder: Literal["conv4", "graph"] | None = option(
        None, "Method", "four convolutional blocks [graph for gnn and l-gnn, else conv4]"
    )
    width: int = option(64, "Method", "channels of the first block of the encoder", ge=1)

    train_ways: int | None = option(
        None, "Training", "classes of a training episode [as published for the method]", ge=2
    )
    train_shots: int | None = option(
        None, "Training", "support pictures of each of its classes [--shots]", ge=1
    )
    train_queries: int | None = option(
        None, "Training", "pictures asked of each [as published, or what the classes have]", ge=1
    )
    per_batch: int | None = option(
        None, "Training", "episodes a step [1; for gnn and l-gnn as published]", ge=1
    )
    steps: int | None = option(
        None, "Training", "optimiser steps [as published for gnn and l-gnn, else 20,000]", ge=1
    )
    lr: float = option(1e-3, "Training", "learning rate of Adam", gt=0)
    halve_every: int | None = option(
        None, "Training", "steps after which the rate is halved [as published]", ge=1
    )
    weight_decay: float | None = option(
        None, "Training", "of the weights of the network [0; 1e-6 for gnn and l-gnn in colour]",
        ge=0,
    )  # fmt: skip
    clip_norm: float | None = option(
        None, "Training", "largest norm of the gradient [no limit]", gt=0
    )
    evaluate_every: int = option(100, "Training", "steps between validations", ge=1)
    patience: int | None = option(
        None, "Training", "stop after so many validations without a better accuracy [never]", ge=1
    )
    seed: int = option(0, "Training", "of the split, the start and all draws", ge=0, lt=2**63)

    precision: Literal["auto", "float32", "bfloat16"] = option(
        "auto", "Machine", "of the encoder; bfloat16 where the hardware is faster in it (auto)"
    )
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = option("auto", "Machine", "kind of device")
    workers: int = option(0, "Machine", "processes that prepare batches", ge=0)
    checkpoint_every: int | None = option(
        500, "Machine", "steps between checkpoints; one follows each validation anyway", ge=1
    )
    log_every: int = option(50, "Machine", "steps between rows of metrics.csv", ge=1)
    tensorboard: bool | None = option(
        None, "Machine", "also log for TensorBoard [when it is installed]"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_method(cls, values: Any) -> Any:
        """What follows from the method alone."""
        if not isinstance(values, dict):
            return values
        given = {name: value for name, value in values.items() if value is not None}
        method = given.get("method", "pn")
        usual: dict[str, Any] = {"encoder": "graph" if method in GRAPHS else "conv4"}
        if method not in GRAPHS:
            usual["similarity"] = USUAL_SIMILARITY.get(method, "cosine")
        if method in WITH_MARGIN:
            contrastive = given.get("margin_loss") == "contrastive"
            usual |= {"margin_loss": "triplet", "margin": 1.0 if contrastive else "rule"}
            usual |= {"margin_weight": 1.0, "margin_warmup": 0}
        loss = given.get("answer_loss", "softmax")
        if method in GRAPHS and loss != "softmax":
            usual |= {"scale": 10.0, "answer_margin": ANSWER_MARGINS.get(loss)}
        return {**values, **usual, **given}

    @model_validator(mode="after")
    def _agree(self) -> "FewShotRecipe":
        """Refuse options that contradict each other, with the reason."""
        self._agree_on_method()
        self._agree_on_margin()
        if not 0 <= self.unlabelled < self.shots:
            raise ValueError(
                f"--unlabelled must leave a labelled picture of each class, so be below --shots "
                f"{self.shots}, got {self.unlabelled}"
            )
        if (self.validation or 0) + (self.test or 0) >= 1:
            raise ValueError(
                "--validation and --test must leave something to train on: their sum must be "
                f"below 1, got {self.validation} and {self.test}"
            )
        if self.patience is not None and self.validation == 0 and self.split != "given":
            raise ValueError("--patience needs a validation part to watch; give --validation > 0")
        return self

    def _agree_on_method(self) -> None:
        graph = self.method in GRAPHS
        allowed = {"matching": ("cosine", "dot")}.get(self.method, ("euclidean", "cosine"))
        angular = self.answer_loss != "softmax"
        if angular and not graph:
            raise ValueError(
                f"--answer-loss {self.answer_loss} needs --method gnn or l-gnn, whose last layer "
                f"has the weights it compares with; {self.method} has none"
            )
        if graph and (self.similarity or (self.scale and not angular)):
            raise ValueError(
                f"--similarity and --scale cannot be used with --method {self.method}, whose "
                "similarities are learned; leave them out"
            )
        if self.answer_margin is not None and self.answer_loss not in ANSWER_MARGINS:
            raise ValueError("--answer-margin needs --answer-loss cosface or arcface")
        if not graph and self.similarity not in allowed:
            raise ValueError(
                f"--similarity must be {' or '.join(allowed)} for --method {self.method}, got "
                f"{self.similarity}"
            )
        if self.context and self.method != "matching":
            raise ValueError("--context is for --method matching; leave it out")
        if self.unlabelled and not graph:
            raise ValueError(
                f"--unlabelled needs --method gnn or l-gnn; {self.method} takes no picture whose "
                "class is not known"
            )
        if graph and self.train_ways not in (None, self.ways):
            raise ValueError(
                f"--train-ways must be --ways {self.ways} for --method {self.method}, whose layers "
                f"are made for so many classes, got {self.train_ways}; leave it out"
            )
        known = HEAD_OPTIONS.get("gnn" if graph else self.method, ())
        for name in self.head_options:
            if name not in known:
                told = f"its options are {', '.join(known)}" if known else "it has none"
                raise ValueError(f"--head-option {name} is none of --method {self.method}; {told}")
        if not self.context and {"steps", "start"} & self.head_options.keys():
            raise ValueError("--head-option steps and start are of --context, which must be given")
        if self.encoder == "graph" and self.size not in (None, 28, 84):
            raise ValueError(
                f"--size must be 28 or 84 for --encoder graph, which is made for these, got "
                f"{self.size}; or take --encoder conv4"
            )

    def _agree_on_margin(self) -> None:
        if self.method in WITH_MARGIN:
            if self.margin_loss == "contrastive" and self.margin == "rule":
                raise ValueError(
                    "--margin must be a number for --margin-loss contrastive, got rule"
                )
            return
        for name in ("margin_loss", "margin", "margin_weight", "margin_warmup"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"--{name.replace('_', '-')} needs --method l-pn or l-gnn, got {self.method}"
                )

    @property
    def title(self) -> str:
        """The method in words."""
        return TITLES[self.method]

    @property
    def layout(self) -> str:
        """The tasks in short.

        >>> FewShotRecipe(source="photos", ways=20, shots=5).layout
        '20-way 5-shot'
        """
        return f"{self.ways}-way {self.shots}-shot"

    def to_yaml(self) -> str:
        """The recipe as a file, in the order of the options, grouped as in the help."""
        return to_yaml(self)

"""HDML: negatives made harder as training goes on, and a generator that keeps their class."""

import copy
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils import get_total_norm

from tupelo.comparison import Comparison, check_rows, label_tensor
from tupelo.errors import InputError, TrainingDiverged
from tupelo.losses.tuples import class_indices
from tupelo.models import Embedder
from tupelo.objectives import OnTuples
from tupelo.sections import Curves, Points, Section, Shown
from tupelo.selection import PerAnchor
from tupelo.synthesis.assigned import assigned
from tupelo.synthesis.generator import FeatureGenerator, glorot
from tupelo.synthesis.pulling import pull_shares, toward
from tupelo.synthesis.schedule import Schedule
from tupelo.types import Embedded, LossValue, Objective, Tuples

_log = logging.getLogger(__name__)
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)
_OF_A_BATCH = 1e3  # soft_scale from here on can only be meant for J_recon summed over a batch


class HardnessAware(Objective):
    """HDML around an objective on tuples: synthetic negatives of adaptive hardness.

    Every negative is pulled towards its anchor (`pull`), a generator maps anchors, positives and
    pulled negatives back to features of the same class, the head of the model embeds these again,
    and the objective's loss on them, J_syn, joins its loss on the real tuples, J_m:

        J_metric = w (J_m + J_wd) + (1 - w) J_syn,  w = exp(-beta / J_gen_avg)
        J_gen = (1 - soft_share) J_recon + soft_share soft_scale J_soft
        J_ce = cross-entropy of the classifier on real features

    J_metric trains backbone, head and what the objective learns; J_gen only the generator, J_ce
    only the classifier. The value of the loss is J_metric alone, the others are statistics beside
    it. Source: Zheng, Chen, Lu, Zhou, "Hardness-Aware Deep Metric Learning", CVPR
    2019; numbers and gradients as in the released code. docs/hdml.md has the whole of it.

    Args:
        objective: on tuples; its selector, loss and rows are used.
        model: the embedder that is trained with this objective; its head embeds synthetic
            features too. Its parameters stay its own, so copy both at once:
            `copy.deepcopy((model, objective))`.
        n_classes: classes of the training set, >= 2; labels are in [0, n_classes).
        alpha: of lambda = exp(-alpha / J_avg), >= 0; compare it with the J_avg that is logged.
        beta: of w = exp(-beta / J_gen_avg), >= 0.
        soft_share: weight of J_soft against J_recon, in [0, 1].
        soft_scale: factor of J_soft, > 0.
        hidden: width of the generator's hidden layer.
        generator_rate: learning rate of the generator, > 0.
        classifier_rate: learning rate of the classifier, > 0.
        weight_decay: factor of J_wd, half the squared weights and biases of the model without
            its normalisation layers, >= 0.
        reduction: J_m and J_syn are the "mean" over tuples, or their "sum" (published triplets).
        generator_reduction: J_recon is the "sum" over the batch (published), or per "row"; give
            soft_scale and beta in the same unit, for a batch of 128 that is 80 instead of 1e4.
        window: steps whose mean sets J_avg and J_gen_avg.
        j_avg_source: J_avg averages the "official" w (J_m + J_wd), or the "plain" J_m.
        calibrate: steps during which the embedding trains on real tuples alone; then alpha and
            beta are set so that lambda and w start at 1/2. 0 takes alpha and beta as given.
        detach_synthetic: J_syn trains only the head, as in some ports.
        bn_update_from_synthetic: batch normalisation of the head counts synthetic batches in its
            running statistics.
        max_negatives: synthetic negatives a tuple, chosen at random among its negatives.
        skip_limit: steps in a row whose loss or gradient may be NaN or infinite; they are
            skipped: all gradients are 0, and nothing is recorded. (Momentum, if the optimizer
            has it, still moves the weights.)

    Raises:
        InputError: an argument is of another kind or outside its range; when called: not one
            embedding of the model's widths, features that are not finite, labels that are not
            class indices in [0, n_classes), or tuples whose labels contradict them; when copied
            without its model, as `PerLearner` does.
        TrainingDiverged: when called: skip_limit steps in a row were skipped.

    >>> from tupelo.losses import Triplet
    >>> from tupelo.models import embedder
    >>> from tupelo.selection import PerAnchor
    >>> model = embedder(dim=8, channels=1)
    >>> objective = HardnessAware(OnTuples(PerAnchor(), Triplet()), model, n_classes=2)
    >>> value = objective(model(torch.rand(4, 1, 16, 16)), torch.tensor([0, 0, 1, 1]))
    >>> sorted(value.parts)
    ['decay', 'metric', 'synthetic']
    """

    skips: Tensor

    def __init__(
        self,
        objective: Objective,
        model: nn.Module,
        n_classes: int,
        *,
        alpha: float = 90.0,
        beta: float = 1e4,
        soft_share: float = 0.5,
        soft_scale: float = 1e4,
        hidden: int = 512,
        generator_rate: float = 1e-2,
        classifier_rate: float = 1e-3,
        weight_decay: float = 0.0,
        reduction: str = "mean",
        generator_reduction: str = "sum",
        window: int = 64,
        j_avg_source: str = "official",
        calibrate: int = 0,
        detach_synthetic: bool = False,
        bn_update_from_synthetic: bool = True,
        max_negatives: int | None = None,
        skip_limit: int = 5,
    ):
        super().__init__()
        if not isinstance(objective, OnTuples):
            raise InputError(
                f"objective must be OnTuples, got {type(objective).__name__}: synthetic negatives "
                "belong to an anchor and its positive. Wrap a tuple loss, such as "
                "OnTuples(PerAnchor(), Triplet()), and put other wrappers around the result"
            )
        if not isinstance(model, Embedder):
            raise InputError(
                "model must be an Embedder, whose head maps features to embeddings "
                f"(models.embedder builds one around any backbone), got {type(model).__name__}"
            )
        _check_at_least(0, alpha=alpha, beta=beta, weight_decay=weight_decay, calibrate=calibrate)
        _check_at_least(1, hidden=hidden, window=window, skip_limit=skip_limit)
        _check_at_least(2, n_classes=n_classes)
        if max_negatives is not None:
            _check_at_least(1, max_negatives=max_negatives)
        for name, number in (
            ("soft_scale", soft_scale),
            ("generator_rate", generator_rate),
            ("classifier_rate", classifier_rate),
        ):
            if not number > 0:
                raise InputError(f"{name} must be > 0, got {number}")
        if not 0 <= soft_share <= 1:
            raise InputError(f"soft_share must be in [0, 1], got {soft_share}")
        for name, choice, known in (
            ("reduction", reduction, ("mean", "sum")),
            ("generator_reduction", generator_reduction, ("sum", "row")),
            ("j_avg_source", j_avg_source, ("official", "plain")),
        ):
            if choice not in known:
                raise InputError(f"{name} must be {known[0]!r} or {known[1]!r}, got {choice!r}")
        if generator_reduction == "row" and soft_scale >= _OF_A_BATCH:
            _log.warning(
                "soft_scale=%g is meant for generator_reduction='sum'; per row it drowns J_recon: "
                "divide soft_scale and beta by the size of the batch (80 where 1e4 is published)",
                soft_scale,
            )
        self.objective = objective
        self._model = (model,)  # in a tuple: a sub-module's parameters would have two owners
        self.n_classes = n_classes
        self.alpha, self.beta = alpha, beta
        self.soft_share, self.soft_scale = soft_share, soft_scale
        self.generator_rate, self.classifier_rate = generator_rate, classifier_rate
        self.weight_decay = weight_decay
        self.reduction, self.generator_reduction = reduction, generator_reduction
        self.window, self.j_avg_source = window, j_avg_source
        self.calibrate = calibrate
        self.detach_synthetic = detach_synthetic
        self.bn_update_from_synthetic = bn_update_from_synthetic
        self.max_negatives = max_negatives
        self.skip_limit = skip_limit
        made = model.architecture
        self.generator = FeatureGenerator(made.dim, hidden, made.features)
        self.classifier = glorot(made.features, n_classes)
        self.schedule = Schedule(alpha, beta, window=window, calibrate=calibrate)
        self.register_buffer("skips", torch.tensor(0))  # in a row

    @property
    def model(self) -> Embedder:
        """The embedder whose head is used."""
        return self._model[0]

    def forward(
        self,
        output,
        labels,
        *,
        items: Int[Tensor, " b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> LossValue:
        """The loss of one batch; its backward pass trains each part on its own loss."""
        labels = self._checked(output, labels)
        rows, wide = self.objective.rows(output), self.classifier.weight.dtype
        features, learns = output.features.detach().to(wide), torch.is_grad_enabled()
        with torch.autocast(rows.device.type, enabled=False):
            tuples = self._tuples(rows.detach(), features, labels, items, generator)
            z = rows.detach().to(wide).requires_grad_(learns)
            some = self._some(tuples.negative, generator)
            before = [buffer.clone() for buffer in self._batch_statistics()]
            with _same_dropout(self.model.head, generator):
                losses = self._losses(z, features, labels, tuples, some)
            if not learns:
                parts = losses.parts()
                return LossValue(_total(parts), parts, self._statistics(losses)[0])
            trained = self._gradients(rows, z, losses)
            norm = get_total_norm(trained.values())
        parts, statistics, finite = losses.parts(), *self._statistics(losses, norm)
        if self.training:
            self._keep(losses, before, finite=finite)
        if not finite:
            parts = {name: torch.zeros_like(part) for name, part in parts.items()}
            trained = {tensor: torch.zeros_like(each) for tensor, each in trained.items()}
            statistics = {}
        statistics["skipped"] = float(not finite)
        return LossValue(assigned(_total(parts), trained), parts, statistics)

    def __deepcopy__(self, memo: dict) -> "HardnessAware":
        if id(self.model) not in memo:
            raise InputError(
                "HardnessAware must be copied together with its model, or the copy would use a "
                "head that nobody trains: copy.deepcopy((model, objective)). PerLearner copies "
                "objectives alone, so ensembles cannot be trained with it"
            )
        memo[id(self)] = made = type(self).__new__(type(self))
        vars(made).update(copy.deepcopy(vars(self), memo))
        return made

    def parameter_groups(self) -> list[dict]:
        """Generator and classifier at their rates, and the groups of the objective."""
        own = ((self.generator, self.generator_rate), (self.classifier, self.classifier_rate))
        return [
            *({"params": list(m.parameters()), "weight_decay": 0.0, "lr": r} for m, r in own),
            *self.objective.parameter_groups(),
        ]

    def begin_epoch(self, embed_train: Callable[[], Iterator[tuple[Embedded, Tensor]]]) -> None:
        """Pass on to the objective."""
        self.objective.begin_epoch(embed_train)

    def end_epoch(self) -> None:
        """Pass on to the objective."""
        self.objective.end_epoch()

    def sections(self, model: nn.Module, shown: Shown) -> list[Section]:
        """Curves of training, and real, pulled and synthetic embeddings in the plane."""
        hardness, weight = float(self.schedule.hardness()), float(self.schedule.weight())
        alpha, beta = self.schedule.constants.tolist()
        text = (
            "Negatives were pulled towards their anchor, the generator turned them into features, "
            "and the head embedded these: synthetic negatives. lambda is the share of the way "
            "beyond the positive that a negative keeps (1: not pulled, 0: as near as the positive) "
            f"and ended at {hardness:.3g}; w is the weight of the real tuples against synthetic "
            f"ones and ended at {weight:.3g}; alpha was {alpha:.4g} and beta {beta:.4g}. "
            "label_accuracy is how often the classifier finds the right class in synthetic "
            "features: below about 0.4 the generator has lost the classes. J_syn above J_m means "
            "that synthetic tuples are harder than real ones."
        )
        parts = [
            Curves(["lambda", "w", "pulled", "label_accuracy"], "share"),
            Curves(["J_m", "J_syn"], "loss of tuples"),
            Curves(["J_avg", "J_gen_avg"], "running means", log=True),
            Curves(["J_recon", "J_soft", "J_ce"], "loss of the generator", log=True),
        ]
        return [Section("Synthetic negatives (HDML)", text, [*parts, *self._points(shown)])]

    def _points(self, shown: Shown) -> list[Points]:
        z = self.objective.rows(self.model(shown.images))
        comparison = Comparison.within(z, shown.labels)
        if not ((comparison.positive.any(1) & comparison.negative.any(1)).any()):
            return []
        tuples = PerAnchor()(comparison, torch.Generator().manual_seed(0))
        anchor, positive, negative = (_rows(z, index) for index in tuples)
        shares = pull_shares(anchor, positive, negative, self.schedule.hardness())
        pulled = toward(anchor, negative, shares).flatten(0, 1)
        wide = self.classifier.weight.dtype
        synthetic = self.objective.rows(self.model.embed(self.generator(pulled.to(wide))))
        kinds = ["real"] * len(z) + ["pulled"] * len(pulled) + ["synthetic"] * len(pulled)
        names: list[str] = []
        if shown.labels.ndim == 1:
            again = shown.labels[tuples.negative[:, 0]]
            labels = torch.cat([shown.labels, again, again]).tolist()
            names = [str(shown.class_names[label]) for label in labels]
        return [Points.of(torch.cat([z, pulled.to(z), synthetic.to(z)]), kinds, names)]

    def _checked(self, output, labels) -> Tensor:
        made = self.model.architecture
        if not isinstance(output, Embedded):
            raise InputError(
                f"HardnessAware takes one embedding of its model, got {type(output).__name__}; "
                "ensembles cannot be trained with it"
            )
        widths = (output.raw.shape[1], output.features.shape[1])
        if widths != (made.dim, made.features):
            raise InputError(
                f"output must come from the model that HardnessAware was made with, of width "
                f"{made.dim} and features of width {made.features}, got {widths[0]} and "
                f"{widths[1]}; make the objective with the model that is trained"
            )
        check_rows(output.features, "features")
        wanted = f"the classifier of HardnessAware with {self.n_classes} classes"
        labels = class_indices(label_tensor(labels), len(output.raw), self.n_classes, wanted)
        return labels.to(output.raw.device)

    def _tuples(self, rows, features, labels, items, generator) -> Tuples:
        """The tuples of the batch, in which labels and positions agree."""
        # selection needs no graph, so it sees detached rows in the place of both kinds
        comparison = self.objective.compare(
            Embedded(rows, rows, features), labels, items, generator
        )
        tuples = self.objective.selector(comparison, generator)
        anchor = labels[tuples.anchor]
        if (anchor != labels[tuples.positive]).any() or (
            anchor[:, None] == labels[tuples.negative]
        ).any():
            raise InputError(
                "HardnessAware needs tuples whose positive has the label of the anchor and whose "
                "negatives have others, or its classifier could not judge synthetic features; "
                "use labels, not a relation that contradicts them"
            )
        return tuples

    def _some(self, negative: Int[Tensor, "t k"], generator) -> Int[Tensor, "t s"]:
        """At most `max_negatives` of the negatives of each tuple, at random."""
        if self.max_negatives is None or negative.shape[1] <= self.max_negatives:
            return negative
        # drawn on the generator's device in float64, so the choice is the same on any other
        source = "cpu" if generator is None else generator.device
        draws = torch.rand(negative.shape, generator=generator, dtype=torch.float64, device=source)
        chosen = draws.topk(self.max_negatives, dim=1).indices
        return negative.gather(1, chosen.to(negative.device))

    def _losses(
        self, z: Tensor, features: Tensor, labels: Tensor, tuples: Tuples, some: Tensor
    ) -> "_Losses":
        t, own = len(tuples.anchor), labels[tuples.anchor]
        anchor, positive, negative = (_rows(z, index) for index in tuples)
        metric = self._reduced(self.objective.loss(anchor, positive, negative, own))
        if some is not tuples.negative:
            negative = _rows(z, some)
        hardness = self.schedule.hardness().to(z.dtype)
        shares = pull_shares(anchor, positive, negative, hardness)
        pulled = toward(anchor, negative, shares).flatten(0, 1)
        pair = torch.cat([tuples.anchor, tuples.positive])
        again, synthetic = self.generator.of_tuples(z, pair, pulled)
        embedded = self.objective.rows(
            self.model.embed(synthetic.detach() if self.detach_synthetic else synthetic)
        )
        anchor, positive, negative = embedded.split([t, t, len(pulled)])
        negative = negative.unflatten(0, some.shape)
        classes = torch.cat([labels[pair], labels[some].flatten()])
        logits = self.classifier(synthetic)
        reconstruction = (again - features).square().sum()
        if self.generator_reduction == "row":
            reconstruction = reconstruction / len(z)
        soft = F.cross_entropy(logits, classes, reduction="none")
        # published: one mean with one negative a tuple, anchors and others apart with several
        single = tuples.negative.shape[1] == 1
        soft = soft.mean() if single else soft[:t].mean() + soft[t:].mean()
        return _Losses(
            metric=metric,
            synthetic=self._reduced(self.objective.loss(anchor, positive, negative, own)),
            decay=self._decay(metric),
            reconstruction=reconstruction,
            soft=soft,
            generator=(1 - self.soft_share) * reconstruction
            + self.soft_share * self.soft_scale * soft,
            classifier=F.cross_entropy(self.classifier(features), labels),
            weight=self.schedule.weight().to(z.dtype),
            hardness=hardness,
            pulled=(shares.detach() > 0).to(z.dtype).mean(),
            accuracy=(logits.detach().argmax(1) == classes).to(z.dtype).mean(),
        )

    def _reduced(self, terms: Float[Tensor, " t"]) -> Tensor:
        return terms.sum() if self.reduction == "sum" else terms.mean()

    def _decayed(self) -> list[nn.Parameter]:
        if self.weight_decay == 0:
            return []
        return [
            parameter
            for module in self.model.modules()
            if not isinstance(module, _NORMS)
            for parameter in module.parameters(recurse=False)
            if parameter.requires_grad
        ]

    @torch.no_grad()
    def _decay(self, like: Tensor) -> Tensor:
        """J_wd; its gradient is known and needs no graph."""
        squares = [parameter.square().sum() for parameter in self._decayed()]
        return self.weight_decay / 2 * torch.stack([torch.zeros_like(like), *squares]).sum()

    def _gradients(self, rows: Tensor, z: Tensor, losses: "_Losses") -> dict[Tensor, Tensor]:
        """What each tensor learns: rows, head and objective from J_metric, the rest from its own.

        Each is `autograd.grad` with its own list: gradients flow through generator and classifier
        to what lies before, and stop nowhere else.
        """
        learned = [
            p
            for module in (self.model.head, self.objective)
            for p in module.parameters()
            if p.requires_grad
        ]
        weight = losses.weight
        joint = weight * losses.metric + (1 - weight) * losses.synthetic
        found = torch.autograd.grad(joint, [z, *learned], retain_graph=True, allow_unused=True)
        trained = {
            tensor: gradient
            for tensor, gradient in zip([rows, *learned], found, strict=True)
            if gradient is not None
        }
        for module, loss in (
            (self.generator, losses.generator),
            (self.classifier, losses.classifier),
        ):
            own = list(module.parameters())
            trained |= zip(own, torch.autograd.grad(loss, own), strict=True)
        for parameter in self._decayed():
            pulled = parameter.detach() * (weight * self.weight_decay)
            trained[parameter] = trained[parameter] + pulled if parameter in trained else pulled
        return trained

    def _statistics(
        self, losses: "_Losses", norm: Tensor | None = None
    ) -> tuple[dict[str, float], bool]:
        """Numbers for the log, and whether they, the losses and the gradients are finite."""
        shown = {
            "lambda": losses.hardness,
            "w": losses.weight,
            "pulled": losses.pulled,
            "label_accuracy": losses.accuracy,
            "J_m": losses.metric,
            "J_syn": losses.synthetic,
            "J_recon": losses.reconstruction,
            "J_soft": losses.soft,
            "J_gen": losses.generator,
            "J_ce": losses.classifier,
            "J_avg": self.schedule.j_avg.value,
            "J_gen_avg": self.schedule.j_gen_avg.value,
        }
        watched = [*shown.values(), _total(losses.parts()), *([] if norm is None else [norm])]
        # one transfer from the device for all of them
        numbers = torch.stack([scalar.detach().to(losses.metric) for scalar in watched]).tolist()
        finite = all(map(math.isfinite, numbers))
        return dict(zip(shown, numbers, strict=False)), finite

    def _batch_statistics(self) -> list[Tensor]:
        """Buffers that a step changes: of the head, then of the generator."""
        return [*self.model.head.buffers(), *self.generator.buffers()]

    @torch.no_grad()
    def _keep(self, losses: "_Losses", before: list[Tensor], *, finite: bool) -> None:
        """Record the step; undo what it left in batch normalisation where it should not."""
        if not (finite and self.bn_update_from_synthetic):
            undone = self._batch_statistics() if not finite else list(self.model.head.buffers())
            for buffer, old in zip(undone, before, strict=False):
                buffer.data.copy_(old)  # of the data: the head's backward pass is still to come
        if not finite:
            self._skip()
            return
        self.skips.zero_()
        official = self.j_avg_source == "official"
        metric = losses.weight * (losses.metric + losses.decay) if official else losses.metric
        self.schedule.record(metric, losses.generator)

    def _skip(self) -> None:
        self.skips += 1
        if int(self.skips) >= self.skip_limit:
            raise TrainingDiverged(
                f"the loss or gradient of HardnessAware was NaN or infinite in {self.skip_limit} "
                "steps in a row; lower lr or generator_rate, or compare alpha, beta and soft_scale "
                "with the logged J_avg, J_gen_avg and J_recon"
            )


class _Losses(NamedTuple):
    """What one batch came to, scalars; see docs/hdml.md for their equations."""

    metric: Tensor
    synthetic: Tensor
    decay: Tensor
    reconstruction: Tensor
    soft: Tensor
    generator: Tensor
    classifier: Tensor
    weight: Tensor  # w
    hardness: Tensor  # lambda
    pulled: Tensor  # share of the negatives
    accuracy: Tensor  # of the classifier on synthetic features

    def parts(self) -> dict[str, Tensor]:
        """J_metric by its parts; J_gen and J_ce teach others and are of another scale."""
        parts = {
            "metric": self.weight * self.metric,
            "synthetic": (1 - self.weight) * self.synthetic,
            "decay": self.weight * self.decay,
        }
        return {name: part.detach() for name, part in parts.items()}


def _total(parts: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(parts.values())).sum()


def _rows(z: Tensor, index: Tensor) -> Tensor:
    return z.index_select(0, index.flatten()).unflatten(0, index.shape)


@contextmanager
def _same_dropout(head: nn.Module, generator: torch.Generator | None) -> Iterator[None]:
    """Layers of the head that draw numbers draw the same in all processes."""
    if not any(isinstance(m, _DropoutNd) and m.p > 0 and m.training for m in head.modules()):
        yield
        return
    device = next(head.parameters()).device
    source = "cpu" if generator is None else generator.device
    seed = int(torch.randint(2**62, (), generator=generator, device=source))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _check_at_least(least: int, **named: float | int) -> None:
    for name, number in named.items():
        if not number >= least:
            raise InputError(f"{name} must be >= {least}, got {number}")

"""BIER: learners of one embedding layer, boosted; A-BIER with adversarial diversity."""

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tupelo.comparison import Comparison, label_tensor
from tupelo.ensembles.diversity import AXES, ActivationDiversity, AdversarialDiversity, Diversity
from tupelo.ensembles.pair_weights import (
    SUMS,
    Redirected,
    WeightedSum,
    check_rule,
    check_shrinkage,
    ensemble_similarity,
    pair_weights,
    published_shrinkage,
)
from tupelo.ensembles.tuple_weights import WeightedTuples, check_hinges, open_hinges
from tupelo.errors import InputError
from tupelo.losses import BinomialDeviance, Margin
from tupelo.models import Divided, Ensemble
from tupelo.models.divided import SMALLEST_NORM, boosted_shares
from tupelo.objectives import ComparingObjective, OnPairs, OnTuples, PerLearner
from tupelo.sections import Curves, Section, Shown, Table
from tupelo.types import Embedded, LossValue, Objective

_log = logging.getLogger(__name__)

DIVERSITIES = ("none", "activation", "adversarial")


class Boosted(Objective):
    """Online boosting of learners: each sees every pair weighted by what is left of its loss.

    L = (1 / m) sum_i L_i + diversity_weight (diversity + weight constraint)

    L_i is the objective on learner i alone, with pairs weighted by the negative derivative of the
    loss at the similarity of learners 1 to i - 1 together. Weights carry no gradient, and those of
    the first learner are 1. Source: Opitz, Waltner, Possegger, Bischof, "BIER", ICCV 2017;
    "Deep Metric Learning with BIER", TPAMI 2018; numbers as in the released code. docs/bier.md has
    the whole of it.

    * Pair losses that are sums over pairs (binomial deviance, contrastive losses): as published.
    * Other pair losses, our generalisation: the gradient goes to pairs in proportion to |d loss / d
      similarity| at the similarity of the learners so far, while positives and negatives each keep
      the sum of it; see `Redirected`. The value of the loss stays as it is.
    * Triplets and margin loss: the hinges still count that the learners so far leave open.

    Args:
        objective: `OnPairs`, `OnTuples`, or synthesis around them, copied for each learner; or a
            sequence, one for each, where learners differ (in width, for IAA).
        model: the ensemble that is trained with this objective, usually `models.divided`. Its
            parameters stay its own, so copy both at once: `copy.deepcopy((model, objective))`.
        rule: of the weights, see `pair_weights`: "additive", default with binomial deviance, as
            released; or "eta", as in the paper, and default with all other losses.
        shrinkage: of the similarities in the weights, > 0; default 0.06 of "additive", 1 of "eta".
        exclude_diag_from_norm: divide the positives of binomial deviance by their number; False:
            by that and the size of the batch, as released, whose sum of y has the diagonal in it.
            With one learner the objective is taken as it is, whatever this says.
        diversity: "none", "activation" (`ActivationDiversity`) or "adversarial" (A-BIER,
            `AdversarialDiversity`).
        diversity_weight: lambda_div, >= 0; published for SOP. Tune it.
        constraint_weight: lambda_w, >= 0; published for SOP.
        norm_axis: of the weight constraint: "input", default of "adversarial", or "output",
            default of "activation".
        hidden: width of the regressors' hidden layer, >= 1.
        regressor_rate: learning rate of the regressors, > 0; default that of the optimiser.

    Raises:
        InputError: an argument of another kind or outside its range, such as a class loss, HDML,
            or tuples without a hinge; diversity with one learner, or of a model whose learners
            share no linear layer; when called: another number of embeddings, a batch without a
            positive or a negative pair, labels that are not one per row, or learners that compare
            different pairs; when copied without its model.

    >>> from tupelo.models import divided, embedder
    >>> model = divided(embedder("convnet", dim=12, channels=1), learners=2)
    >>> objective = Boosted(OnPairs(BinomialDeviance()), model)
    >>> value = objective(model(torch.rand(4, 1, 16, 16)), torch.tensor([0, 0, 1, 1]))
    >>> sorted(value.parts)
    ['learner0/loss', 'learner1/loss']
    """

    def __init__(
        self,
        objective: Objective | Sequence[Objective],
        model: nn.Module,
        *,
        rule: str | None = None,
        shrinkage: float | None = None,
        exclude_diag_from_norm: bool = False,
        diversity: str = "none",
        diversity_weight: float = 5e-5,
        constraint_weight: float = 1e5,
        norm_axis: str | None = None,
        hidden: int = 512,
        regressor_rate: float | None = None,
    ):
        super().__init__()
        if not isinstance(model, Ensemble):
            raise InputError(
                "model must be an ensemble, such as models.divided makes of an embedder, got "
                f"{type(model).__name__}"
            )
        given = [objective] if isinstance(objective, Objective) else list(objective)
        for each in given:
            _check_objective(each, rule)
        if shrinkage is not None:
            check_shrinkage(shrinkage)
        if not diversity_weight >= 0:
            raise InputError(f"diversity_weight must be >= 0, got {diversity_weight}")
        m = len(model.learners.widths)
        if isinstance(objective, Objective):
            given = [copy.deepcopy(objective) for _ in range(m)]
        self._model = (model,)  # in a tuple: a sub-module's parameters would have two owners
        self.learners = PerLearner(given, m)
        self.rule, self.shrinkage = rule, shrinkage
        self.exclude_diag_from_norm = exclude_diag_from_norm
        self.diversity_weight = diversity_weight
        self.diversity = _diversity(
            diversity, model, constraint_weight, norm_axis, hidden, regressor_rate
        )
        self._warned = False

    @property
    def model(self) -> Ensemble:
        """The ensemble whose learners are boosted."""
        return self._model[0]

    def forward(
        self,
        output,
        labels,
        *,
        items: Int[Tensor, " b"] | None = None,
        generator: torch.Generator | None = None,
    ) -> LossValue:
        """The loss of one batch."""
        objectives = cast("list[ComparingObjective]", self.learners.objectives)
        self._check_output(output, len(objectives))
        earlier: list[Comparison] = []
        values, statistics = [], {}
        for i, (objective, one) in enumerate(zip(objectives, output, strict=True)):
            comparison = objective.compare(one, labels, items, generator)
            _check_pairs(comparison, earlier)
            value, weight = self._learner(objective, comparison, earlier, generator)
            earlier.append(comparison)
            values.append(value)
            statistics[f"learner{i}/weight"] = weight
            statistics |= {f"learner{i}/{key}": x for key, x in value.statistics.items()}
        m = len(values)
        parts = {
            f"learner{i}/{name}": part / m
            for i, value in enumerate(values)
            for name, part in value.parts.items()
        }
        totals = [value.total / m for value in values]
        if m > 1:
            statistics["correlation"] = correlation([one.raw for one in output])
        if self.diversity is not None:
            found = self._diverse(output[0].features)
            totals += found.values()
            parts |= {name: part.detach() for name, part in found.items()}
        return LossValue(torch.stack(totals).sum(), parts, statistics)

    def __deepcopy__(self, memo: dict) -> "Boosted":
        if id(self.model) not in memo:
            raise InputError(
                "Boosted must be copied together with its model, or the copy would hold weights "
                "apart that nobody trains: copy.deepcopy((model, objective))"
            )
        memo[id(self)] = made = type(self).__new__(type(self))
        vars(made).update(copy.deepcopy(vars(self), memo))
        return made

    def parameter_groups(self) -> list[dict]:
        """The regressors at their rate, and the groups of every learner's objective."""
        groups = []
        if isinstance(self.diversity, AdversarialDiversity):
            rate = self.diversity.learning_rate
            own = {"params": list(self.diversity.parameters()), "weight_decay": 0.0}
            groups.append(own | ({} if rate is None else {"lr": rate}))
        return [*groups, *self.learners.parameter_groups()]

    def begin_epoch(self, embed_train: Callable[[], Iterator[tuple[Embedded, Tensor]]]) -> None:
        """Pass on to every learner's objective, with the embeddings of that learner."""
        self.learners.begin_epoch(embed_train)

    def end_epoch(self) -> None:
        """Pass on to every learner's objective."""
        self.learners.end_epoch()

    def sections(self, model: nn.Module, shown: Shown) -> list[Section]:
        """Learners and their weights, and how alike their dimensions are."""
        raws = [one.raw for one in model(shown.images)]
        m, names = len(raws), [f"learner {i}" for i in range(len(raws))]
        shares = boosted_shares(m)
        learners = Table(
            ["", "dimensions", "share of the boosted similarity"],
            [[name, raw.shape[1], a] for name, raw, a in zip(names, raws, shares, strict=True)],
        )
        text = (
            "Each learner saw every pair weighted by what the learners before it had left over of "
            "the loss. A mean weight near 1 means that little was learned before it, one near 0 "
            "that little is left. Correlation is the mean absolute correlation between dimensions "
            "of different learners, on the batch of the step: the lower, the more each adds; of "
            "few pictures it is never 0."
        )
        if m == 1:
            return [Section("Boosted learners (BIER)", text, [learners])]
        alike = Table(
            ["mean |correlation| on the pictures shown", *names],
            [
                [names[i], *(correlation([raws[i], raws[j]]) if i != j else "" for j in range(m))]
                for i in range(m)
            ],
        )
        parts = [
            learners,
            Curves([f"learner{i}/weight" for i in range(m)], "mean weight of a pair"),
            Curves([f"learner{i}/loss" for i in range(m)], "weighted loss"),
            Curves(["correlation"], "between learners"),
            alike,
        ]
        return [Section("Boosted learners (BIER)", text, parts)]

    def _learner(
        self,
        objective: ComparingObjective,
        comparison: Comparison,
        earlier: list[Comparison],
        generator: torch.Generator | None,
    ) -> tuple[LossValue, float]:
        """The loss of one learner, and the mean weight of its pairs or hinges."""
        inner = _innermost(objective)
        if len(self.learners.objectives) == 1:
            return objective.on(comparison, generator), 1.0
        if isinstance(inner, OnPairs):
            loss, weight = self._weighted(inner.loss, comparison, earlier)
            with _replaced(inner, loss=loss):
                return objective.on(comparison, generator), weight
        if not earlier:
            return objective.on(comparison, generator), 1.0
        assert isinstance(inner, OnTuples)  # noqa: S101  (see _check_objective)
        tuples = inner.selector(comparison, generator)
        labels = None
        if isinstance(inner.loss, Margin) and len(inner.loss.beta) > 1:
            labels = label_tensor(comparison.anchor_labels)
            labels = None if labels is None else labels.to(tuples.anchor.device)[tuples.anchor]
        hinges = open_hinges(inner.loss, earlier, tuples, labels)
        weighted = WeightedTuples(inner.loss, hinges)
        with _replaced(inner, loss=weighted, selector=lambda *_: tuples):
            value = objective.on(comparison, generator)
        return value, float(torch.cat([hinge.flatten() for hinge in hinges]).mean())

    def _weighted(
        self, loss: nn.Module, comparison: Comparison, earlier: list[Comparison]
    ) -> tuple[nn.Module, float]:
        """The pair loss of the learner after those, and the mean weight of its pairs."""
        rule = self.rule or _usual_rule(loss)
        shrinkage = published_shrinkage(rule) if self.shrinkage is None else self.shrinkage
        similarities = [each.similarity.detach() for each in earlier]
        positive = comparison.positive
        if type(loss) in SUMS:
            weights = pair_weights(loss, similarities, positive, rule=rule, shrinkage=shrinkage)
            mean = float(weights[positive | comparison.negative].mean())
            diagonal = not self.exclude_diag_from_norm
            return WeightedSum(loss, weights, with_diagonal=diagonal), mean
        if not earlier:
            return loss, 1.0
        return Redirected(loss, ensemble_similarity(similarities, shrinkage)), 1.0

    def _diverse(self, features: Tensor) -> dict[str, Tensor]:
        assert isinstance(self.diversity, Diversity)  # noqa: S101
        model = cast("Divided", self.model)
        with torch.autocast(features.device.type, enabled=False):
            alike, constraint = self.diversity(model.weights, features)
        weight = self.diversity_weight
        return {"diversity": weight * alike, "constraint": weight * constraint}

    def _check_output(self, output: Any, m: int) -> None:
        if isinstance(output, Embedded) or len(output) != m:
            came = "one" if isinstance(output, Embedded) else len(output)
            raise InputError(f"the model must return {m} embeddings, one per learner, got {came}")
        widths = tuple(one.raw.shape[1] for one in output)
        if widths != self.model.learners.widths:
            raise InputError(
                f"output must come from the model that Boosted was made with, whose learners have "
                f"widths {self.model.learners.widths}, got {widths}"
            )
        if self._warned:
            return
        short = sum(int((one.raw.detach().norm(dim=1) < SMALLEST_NORM).sum()) for one in output)
        if short:
            self._warned = True
            _log.warning(
                "%d embeddings of learners are shorter than %g, so they have no direction to "
                "compare: lower the learning rate, or lengthen the warm-up",
                short,
                SMALLEST_NORM,
            )


@torch.no_grad()
def correlation(rows: Sequence[Float[Tensor, "n _"]]) -> float:
    """Mean absolute correlation between dimensions of different learners.

    Dimensions that do not vary count as uncorrelated.

    Args:
        rows: of m >= 2 learners, (n, d_i) each.

    >>> x = torch.tensor([[1.0], [2.0], [3.0]])
    >>> round(correlation([x, -x]), 4)
    1.0
    """
    units = []
    for each in rows:
        centred = each.detach().float() - each.detach().float().mean(0)
        units.append(nn.functional.normalize(centred, dim=0))
    sums = [(one.T @ other).abs().sum() for one, other in combinations(units, 2)]
    pairs = sum(one.shape[1] * other.shape[1] for one, other in combinations(units, 2))
    return float(torch.stack(sums).sum() / pairs)


def _check_objective(objective: Objective, rule: str | None) -> None:
    inner = _innermost(objective)
    if not isinstance(objective, ComparingObjective) or not isinstance(inner, OnPairs | OnTuples):
        raise InputError(
            "Boosted weighs the pairs of a batch, so it takes OnPairs, OnTuples, or "
            f"IntraClassAugmented around them, got {type(objective).__name__}: class losses have "
            "no pairs, a memory keeps rows of one learner, and HardnessAware has a generator for "
            "one head, while one for each learner is not published"
        )
    if not inner.normalize:
        raise InputError(
            "Boosted adds up cosines of its learners, so objectives must compare unit rows, got "
            f"{type(inner).__name__} with normalize=False"
        )
    if isinstance(inner, OnTuples):
        check_hinges(inner.loss)
    check_rule(inner.loss, rule or _usual_rule(inner.loss))


def _usual_rule(loss: nn.Module) -> str:
    return "additive" if isinstance(loss, BinomialDeviance) else "eta"


def _innermost(objective: nn.Module) -> nn.Module:
    """The objective inside all synthesis, which has the loss."""
    while isinstance(inner := getattr(objective, "objective", None), ComparingObjective):
        objective = inner
    return objective


def _check_pairs(comparison: Comparison, earlier: list[Comparison]) -> None:
    for name, mask, advice in (
        ("positive", comparison.positive, "draw P x K batches with K >= 2"),
        ("negative", comparison.negative, "draw batches of 2 classes or more"),
    ):
        if not mask.any():
            raise InputError(
                f"the batch must hold a positive and a negative pair, got no {name} among "
                f"{len(mask)} items; {advice}"
            )
    if earlier and earlier[0].positive.shape != comparison.positive.shape:
        raise InputError(
            "all learners must compare the same pairs, got "
            f"{tuple(earlier[0].positive.shape)} and {tuple(comparison.positive.shape)}; give the "
            "objectives of all learners the same copies, start_after, every and warmup_epochs"
        )


@contextmanager
def _replaced(module: nn.Module, **attributes: object) -> Iterator[None]:
    """Other attributes within the block: what wraps the module need not know of weights."""
    before = {name: getattr(module, name) for name in attributes}
    try:
        for name, value in attributes.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def _diversity(
    kind: str,
    model: Ensemble,
    constraint_weight: float,
    norm_axis: str | None,
    hidden: int,
    rate: float | None,
) -> Diversity | None:
    if kind not in DIVERSITIES:
        raise InputError(f"diversity must be one of {', '.join(DIVERSITIES)}, got {kind!r}")
    if norm_axis is not None and norm_axis not in AXES:
        raise InputError(f"norm_axis must be 'input' or 'output', got {norm_axis!r}")
    if kind == "none":
        return None
    if not isinstance(model, Divided):
        raise InputError(
            f"diversity={kind!r} needs learners that share one linear layer, which models.divided "
            f"makes, got {type(model).__name__}; set diversity='none'"
        )
    widths = model.learners.widths
    if kind == "activation":
        return ActivationDiversity(
            widths, constraint_weight=constraint_weight, norm_axis=norm_axis or "output"
        )
    return AdversarialDiversity(
        widths,
        constraint_weight=constraint_weight,
        norm_axis=norm_axis or "input",
        hidden=hidden,
        learning_rate=rate,
    )

"""What a fit of `MIOMetric` says about itself."""

from dataclasses import dataclass

import numpy as np

from tupelo.tabular.optimal.learning import Learned


@dataclass(frozen=True)
class MIOReport:
    """How a fit ended, and what is proven.

    Attributes:
        objective_name: "hinge", "count", "ramp" or "majority".
        atoms: name of the family.
        status: "optimal": no weights of the certificate's region are better. "converged": no
            weights are better for the same neighbours. Or what ended the fit before: "rounds",
            "time_limit", "interrupted" (Ctrl-C), "error" (of the solver).
        objective: of the learned metric.
        objective_euclid: of the Euclidean metric.
        bound: no metric of the certificate's region is below it; None where a solver gave none.
        gap: (objective - bound) / objective; None without a bound.
        certificate: factor kappa: no metric with all weights within that factor is better; inf:
            none of the family; None: not proven. With atoms "psd" the family is that of squares
            along the features and along the eigenvectors of the hinge's matrix.
        errors_euclid: training points without a pure local cluster under the Euclidean metric.
        errors: the same under the learned one.
        samples: training points.
        weights: of the family, and how many of them are not zero.
        rounds: of linear programs ("hinge") or exact solves.
        history: objective at the start and after each round that improved it.
        seconds: of the fit.
    """

    objective_name: str
    atoms: str
    status: str
    objective: float
    objective_euclid: float
    bound: float | None
    gap: float | None
    certificate: float | None
    errors_euclid: int
    errors: int
    samples: int
    weights: tuple[int, int]
    rounds: int
    history: tuple[float, ...]
    seconds: float

    @property
    def proven(self) -> str:
        """What is proven, in a sentence that names training points, family and region."""
        of = f"metric of the family {self.atoms!r}"
        if self.atoms == "psd" and self.certificate is not None:
            # exact solves know atoms only, see `directions_of`
            of = "weighting of the features and of the eigenvectors of the hinge's matrix"
        here = f"on these {self.samples} training points"
        if self.certificate is not None:
            where = ""
            if np.isfinite(self.certificate):
                where = f" with every weight within a factor {self.certificate:g} of this one"
            within = ""
            if self.gap is not None and self.gap > 1e-9:  # less is rounding
                within = f" by more than {100 * self.gap:.2g} %"
            return f"No {of}{where} is better{within} {here}."
        if self.status == "converged":
            return (
                f"No {of} is better {here} for the neighbours that are nearest under this one; "
                "for other neighbours nothing is proven."
            )
        return f"Nothing is proven: the fit ended by {self.status.replace('_', ' ')}."

    def __str__(self) -> str:
        bound = "none"
        if self.bound is not None and self.gap is not None:
            bound = f"{self.bound:.6g} (gap {100 * self.gap:.2g} %)"
        return "\n".join(
            [
                f"status      {self.status} after {self.rounds} rounds, {self.seconds:.1f} s",
                f"objective   {self.objective_euclid:.6g} -> {self.objective:.6g} "
                f"({self.objective_name}, atoms {self.atoms!r})",
                f"bound       {bound}",
                f"errors      {self.errors_euclid} -> {self.errors} of {self.samples}",
                f"weights     {self.weights[1]} of {self.weights[0]} are not zero",
                f"proven      {self.proven}",
            ]
        )


def report_of(
    name: str,
    atoms: str,
    found: Learned,
    *,
    errors_euclid: int,
    errors: int,
    samples: int,
    seconds: float,
) -> MIOReport:
    """The report of one fit."""
    gap = None
    if found.bound is not None:
        gap = max(0.0, found.objective - found.bound) / max(abs(found.objective), 1e-10)
    return MIOReport(
        objective_name=name,
        atoms=atoms,
        status=found.status,
        objective=found.objective,
        objective_euclid=found.at_start,
        bound=found.bound,
        gap=gap,
        certificate=found.certificate,
        errors_euclid=errors_euclid,
        errors=errors,
        samples=samples,
        weights=(len(found.w), int(np.count_nonzero(found.w))),
        rounds=found.rounds,
        history=found.history,
        seconds=seconds,
    )

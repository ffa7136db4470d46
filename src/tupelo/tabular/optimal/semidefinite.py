"""The full Mahalanobis matrix: positive semidefinite by cuts that are added where they are needed.

D_w(x, z) = u^T M u with u the difference of features, each divided by the root of its mean square
over all pairs, and the entries of M on and above its diagonal as weights. M has trace 1, so that
the family holds all weights of "diag" on its diagonal; 0 <= M_rr <= 1 and |M_rs| <= 1/2 follow. A
solution with a negative eigenvalue violates v^T M v >= 0 for its vector v, which holds for every
positive semidefinite M: these rows are added, and bounds stay bounds.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.spatial.distance import cdist

from tupelo.errors import InputError
from tupelo.tabular.optimal.atoms import Atoms, make_atoms

LARGEST = 40  # features; d (d + 1) / 2 weights, and cuts that are dense in them
NEGATIVE = -1e-6  # an eigenvalue below is cut off
CUTS = 5  # at most, of one matrix


@dataclass(frozen=True)
class FullMatrix:
    """Distances by the entries of a symmetric matrix with trace 1.

    Attributes:
        scale: (d,) mean of delta_r^2 over all pairs.
        row, column: (A,) of each weight, row <= column.
    """

    scale: Float[ndarray, " d"]
    row: Int[ndarray, " A"]
    column: Int[ndarray, " A"]

    name = "psd"
    quadratic = True
    directions = None

    def __len__(self) -> int:
        return len(self.row)

    @property
    def start(self) -> Float[ndarray, " A"]:
        """The Euclidean metric of standardised features: M = I / d."""
        return (self.row == self.column) / len(self.scale)

    def of(self, delta: ndarray) -> ndarray:
        """(..., A) products of two entries; those off the diagonal count twice."""
        u = np.asarray(delta) / np.sqrt(self.scale)
        twice = np.where(self.row == self.column, 1.0, 2.0)
        return u[..., self.row] * u[..., self.column] * twice

    def normalised(self, w: Float[ndarray, " A"]) -> Float[ndarray, "d d"]:
        """M, of trace 1, for differences divided by the root of `scale`."""
        M = np.zeros((len(self.scale), len(self.scale)))
        M[self.row, self.column] = w
        M[self.column, self.row] = w
        return M

    def matrix(self, w: Float[ndarray, " A"]) -> Float[ndarray, "d d"]:
        """M for differences as they are."""
        root = np.sqrt(self.scale)
        return self.normalised(w) / np.outer(root, root)

    def components(self, w: Float[ndarray, " A"]) -> Float[ndarray, "m d"]:
        """L with L^T L = M, without rows of negligible length."""
        values, vectors = np.linalg.eigh(self.normalised(w))
        long = values > 1e-12
        return np.sqrt(values[long])[:, None] * vectors[:, long].T / np.sqrt(self.scale)

    def distances(self, w: ndarray, X: ndarray, Z: ndarray) -> Float[ndarray, "n m"]:
        """D_w of all rows of X with all of Z; below zero where M is not semidefinite."""
        values, vectors = np.linalg.eigh(self.normalised(w))
        maps = np.sqrt(np.abs(values))[:, None] * vectors.T / np.sqrt(self.scale)
        found = np.zeros((len(X), len(Z)))
        for sign, used in ((1.0, values > 0), (-1.0, values < 0)):
            if used.any():
                found += sign * cdist(X @ maps[used].T, Z @ maps[used].T, "sqeuclidean")
        return found


def full_matrix(X: Float[ndarray, "n d"]) -> FullMatrix:
    """The family for these points.

    Raises:
        InputError: more than 40 features.
    """
    features = X.shape[1]
    if features > LARGEST:
        raise InputError(
            f'atoms "psd" take up to {LARGEST} features, got {features}: the matrix has '
            f'{features * (features + 1) // 2} entries; use atoms "diag" or "rank1"'
        )
    row, column = np.triu_indices(features)
    return FullMatrix(2 * X.var(axis=0, ddof=1), row, column)


class Spectrahedron:
    """The domain of the entries of M: semidefinite, with trace 1.

    Args:
        family: whose weights they are.
    """

    tolerance = 1e-4  # each digit more takes several times as many cuts

    def __init__(self, family: FullMatrix):
        self.family = family
        diagonal = family.row == family.column
        self.lower = np.where(diagonal, 0.0, -0.5)
        self.upper = np.where(diagonal, 1.0, 0.5)
        self.mass = diagonal.astype(np.float64)

    def cuts(self, w: Float[ndarray, " A"]) -> Float[ndarray, "c A"]:
        """Rows g with g . w >= 0 for all semidefinite matrices, violated by w."""
        values, vectors = np.linalg.eigh(self.family.normalised(w))
        chosen = vectors[:, :CUTS][:, values[:CUTS] < NEGATIVE].T
        twice = np.where(self.family.row == self.family.column, 1.0, 2.0)
        return chosen[:, self.family.row] * chosen[:, self.family.column] * twice

    def repaired(self, w: Float[ndarray, " A"]) -> Float[ndarray, " A"]:
        """Weights with negative eigenvalues taken off."""
        values, vectors = np.linalg.eigh(self.family.normalised(w))
        values = np.maximum(values, 0.0)
        M = (vectors * (values / values.sum())) @ vectors.T
        return M[self.family.row, self.family.column]


def directions_of(
    family: FullMatrix, w: Float[ndarray, " A"], X: Float[ndarray, "n d"]
) -> tuple[Atoms, Float[ndarray, " B"]]:
    """Squares along the axes and along the eigenvectors of M, and the weights that give M.

    Sums of them with weights >= 0 are semidefinite, so models that know atoms only can go on from
    a full matrix.
    """
    diag = make_atoms("diag", X, np.zeros(len(X), dtype=int))
    values, vectors = np.linalg.eigh(family.normalised(w))
    used = values > 1e-9
    # the distance has mean one over all pairs where each atom has
    rows = vectors[:, used].T / np.sqrt(family.scale)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    scale = 2 * (X @ rows.T).var(axis=0, ddof=1)
    lengths = np.linalg.norm(vectors[:, used].T / np.sqrt(family.scale), axis=1)
    weights = values[used] * lengths**2 * scale
    atoms = Atoms(
        "psd",
        np.concatenate([diag.rows, rows]),
        np.full(len(diag) + len(rows), 2),
        np.concatenate([diag.scale, scale]),
        np.concatenate([diag.start, np.zeros(len(rows))]),
    )
    return atoms, np.concatenate([np.zeros(len(diag)), weights / weights.sum()])

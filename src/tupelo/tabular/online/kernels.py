"""The numbers that a step is made of. Both engines use them: Python as they stand, numba compiled.

A step of a layer is a combination of few vectors, with coefficients that follow from their inner
products. So a step costs O(d^2), no matrix is inverted or decomposed, and vectors that are zero or
parallel do no harm: nothing is divided by a length.
"""

from math import inf, nan, sqrt
from typing import NamedTuple

SAFE = 1e-3  # OPML: gamma * |b|^2 stays below 1 - SAFE
LEAST = 1e-2  # MOML, RDML: smallest eigenvalue of the bracket that is rooted without a projection
LARGEST = 1e2  # the same: with a larger one, K loses digits and is computed anew
FLOOR = 1e-8  # eigenvalues of a projected M, over the largest
HALVINGS = 60


class Options(NamedTuple):
    """Numbers of a step; see `ODML` for what they mean."""

    gamma: float
    gamma_pairs: float
    margin: float
    shrink: bool
    exact: bool
    passive_aggressive: bool
    near: float
    far: float
    eta: float
    local_weight: float
    weight_decay: float


def opml_factors(alpha: float, beta: float, c: float, gamma: float) -> tuple[float, float, float]:
    """`L (I + gamma A)^-1 = L - (pu u + m v) a^T - (m u + qv v) b^T`, u = L a, v = L b.

    A = a a^T - b b^T; the inverse by Woodbury's identity.

    Args:
        alpha, beta, c: |a|^2, |b|^2, a^T b.
        gamma: rate, with gamma * beta < 1.

    Returns:
        pu, m, qv.

    >>> opml_factors(0.8, 0.4, -0.4, 0.1)  # doctest: +ELLIPSIS
    (0.09244..., -0.00385..., -0.10400...)
    """
    down, up = 1.0 + gamma * alpha, 1.0 - gamma * beta
    scale = gamma / (down * up + gamma * gamma * c * c)
    return scale * up, scale * gamma * c, -scale * down


def opml_exact_rate(
    uu: float,
    vv: float,
    uv: float,
    alpha: float,
    beta: float,
    c: float,
    gamma: float,
    margin: float,
) -> float:
    """The largest rate up to gamma at which the hinge is still active: that of the exact minimum.

    The hinge falls as the rate grows, so its root is found by halving.

    Args:
        uu, vv, uv: |u|^2, |v|^2, u^T v for u = L a, v = L b.
        alpha, beta, c: as in `opml_factors`.
        gamma: the largest rate.
        margin: of the hinge.
    """
    low, high, rate = 0.0, gamma, gamma
    for _ in range(HALVINGS):
        down, up = 1.0 + rate * alpha, 1.0 - rate * beta
        scale = rate / (down * up + rate * rate * c * c)
        pu, m, qv = scale * up, scale * rate * c, -scale * down
        # L a and L b after the step, as combinations of u and v
        au, av = 1.0 - alpha * pu - c * m, -alpha * m - c * qv
        bu, bv = -c * pu - beta * m, 1.0 - c * m - beta * qv
        near = au * au * uu + 2.0 * au * av * uv + av * av * vv
        far = bu * bu * uu + 2.0 * bu * bv * uv + bv * bv * vv
        if margin + near - far < 0.0:
            high = rate
        elif rate == gamma:
            return gamma
        else:
            low = rate
        rate = 0.5 * (low + high)
    return rate


def moml_rate(
    z: float, alpha: float, beta: float, c: float, gamma: float, passive_aggressive: bool
) -> float:
    """gamma, or what makes the hinge z zero if that is less: z / |A|_F^2."""
    square = alpha * alpha + beta * beta - 2.0 * c * c
    if passive_aggressive and z < gamma * square:
        return z / square
    return gamma


def bracket_factors(
    uu: float, vv: float, uv: float, square: float, gamma: float
) -> tuple[float, float, float, float, float, float, float]:
    """Symmetric root of the bracket B = I - gamma u u^T + gamma v v^T, and inverse of the root.

    With U = [u v], root = I + U C U^T and its inverse is I + U D U^T. On the plane of u and v the
    root of a matrix of two rows is (B + s I) / t, s = sqrt(det B), t = sqrt(trace B + 2 s); the
    identity of that plane, times det(U^T U), is U adj(U^T U) U^T, and so nothing is divided by a
    length.

    Args:
        uu, vv, uv: |u|^2, |v|^2, u^T v.
        square: det(U^T U) = |u|^2 |v|^2 - (u^T v)^2, not computed like this: near the border of
            the cone u and v are long and nearly parallel, and nothing would be left of it.
        gamma: rate.

    Returns:
        smallest eigenvalue of B, or of the identity around it; C as c11, c12, c22; D likewise.
    """
    det = 1.0 + gamma * (vv - uu) - gamma * gamma * square
    trace = 2.0 + gamma * (vv - uu)
    largest = 0.5 * (trace + sqrt(max(trace * trace - 4.0 * det, 0.0)))
    if not det > 0.0:
        return det / max(largest, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    s = sqrt(det)
    t = sqrt(trace + 2.0 * s)
    k = gamma * gamma / (1.0 + s + t)
    c11, c12, c22 = (-gamma - k * vv) / t, k * uv / t, (gamma - k * uu) / t
    d11, d12, d22 = (k * vv - c11) / s, (-k * uv - c12) / s, (k * uu - c22) / s
    return det / largest, c11, c12, c22, d11, d12, d22


def lego_factor(length: float, target: float, eta: float) -> float:
    """Root of what the LogDet step multiplies a squared distance by, `length > 0`.

    The new squared distance y solves y^-1 = length^-1 + eta (y - target), a quadratic equation. NaN
    where its numbers leave the range of floats.
    """
    half = 0.5 * (eta * target * length - 1.0)
    root = sqrt(half * half + eta * length * length)
    if not root < inf:
        return nan
    # the sum without cancellation; y = (half + root) / (eta * length)
    y = (half + root) / (eta * length) if half > 0.0 else length / (root - half)
    return sqrt(y / length)


def rdml_factors(kk: float, gamma: float) -> tuple[float, float, float]:
    """Root of I - gamma k k^T, k^T k = kk: the eigenvalue, then C and D of `bracket_factors`."""
    least = 1.0 - gamma * kk
    if not least > 0.0:
        return least, 0.0, 0.0
    root = sqrt(least)
    c = -gamma / (1.0 + root)
    return least, c, -c / root

"""Statistics that a few wrong frames cannot spoil."""

from __future__ import annotations

import numpy as np

# Makes the median absolute deviation of a normal distribution its standard deviation.
_NORMAL = 1.4826


def robust_z(values: np.ndarray, floor: float = 0.0) -> np.ndarray:
    """Distance from the median in units of the scaled median absolute deviation, at least ``floor``."""
    deviation = values - np.median(values)
    scale = max(_NORMAL * float(np.median(np.abs(deviation))), floor)
    return deviation / scale if scale > 0 else np.zeros(len(values))


def robust_fit(columns: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of ``values ≈ columns @ coefficients`` and their standard errors, by Huber's weights.

    Parameters
    ----------
    columns : ndarray
        (M, C), M > C.
    values : ndarray
        (M,).

    Returns
    -------
    coefficients, errors : ndarray
        (C,) each; a column of zeros has an infinite error.

    References
    ----------
    P. J. Huber, Robust Statistics (1981): weights min(1, 1.345 σ/|r|), σ from the median of |r|.
    """
    size = np.sqrt((columns**2).mean(axis=0))
    # What is a millionth of the rest is rounding, as the work of forces that symmetry makes zero.
    used = size > 1e-6 * max(float(np.sqrt((values**2).mean())), 1e-6)
    coefficients, errors = np.zeros(columns.shape[1]), np.full(columns.shape[1], np.inf)
    if not used.any():
        return coefficients, errors
    scaled = columns[:, used] / size[used]
    weights = np.ones(len(values))
    for _ in range(20):
        root = np.sqrt(weights)
        solution, *_ = np.linalg.lstsq(scaled * root[:, None], values * root, rcond=None)
        residuals = np.abs(values - scaled @ solution)
        sigma = max(_NORMAL * float(np.median(residuals)), 1e-12)
        weights = np.minimum(1.0, 1.345 * sigma / np.maximum(residuals, 1e-300))
    variance = (weights * residuals**2).sum() / max(weights.sum() - scaled.shape[1], 1.0)
    covariance = np.linalg.pinv((scaled * weights[:, None]).T @ scaled) * variance
    coefficients[used], errors[used] = solution / size[used], np.sqrt(np.diag(covariance)) / size[used]
    return coefficients, errors

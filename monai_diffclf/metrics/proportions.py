# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Intervals of shares, where resampling says nothing: 9 of 9 correct is 9 of 9 in every resample."""

from __future__ import annotations

import math

from scipy.stats import norm

__all__ = ["wilson_interval"]


def wilson_interval(share: float, count: int, *, confidence: float = 0.95) -> dict[str, float]:
    """Wilson's score interval of a share of independent cases (Wilson 1927).

    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    Args:
        share: the share p found, 0 to 1.
        count: number of cases n.
        confidence: in (0, 1).

    Returns:
        ``low`` and ``high``.

    Raises:
        ValueError: when the share is none, or there is no case.

    Example:
        >>> {name: round(bound, 3) for name, bound in wilson_interval(1.0, 9).items()}
        {'low': 0.701, 'high': 1.0}
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share: expected a number from 0 to 1, got {share}")
    if count < 1:
        raise ValueError(f"count: expected at least one case, got {count}")
    z = float(norm.ppf((1 + confidence) / 2))
    centre = share + z**2 / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    low, high = ((centre + sign * spread) / (1 + z**2 / count) for sign in (-1, 1))
    # Exact at the ends, where rounding may leave 1e-17 between.
    return {"low": 0.0 if share == 0 else low, "high": 1.0 if share == 1 else high}

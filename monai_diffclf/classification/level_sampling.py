# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which noise levels are worth most draws, and where mirrored noise helps: the same answer with less variance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["LevelSampling"]


@dataclass(frozen=True)
class LevelSampling:
    """How noise levels are drawn: constant within each of J equal parts of the schedule.

    Importance sampling: levels where a draw's difference between classes varies most get more draws, and each draw
    counts 1 / density, so that sums still estimate those over uniform levels, with less variance. The best density is
    proportional to the root mean square of the weighted difference there.

    Antithetic noise: two draws at one level share their noise with opposite signs. The difference between classes is
    mostly linear in the noise, so that most of it cancels in the pair. It can also do harm: measure it in each part.

    :func:`monai_diffclf.classification.fit_level_sampling` chooses both from validation errors.

    Args:
        density: relative density in each part [J], all above 0.
        antithetic: whether noise is mirrored in each part [J]; empty for nowhere.

    Raises:
        ValueError: when a density is not positive or the lengths differ.

    Example:
        >>> sampling = LevelSampling(density=(3.0, 1.0), antithetic=(False, True))
        >>> sampling.quantile(torch.tensor([0.0, 0.75])).tolist(), sampling.at(torch.tensor([0.1, 0.9])).tolist()
        ([0.0, 0.5], [1.5, 0.5])
        >>> sampling.mirrored(torch.tensor([0.1, 0.9])).tolist()
        [False, True]
    """

    density: Sequence[float]
    antithetic: Sequence[bool] = ()

    def __post_init__(self) -> None:
        if not len(self.density) or not all(math.isfinite(x) and x > 0 for x in self.density):
            raise ValueError(f"density: expected positive numbers, one for each part, got {list(self.density)}")
        if self.antithetic and len(self.antithetic) != len(self.density):
            raise ValueError(
                f"antithetic: expected one value for each of the {len(self.density)} parts, got {len(self.antithetic)}"
            )

    def _parts(self) -> torch.Tensor:
        parts = torch.tensor(list(self.density), dtype=torch.float64)
        return parts / parts.mean()

    def _part(self, levels: torch.Tensor) -> torch.Tensor:
        return (levels.double() * len(self.density)).long().clamp(0, len(self.density) - 1)

    def at(self, levels: torch.Tensor) -> torch.Tensor:
        """Density at levels in [0, 1) [N], float64, with mean 1 over the schedule."""
        return self._parts()[self._part(levels)]

    def mirrored(self, levels: torch.Tensor) -> torch.Tensor:
        """Whether noise is mirrored at levels in [0, 1) [N], bool."""
        if not self.antithetic:
            return torch.zeros(len(levels), dtype=torch.bool)
        return torch.tensor(list(self.antithetic))[self._part(levels)]

    def quantile(self, uniform: torch.Tensor) -> torch.Tensor:
        """Levels [N], float64 in [0, 1), from uniform numbers in [0, 1) [N]."""
        parts = self._parts()
        ends = parts.cumsum(0) / len(parts)
        part = torch.bucketize(uniform.double(), ends, right=True).clamp(max=len(parts) - 1)
        within = (uniform.double() - (ends - parts / len(parts))[part]) / parts[part]
        return ((part / len(parts)) + within).clamp(0, 1 - 1e-12)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for a JSON file."""
        return {"density": [float(x) for x in self.density], "antithetic": [bool(x) for x in self.antithetic]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LevelSampling:
        """From what `to_dict` gave; other keys are ignored."""
        if "density" not in values:
            raise ValueError("values: expected density, it is missing")
        return cls(tuple(map(float, values["density"])), tuple(map(bool, values.get("antithetic", ()))))

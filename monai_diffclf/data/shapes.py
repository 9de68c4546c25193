# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Ellipses and strokes, from which synthetic images are drawn.

All lengths are in film coordinates: x to the right, y downwards, both in [-1, 1] whatever the number of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

__all__ = ["Array", "Ellipse", "pixel_grid", "stroke"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Ellipse:
    """A tilted (super)ellipse: |u / radius_x|^power + |v / radius_y|^power = 1 in its own axes u, v.

    Args:
        x: centre, to the right.
        y: centre, downwards.
        radius_x: half width.
        radius_y: half height.
        tilt: angle of the axes in radians.
        power: 2 for an ellipse, more for a rounded box.
    """

    x: float
    y: float
    radius_x: float
    radius_y: float
    tilt: float = 0.0
    power: float = 2.0

    def distance(self, grid: tuple[Array, Array]) -> Array:
        """Return 0 at the centre, 1 on the outline, more outside."""
        dx, dy = grid[0] - self.x, grid[1] - self.y
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        u, v = np.abs(cos * dx + sin * dy) / self.radius_x, np.abs(cos * dy - sin * dx) / self.radius_y
        return np.asarray((u**self.power + v**self.power) ** (1 / self.power))

    def fill(self, grid: tuple[Array, Array], softness: float = 0.06) -> Array:
        """Return 1 inside and 0 outside, with a soft edge.

        Example:
            >>> disc = Ellipse(0.0, 0.0, 0.5, 0.5).fill(pixel_grid(32))
            >>> disc.shape, bool(disc[16, 16] > 0.99), bool(disc[0, 0] < 0.01)
            ((32, 32), True, True)
        """
        return np.asarray(expit((1 - self.distance(grid)) / softness))

    def point(self, rng: np.random.Generator, reach: float) -> tuple[float, float]:
        """Return a random point in the concentric ellipse scaled by `reach`."""
        radius, angle = reach * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
        u, v = radius * self.radius_x * np.cos(angle), radius * self.radius_y * np.sin(angle)
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        return float(self.x + cos * u - sin * v), float(self.y + sin * u + cos * v)


@lru_cache(maxsize=8)
def pixel_grid(size: int) -> tuple[Array, Array]:
    """Return x and y [size, size] of the centres of the pixels of a square image.

    Example:
        >>> pixel_grid(2)[0][0].tolist()
        [-0.5, 0.5]
    """
    axis = (np.arange(size) + 0.5) * 2 / size - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return x, y


def stroke(grid: tuple[Array, Array], start: tuple[float, float], end: tuple[float, float], width: float) -> Array:
    """Return a straight line with a Gaussian profile, peak 1.

    Example:
        >>> line = stroke(pixel_grid(32), (-0.5, 0.0), (0.5, 0.0), 0.1)
        >>> bool(line[16, 16] > 0.9), bool(line[0, 16] < 0.01)
        (True, True)
    """
    direction = np.array(end) - np.array(start)
    length = float(np.hypot(*direction))
    ux, uy = direction / length
    dx, dy = grid[0] - start[0], grid[1] - start[1]
    along = np.clip(ux * dx + uy * dy, 0, length)
    return np.asarray(np.exp(-((dx - along * ux) ** 2 + (dy - along * uy) ** 2) / (2 * width**2)))

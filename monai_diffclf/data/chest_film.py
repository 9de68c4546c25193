# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The parts that chest-film-like phantoms are drawn from: chest, distractors, a nodule, and the exposure of the film.

Each takes its own random generator, so that one part does not depend on another.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from .shapes import Array, Ellipse, stroke

__all__ = ["draw_basal_shadow", "draw_chest", "draw_distractors", "draw_effusion", "draw_nodule", "expose"]


def _lungs(rng: np.random.Generator) -> tuple[Ellipse, Ellipse]:
    """Draw the two lung fields: unequal in size, height and tilt."""
    x, y, gap = rng.uniform(-0.08, 0.08), rng.uniform(-0.12, 0.08), rng.uniform(0.38, 0.46)
    width, height, tilt = rng.uniform(0.25, 0.33), rng.uniform(0.50, 0.66), rng.uniform(0.02, 0.16)
    fields = []
    for side in (-1, 1):
        fields.append(
            Ellipse(
                x=x + side * gap + rng.normal(0, 0.02),
                y=y + rng.normal(0, 0.04),
                radius_x=width * rng.uniform(0.88, 1.08),
                radius_y=height * rng.uniform(0.92, 1.06),
                tilt=-side * tilt + rng.normal(0, 0.03),
                power=2.4,
            )
        )
    return fields[0], fields[1]


def draw_chest(rng: np.random.Generator, grid: tuple[Array, Array]) -> tuple[Array, tuple[Ellipse, Ellipse]]:
    """Return a film before findings [H, W] and its two lung fields, left in the image first."""
    lungs = _lungs(rng)
    x, y = grid
    middle = (lungs[0].x + lungs[1].x) / 2
    thorax = Ellipse(middle, lungs[0].y + 0.2, rng.uniform(0.84, 0.98), rng.uniform(1.0, 1.3), 0.0, 3.0)
    inside = thorax.fill(grid)
    air = np.maximum(*(lung.fill(grid) for lung in lungs))
    film = 0.04 + rng.uniform(0.46, 0.58) * inside - rng.uniform(0.24, 0.34) * air

    spine = np.exp(-((x - middle) ** 2) / (2 * rng.uniform(0.08, 0.13) ** 2))
    film += rng.uniform(0.10, 0.22) * spine * inside
    heart = Ellipse(
        x=middle + rng.uniform(0.06, 0.18),
        y=lungs[1].y + rng.uniform(0.22, 0.36),
        radius_x=rng.uniform(0.22, 0.34),
        radius_y=rng.uniform(0.22, 0.32),
        tilt=rng.uniform(0.2, 0.7),
    )
    film += rng.uniform(0.12, 0.26) * heart.fill(grid, 0.12)

    spacing, bend, first = rng.uniform(0.2, 0.27), rng.uniform(0.25, 0.5), rng.uniform(-0.9, -0.7)
    height = y - first - bend * np.abs(x - middle) ** 1.5
    ribs = np.exp(-((height - spacing * np.round(height / spacing)) ** 2) / (2 * 0.035**2))
    film += rng.uniform(0.03, 0.08) * ribs * inside * (np.abs(x - middle) > 0.1)
    for side, lung in zip((-1, 1), lungs, strict=True):
        top = lung.y - lung.radius_y + rng.uniform(0.02, 0.14)
        ends = (
            (middle + side * 0.08, top + 0.08),
            (middle + side * rng.uniform(0.6, 0.8), top - rng.uniform(-0.04, 0.1)),
        )
        film += rng.uniform(0.06, 0.14) * stroke(grid, *ends, width=0.045)
    return film, lungs


def _vessels(rng: np.random.Generator, grid: tuple[Array, Array], lung: Ellipse, side: int) -> Array:
    """Return lines and a knot that leave the hilum of one lung."""
    hilum = (lung.x - side * lung.radius_x * rng.uniform(0.7, 0.95), lung.y + rng.uniform(-0.1, 0.15))
    drawn = np.zeros_like(grid[0])
    for _ in range(rng.integers(1, 4)):
        drawn += rng.uniform(0.04, 0.15) * stroke(grid, hilum, lung.point(rng, 0.85), rng.uniform(0.025, 0.05))
    knot = Ellipse(*hilum, rng.uniform(0.06, 0.12), rng.uniform(0.08, 0.16), 0.0)
    return drawn + rng.uniform(0.0, 0.16) * np.exp(-(knot.distance(grid) ** 2))


def draw_distractors(rng: np.random.Generator, grid: tuple[Array, Array], lungs: tuple[Ellipse, Ellipse]) -> Array:
    """Return what both classes carry [H, W]: vessels, and at times a haze or a blob outside the lungs."""
    drawn = np.zeros_like(grid[0])
    for side, lung in zip((-1, 1), lungs, strict=True):
        drawn += _vessels(rng, grid, lung, side)
        if rng.uniform() < 0.3:
            drawn += rng.uniform(0.03, 0.12) * lung.fill(grid, 0.15)
    if rng.uniform() < 0.4:
        x, y = rng.choice((-0.92, 0.92)), rng.uniform(-0.6, 0.6)
        if rng.uniform() < 0.5:
            x, y = rng.uniform(-0.6, 0.6), rng.uniform(0.72, 0.95)
        blob = Ellipse(x, y, rng.uniform(0.08, 0.18), rng.uniform(0.08, 0.18), rng.uniform(0, np.pi))
        drawn += rng.uniform(0.12, 0.3) * np.exp(-(blob.distance(grid) ** 2))
    return drawn


def draw_nodule(
    rng: np.random.Generator, grid: tuple[Array, Array], lungs: tuple[Ellipse, Ellipse]
) -> tuple[Array, NDArray[np.bool_], Ellipse]:
    """Return a soft round or oval opacity [H, W], its mask [H, W], and the lung it lies in."""
    lung = lungs[rng.integers(2)]
    radius, shape = rng.uniform(0.12, 0.22), rng.uniform(0.75, 1.0)
    oval = Ellipse(*lung.point(rng, 0.55), radius, radius * shape, rng.uniform(0, np.pi))
    distance = oval.distance(grid)
    # A flat top that falls to half its height on the outline, where the mask ends.
    return rng.uniform(0.15, 0.32) * expit((1 - distance) / 0.22), distance <= 1, lung


def _border_height(grid: tuple[Array, Array], lung: Ellipse, side: int, level: float, rise: float) -> Array:
    """Return how far below a border each pixel lies [H, W]; the border rises towards the outer side of the lung."""
    outwards = np.clip(side * (grid[0] - lung.x) / lung.radius_x, -1, 1)
    return np.asarray(grid[1] - level + rise * np.sign(outwards) * outwards**2)


def draw_effusion(
    rng: np.random.Generator, grid: tuple[Array, Array], lungs: tuple[Ellipse, Ellipse]
) -> tuple[Array, NDArray[np.bool_], Ellipse]:
    """Return a band at the base of one lung, its upper border rising outwards, its mask, and the lung."""
    place = rng.integers(2)
    lung, side = lungs[place], (-1, 1)[place]
    level = lung.y + lung.radius_y * (1 - 2 * rng.uniform(0.14, 0.34))
    rise = rng.uniform(0.04, 0.16)
    height = _border_height(grid, lung, side, level, rise)
    opacity = rng.uniform(0.12, 0.25) * expit(height / 0.035) * lung.fill(grid, 0.08)
    return opacity, (height >= 0) & (lung.distance(grid) <= 1), lung


def draw_basal_shadow(rng: np.random.Generator, grid: tuple[Array, Array], lungs: tuple[Ellipse, Ellipse]) -> Array:
    """Return soft tissue over the bases of the lungs [H, W]: as bright as an effusion at times, without a border."""
    drawn = np.zeros_like(grid[0])
    if rng.uniform() < 0.7:
        strength, reach = rng.uniform(0.05, 0.25), rng.uniform(0.15, 0.3)
        for lung in lungs:
            height = (grid[1] - lung.y - lung.radius_y * rng.uniform(0.4, 0.8)) / reach
            drawn += strength * rng.uniform(0.4, 1.0) * expit(3 * height) * lung.fill(grid, 0.15)
    return drawn


def expose(rng: np.random.Generator, film: Array, grid: tuple[Array, Array]) -> Array:
    """Apply gradient, exposure, blur and noise; the result is in [0, 1]."""
    angle = rng.uniform(0, 2 * np.pi)
    film = film + rng.uniform(0, 0.06) * (np.cos(angle) * grid[0] + np.sin(angle) * grid[1])
    film = rng.uniform(0.85, 1.2) * np.clip(film, 0, None) ** rng.uniform(0.8, 1.25) + rng.uniform(0, 0.05)
    film = gaussian_filter(film, rng.uniform(0.25, 0.6) * film.shape[0] / 32)
    film += rng.uniform(0.008, 0.03) * rng.standard_normal(film.shape)
    return np.clip(film, 0, 1)

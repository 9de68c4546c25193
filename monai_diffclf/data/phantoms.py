# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Synthetic chest-film-like phantoms with a known lesion and its mask.

These images are computed, not taken of anybody. They serve where real images cannot: the place of the lesion is known
exactly, so explanations can be checked, and nothing has to be downloaded. Results on phantoms say nothing about
patients.

Each phantom has its own thorax, lung fields, heart, ribs, clavicles, exposure, blur and noise. Class 1 ("lesion") adds
one soft round or oval opacity inside a lung. Both classes carry the same distractors with the same probability:
vessels, a bright heart, a thin haze over a whole lung, a blob outside the lungs. Class 0 ("clear") often spreads the
brightness of a lesion over the whole lung instead, so that neither brightness nor a distractor gives the class away.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from .shapes import Array, Ellipse, pixel_grid, stroke

__all__ = ["make_phantom", "make_phantoms"]

# Separate random streams, so that a phantom's anatomy and noise do not depend on its label.
_LABEL, _ANATOMY, _DISTRACTORS, _LESION, _NOISE = range(5)


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


def _anatomy(rng: np.random.Generator, grid: tuple[Array, Array]) -> tuple[Array, tuple[Ellipse, Ellipse]]:
    """Return the film before findings [H, W] and its lung fields."""
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


def _distractors(rng: np.random.Generator, grid: tuple[Array, Array], lungs: tuple[Ellipse, Ellipse]) -> Array:
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


def _lesion(
    rng: np.random.Generator, grid: tuple[Array, Array], lungs: tuple[Ellipse, Ellipse]
) -> tuple[Array, Array, Ellipse]:
    """Return the opacity [H, W], the distance from its centre in radii [H, W], and the lung it lies in."""
    lung = lungs[rng.integers(2)]
    radius, shape = rng.uniform(0.12, 0.22), rng.uniform(0.75, 1.0)
    oval = Ellipse(*lung.point(rng, 0.55), radius, radius * shape, rng.uniform(0, np.pi))
    distance = oval.distance(grid)
    # A flat top that falls to half its height on the outline, where the mask ends.
    return rng.uniform(0.15, 0.32) * expit((1 - distance) / 0.22), distance, lung


def _expose(rng: np.random.Generator, film: Array, grid: tuple[Array, Array]) -> Array:
    """Apply gradient, exposure, blur and noise; the result is in [0, 1]."""
    angle = rng.uniform(0, 2 * np.pi)
    film = film + rng.uniform(0, 0.06) * (np.cos(angle) * grid[0] + np.sin(angle) * grid[1])
    film = rng.uniform(0.85, 1.2) * np.clip(film, 0, None) ** rng.uniform(0.8, 1.25) + rng.uniform(0, 0.05)
    film = gaussian_filter(film, rng.uniform(0.25, 0.6) * film.shape[0] / 32)
    film += rng.uniform(0.008, 0.03) * rng.standard_normal(film.shape)
    return np.clip(film, 0, 1)


def make_phantom(index: int, *, seed: int = 0, size: int = 32, label: int | None = None) -> dict[str, Any]:
    """Make one phantom; the same `(index, seed, size, label)` gives the same image on every call.

    The two labels of one `(index, seed)` share anatomy, distractors, exposure and noise: they are each other's exact
    counterfactual.

    Args:
        index: number of the phantom within the seed, 0 or more.
        seed: 0 or more; different seeds give unrelated phantoms.
        size: height and width in pixels, 16 or more.
        label: 0 (clear) or 1 (lesion); None draws it with equal chances.

    Returns:
        `image` float32 [1, size, size] in [0, 1]; `label` 0 or 1; `mask` uint8 [1, size, size], 1 on the lesion, all 0
        for a clear phantom; `key` "phantom-<seed>-<index>".

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> phantom = make_phantom(3, label=1)
        >>> phantom["key"], phantom["image"].shape, bool(phantom["mask"].any())
        ('phantom-0-3', (1, 32, 32), True)
    """
    if index < 0 or seed < 0:
        raise ValueError(f"index, seed: expected integers of 0 or more, got {index} and {seed}.")
    if size < 16:
        raise ValueError(f"size: expected 16 pixels or more, or a lesion does not show; got {size}.")
    if label not in (None, 0, 1):
        raise ValueError(f"label: expected 0 (clear), 1 (lesion) or None (drawn at random), got {label!r}.")

    def stream(purpose: int) -> np.random.Generator:
        return np.random.default_rng([seed, index, purpose])

    if label is None:
        label = int(stream(_LABEL).uniform() < 0.5)
    grid = pixel_grid(size)
    film, lungs = _anatomy(stream(_ANATOMY), grid)
    film += _distractors(stream(_DISTRACTORS), grid, lungs)

    finding = stream(_LESION)
    opacity, distance, lung = _lesion(finding, grid, lungs)
    spread_out = finding.uniform() < 0.6
    if label == 1:
        film += opacity
    elif spread_out:
        area = lung.fill(grid, 0.15)
        film += area * opacity.sum() / area.sum()

    image = _expose(stream(_NOISE), film, grid)
    mask = (distance <= 1) & (label == 1)
    return {
        "image": image[None].astype(np.float32),
        "label": label,
        "mask": mask[None].astype(np.uint8),
        "key": f"phantom-{seed}-{index}",
    }


def make_phantoms(count: int, *, seed: int = 0, size: int = 32, prevalence: float = 0.5) -> list[dict[str, Any]]:
    """Make phantoms 0 to `count - 1` of a seed; phantom `i` does not depend on `count`.

    Args:
        count: how many, 0 or more.
        seed: 0 or more; use one seed for training and another for testing.
        size: height and width in pixels.
        prevalence: probability of a lesion, in [0, 1].

    Returns:
        A list of dictionaries as from `make_phantom`, ready for `monai.data.Dataset`.

    Raises:
        ValueError: if `count` or `prevalence` is out of its range.

    Example:
        >>> [phantom["label"] for phantom in make_phantoms(8, seed=1)] == [
        ...     phantom["label"] for phantom in make_phantoms(9, seed=1)
        ... ][:8]
        True
    """
    if count < 0:
        raise ValueError(f"count: expected 0 or more, got {count}.")
    if not 0 <= prevalence <= 1:
        raise ValueError(f"prevalence: expected a probability in [0, 1], got {prevalence}.")
    labels = [int(np.random.default_rng([seed, index, _LABEL]).uniform() < prevalence) for index in range(count)]
    return [make_phantom(index, seed=seed, size=size, label=label) for index, label in enumerate(labels)]

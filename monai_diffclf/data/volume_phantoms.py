# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Synthetic volumes of a chest with a known lesion and its mask.

They are computed, not taken of anybody; results on them say nothing about patients. Each has its own trunk, two unequal
lungs, a heart on the left, a liver under the right lung, spine, aorta, ribs, exposure, blur and noise, so that no two
sides of a volume are alike. Class 1 ("lesion") adds one soft ellipsoid inside a lung. Both classes carry the same
distractors with the same probability: vessels, a knot at the hilum, a thin haze over a whole lung, a blob outside the
lungs. Class 0 ("clear") often spreads the brightness of a lesion over the whole lung instead, so that neither
brightness nor a distractor gives the class away.

Axes are RAS+ (right, front, up), each from -1 to 1 whatever the number of voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation
from scipy.special import expit
from tqdm import tqdm

__all__ = ["make_volume_phantom", "make_volume_phantoms"]

Volume = NDArray[Any]  # float32 or float64
Point = Sequence[float] | NDArray[Any]
# Separate random streams, so that a phantom's anatomy and noise do not depend on its label.
_LABEL, _ANATOMY, _DISTRACTORS, _LESION, _NOISE = range(5)


@lru_cache(maxsize=4)
def _voxel_grid(size: int) -> Volume:
    """Places of the voxels' centres, [3, size, size, size]."""
    axis = ((np.arange(size) + 0.5) * 2 / size - 1).astype(np.float32)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))


@dataclass(frozen=True)
class _Ellipsoid:
    """An ellipsoid: centre [3], radii [3], and how it is turned, as a rotation vector in radians."""

    centre: Point
    radii: Point
    turn: Point = (0.0, 0.0, 0.0)

    def _axes(self) -> Volume:
        return np.asarray(Rotation.from_rotvec(self.turn).as_matrix(), dtype=np.float32)

    def distance(self, grid: Volume) -> Volume:
        """0 at the centre, 1 on the surface, more outside."""
        offset = grid - np.asarray(self.centre, dtype=np.float32).reshape(3, 1, 1, 1)
        own = np.tensordot(self._axes().T / np.asarray(self.radii, dtype=np.float32)[:, None], offset, 1)
        return np.asarray(np.sqrt((own * own).sum(0)))

    def fill(self, grid: Volume, softness: float = 0.06) -> Volume:
        """1 inside and 0 outside, with a soft edge."""
        return np.asarray(expit((1 - self.distance(grid)) / np.float32(softness)))

    def point(self, rng: np.random.Generator, reach: float) -> Volume:
        """A random point in the concentric ellipsoid scaled by `reach`."""
        direction = rng.standard_normal(3)
        direction *= reach * rng.uniform() ** (1 / 3) / np.linalg.norm(direction)
        return np.asarray(self.centre + self._axes() @ (direction * self.radii), dtype=np.float32)


def _tube(grid: Volume, start: Point, end: Point, width: float) -> Volume:
    """A straight line with a Gaussian profile, peak 1."""
    first = np.asarray(start, dtype=np.float32)
    direction = np.asarray(end, dtype=np.float32) - first
    length = float(np.linalg.norm(direction))
    direction = direction / np.float32(length)
    offset = grid - first.reshape(3, 1, 1, 1)
    along = np.clip(np.tensordot(direction, offset, 1), 0, length)
    across = offset - direction.reshape(3, 1, 1, 1) * along
    return np.asarray(np.exp(-(across * across).sum(0) / np.float32(2 * width**2)))


def _lungs(rng: np.random.Generator) -> tuple[_Ellipsoid, _Ellipsoid]:
    """The right and the left lung: unequal in size, height and tilt, the left one narrower."""
    middle, height, gap = rng.uniform(-0.06, 0.06), rng.uniform(0.5, 0.66), rng.uniform(0.38, 0.46)
    width, depth, up = rng.uniform(0.26, 0.33), rng.uniform(0.36, 0.46), rng.uniform(0.0, 0.16)
    lungs = []
    for side, narrow in ((1, 1.0), (-1, 0.88)):
        centre = (middle + side * gap + rng.normal(0, 0.02), rng.uniform(-0.1, 0.04), up + rng.normal(0, 0.04))
        radii = (
            width * narrow * rng.uniform(0.9, 1.08),
            depth * rng.uniform(0.92, 1.06),
            height * rng.uniform(0.94, 1.06),
        )
        lungs.append(_Ellipsoid(centre, radii, (rng.normal(0, 0.08), side * rng.uniform(0.0, 0.18), 0.0)))
    return lungs[0], lungs[1]


def _anatomy(rng: np.random.Generator, grid: Volume) -> tuple[Volume, tuple[_Ellipsoid, _Ellipsoid]]:
    """The volume before findings [S, S, S] and its lungs."""
    right, left = _lungs(rng)
    middle = (right.centre[0] + left.centre[0]) / 2
    trunk = _Ellipsoid((middle, -0.02, 0.0), (rng.uniform(0.84, 0.95), rng.uniform(0.62, 0.74), rng.uniform(2.5, 4.0)))
    surface = trunk.distance(grid)
    inside = expit((1 - surface) / np.float32(0.05))
    volume = 0.04 + rng.uniform(0.44, 0.54) * inside
    air = np.maximum(right.fill(grid), left.fill(grid))

    spine = _tube(grid, (middle, -0.5, -1.4), (middle + rng.normal(0, 0.04), -0.5, 1.4), rng.uniform(0.08, 0.12))
    volume += rng.uniform(0.2, 0.32) * spine
    spacing, first = rng.uniform(0.24, 0.32), rng.uniform(0, 1)
    slope = rng.uniform(0.2, 0.45)
    height = grid[2] - first + slope * grid[1]
    ribs = np.exp(-((height - spacing * np.round(height / spacing)) ** 2) / np.float32(2 * 0.05**2))
    volume += rng.uniform(0.1, 0.22) * ribs * np.exp(-((surface - 0.88) ** 2) / np.float32(2 * 0.05**2))
    liver = _Ellipsoid(
        (right.centre[0] - 0.08, 0.02, right.centre[2] - right.radii[2] - rng.uniform(0.18, 0.34)),
        (rng.uniform(0.5, 0.62), rng.uniform(0.46, 0.56), rng.uniform(0.42, 0.56)),
        (0.0, rng.uniform(0.05, 0.3), 0.0),
    ).fill(grid, 0.08)
    air = air * (1 - liver)
    volume += rng.uniform(0.05, 0.12) * liver - rng.uniform(0.26, 0.36) * air
    heart = _Ellipsoid(
        (middle - rng.uniform(0.08, 0.18), rng.uniform(0.12, 0.22), left.centre[2] - rng.uniform(0.12, 0.28)),
        (rng.uniform(0.2, 0.3), rng.uniform(0.18, 0.26), rng.uniform(0.22, 0.3)),
        (0.0, rng.uniform(0.2, 0.6), rng.uniform(-0.3, 0.3)),
    )
    volume += rng.uniform(0.18, 0.3) * heart.fill(grid, 0.12)
    start, end = (middle - 0.12, -0.3, -1.2), (middle - 0.08, -0.26, rng.uniform(0.2, 0.45))
    volume += rng.uniform(0.06, 0.18) * _tube(grid, start, end, rng.uniform(0.06, 0.09))
    return volume.astype(np.float32), (right, left)


def _distractors(rng: np.random.Generator, grid: Volume, lungs: tuple[_Ellipsoid, _Ellipsoid]) -> Volume:
    """What both classes carry [S, S, S]: vessels, and at times a haze or a blob outside the lungs."""
    drawn = np.zeros_like(grid[0])
    for side, lung in zip((1, -1), lungs, strict=True):
        x, y, z = lung.centre
        hilum = (x - side * lung.radii[0] * rng.uniform(0.7, 0.95), y + rng.uniform(-0.1, 0.1), z + rng.normal(0, 0.1))
        for _ in range(rng.integers(2, 5)):
            drawn += rng.uniform(0.06, 0.2) * _tube(grid, hilum, lung.point(rng, 0.9), rng.uniform(0.03, 0.06))
        knot = _Ellipsoid(hilum, rng.uniform(0.08, 0.16, 3))
        drawn += rng.uniform(0.0, 0.2) * np.exp(-(knot.distance(grid) ** 2))
        if rng.uniform() < 0.3:
            drawn += rng.uniform(0.03, 0.12) * lung.fill(grid, 0.15)
    if rng.uniform() < 0.4:
        place = (rng.choice((-0.86, 0.86)), rng.uniform(-0.4, 0.4), rng.uniform(-0.8, 0.8))
        if rng.uniform() < 0.5:
            place = (rng.uniform(-0.6, 0.6), rng.uniform(-0.3, 0.3), rng.uniform(-0.95, -0.75))
        blob = _Ellipsoid(place, rng.uniform(0.1, 0.2, 3))
        drawn += rng.uniform(0.12, 0.3) * np.exp(-(blob.distance(grid) ** 2))
    return np.asarray(drawn)


def _lesion(
    rng: np.random.Generator, grid: Volume, lungs: tuple[_Ellipsoid, _Ellipsoid]
) -> tuple[Volume, Volume, _Ellipsoid]:
    """The opacity [S, S, S], the distance from its centre in radii [S, S, S], and the lung it lies in."""
    lung = lungs[rng.integers(2)]
    radii = rng.uniform(0.18, 0.27) * np.array([1.0, rng.uniform(0.75, 1.0), rng.uniform(0.75, 1.0)])
    distance = _Ellipsoid(lung.point(rng, 0.65), radii, rng.uniform(-np.pi, np.pi, 3)).distance(grid)
    # A flat top that falls to half its height on the surface, where the mask ends.
    return rng.uniform(0.26, 0.44) * expit((1 - distance) / np.float32(0.22)), distance, lung


def _expose(rng: np.random.Generator, volume: Volume, grid: Volume) -> Volume:
    """Gradient, exposure, blur and noise; the result is in [0, 1]."""
    direction = rng.standard_normal(3)
    volume = volume + rng.uniform(0, 0.06) * np.tensordot(direction / np.linalg.norm(direction), grid, 1)
    volume = rng.uniform(0.85, 1.2) * np.clip(volume, 0, None) ** rng.uniform(0.8, 1.25) + rng.uniform(0, 0.05)
    volume = gaussian_filter(volume, rng.uniform(0.25, 0.6) * len(volume) / 32)
    volume += rng.uniform(0.01, 0.04) * rng.standard_normal(volume.shape)
    return np.clip(volume, 0, 1).astype(np.float32)


def make_volume_phantom(index: int, *, seed: int = 0, size: int = 32, label: int | None = None) -> dict[str, Any]:
    """Make one volume; the same `(index, seed, size, label)` gives the same volume on every call.

    The two labels of one `(index, seed)` share anatomy, distractors, exposure and noise: they are each other's exact
    counterfactual.

    Args:
        index: number of the phantom within the seed, 0 or more.
        seed: 0 or more; different seeds give unrelated phantoms.
        size: voxels a side, 16 or more.
        label: 0 (clear) or 1 (lesion); None draws it with equal chances.

    Returns:
        `image` float32 [1, size, size, size] in [0, 1], axes to the right, to the front and upwards; `label` 0 or 1;
        `mask` uint8 of the same shape, 1 on the lesion, all 0 for a clear phantom; `key` "volume-<seed>-<index>".

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> phantom = make_volume_phantom(3, label=1)
        >>> phantom["key"], phantom["image"].shape, bool(phantom["mask"].any())
        ('volume-0-3', (1, 32, 32, 32), True)
    """
    if index < 0 or seed < 0:
        raise ValueError(f"index, seed: expected integers of 0 or more, got {index} and {seed}")
    if size < 16:
        raise ValueError(f"size: expected 16 voxels or more, or a lesion does not show; got {size}")
    if label not in (None, 0, 1):
        raise ValueError(f"label: expected 0 (clear), 1 (lesion) or None (drawn at random), got {label!r}")

    def stream(purpose: int) -> np.random.Generator:
        return np.random.default_rng([seed, index, purpose])

    if label is None:
        label = int(stream(_LABEL).uniform() < 0.5)
    grid = _voxel_grid(size)
    volume, lungs = _anatomy(stream(_ANATOMY), grid)
    volume = volume + _distractors(stream(_DISTRACTORS), grid, lungs)
    finding = stream(_LESION)
    opacity, distance, lung = _lesion(finding, grid, lungs)
    spread_out = finding.uniform() < 0.6
    if label == 1:
        volume = volume + opacity
    elif spread_out:
        area = lung.fill(grid, 0.15)
        volume = volume + area * (opacity.sum() / area.sum())
    image = _expose(stream(_NOISE), volume, grid)
    mask = (distance <= 1) & (label == 1)
    return {
        "image": image[None],
        "label": label,
        "mask": mask[None].astype(np.uint8),
        "key": f"volume-{seed}-{index}",
    }


def make_volume_phantoms(
    count: int, *, seed: int = 0, size: int = 32, prevalence: float = 0.5, progress: bool = False
) -> list[dict[str, Any]]:
    """Make volumes 0 to `count - 1` of a seed; volume `i` does not depend on `count`.

    Args:
        count: how many, 0 or more.
        seed: 0 or more; use one seed for training and another for testing.
        size: voxels a side.
        prevalence: probability of a lesion, in [0, 1].
        progress: whether to show a progress bar on stderr.

    Returns:
        A list of dictionaries as from `make_volume_phantom`, ready for `monai.data.Dataset`.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> [phantom["label"] for phantom in make_volume_phantoms(3, prevalence=1.0, size=16)]
        [1, 1, 1]
    """
    if count < 0:
        raise ValueError(f"count: expected 0 or more, got {count}")
    if not 0 <= prevalence <= 1:
        raise ValueError(f"prevalence: expected a probability in [0, 1], got {prevalence}")
    labels = [int(np.random.default_rng([seed, index, _LABEL]).uniform() < prevalence) for index in range(count)]
    return [
        make_volume_phantom(index, seed=seed, size=size, label=label)
        for index, label in enumerate(tqdm(labels, unit="volume", desc="phantoms", disable=not progress))
    ]

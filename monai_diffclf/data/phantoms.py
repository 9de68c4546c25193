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

from .chest_film import draw_chest, draw_distractors, draw_nodule, expose
from .shapes import pixel_grid

__all__ = ["make_phantom", "make_phantoms"]

# Separate random streams, so that a phantom's anatomy and noise do not depend on its label.
_LABEL, _ANATOMY, _DISTRACTORS, _LESION, _NOISE = range(5)


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
    film, lungs = draw_chest(stream(_ANATOMY), grid)
    film += draw_distractors(stream(_DISTRACTORS), grid, lungs)

    finding = stream(_LESION)
    opacity, extent, lung = draw_nodule(finding, grid, lungs)
    spread_out = finding.uniform() < 0.6
    if label == 1:
        film += opacity
    elif spread_out:
        area = lung.fill(grid, 0.15)
        film += area * opacity.sum() / area.sum()

    image = expose(stream(_NOISE), film, grid)
    mask = extent & (label == 1)
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

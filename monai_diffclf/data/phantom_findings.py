# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Synthetic chest-film-like phantoms with two findings, a nodule and an effusion-like band, each with its mask.

As the phantoms of `monai_diffclf.data.phantoms`, computed and of nobody, for what real films cannot show: maps of two
findings against two known places, findings that are correlated in the population or not, labels that are unknown at
random. Results on them say nothing about patients.

Every phantom has what they have, and a soft shadow over both bases at times. A finding that is absent often leaves its
brightness behind, spread over a lung, so that neither brightness nor a distractor gives a finding away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .chest_film import draw_basal_shadow, draw_chest, draw_distractors, draw_effusion, draw_nodule, expose
from .shapes import Array, Ellipse, pixel_grid

__all__ = ["FINDINGS", "UNKNOWN", "make_findings_phantom", "make_findings_phantoms"]

FINDINGS = ("nodule", "effusion")
UNKNOWN = 2  # in a label; 0 is absent, 1 present

# Separate random streams, so that anatomy, noise and each finding do not depend on the others.
_LABEL, _ANATOMY, _DISTRACTORS, _NODULE, _NOISE, _EFFUSION, _SHADOW, _HIDDEN = range(8)


def make_findings_phantom(
    index: int,
    *,
    seed: int = 0,
    size: int = 32,
    present: Sequence[int],
) -> dict[str, Any]:
    """Make one phantom with chosen findings; the same arguments give the same image on every call.

    Phantoms of one `(index, seed)` share anatomy, distractors, exposure, noise, and the place of each finding: they are
    each other's exact counterfactuals, one finding at a time.

    Args:
        index: number of the phantom within the seed, 0 or more.
        seed: 0 or more; different seeds give unrelated phantoms.
        size: height and width in pixels, 16 or more.
        present: for nodule and effusion 0 (absent) or 1 (present).

    Returns:
        `image` float32 [1, size, size] in [0, 1]; `label` and `truth` int64 [2], both as `present`; `mask` uint8
        [2, size, size], 1 on each finding, all 0 where it is absent; `key` "findings-<seed>-<index>".

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> phantom = make_findings_phantom(3, present=(0, 1))
        >>> phantom["key"], phantom["label"].tolist(), phantom["mask"].any((1, 2)).tolist()
        ('findings-0-3', [0, 1], [False, True])
    """
    if index < 0 or seed < 0:
        raise ValueError(f"index, seed: expected integers of 0 or more, got {index} and {seed}.")
    if size < 16:
        raise ValueError(f"size: expected 16 pixels or more, or a finding does not show; got {size}.")
    if len(present) != len(FINDINGS) or any(state not in (0, 1) for state in present):
        raise ValueError(f"present: expected 0 or 1 for each of {', '.join(FINDINGS)}, got {list(present)}.")

    def stream(purpose: int) -> np.random.Generator:
        return np.random.default_rng([seed, index, purpose])

    grid = pixel_grid(size)
    film, lungs = draw_chest(stream(_ANATOMY), grid)
    film += draw_distractors(stream(_DISTRACTORS), grid, lungs)
    film += draw_basal_shadow(stream(_SHADOW), grid, lungs)
    parts = ((draw_nodule, _NODULE), (draw_effusion, _EFFUSION))
    masks = []
    for state, (draw, purpose) in zip(present, parts, strict=True):
        rng = stream(purpose)
        drawn, extent, lung = draw(rng, grid, lungs)
        film += drawn if state else _spread_out(rng, grid, drawn, lung)
        masks.append(extent & (state == 1))
    label = np.asarray(present, dtype=np.int64)
    return {
        "image": expose(stream(_NOISE), film, grid)[None].astype(np.float32),
        "label": label,
        "truth": label.copy(),
        "mask": np.stack(masks).astype(np.uint8),
        "key": f"findings-{seed}-{index}",
    }


def make_findings_phantoms(
    count: int,
    *,
    seed: int = 0,
    size: int = 32,
    prevalence: Sequence[float] = (0.5, 0.5),
    correlation: float = 0.0,
    unknown: float = 0.0,
) -> list[dict[str, Any]]:
    """Make phantoms 0 to `count - 1` of a seed from a population; phantom `i` does not depend on `count`.

    With prevalences p and q and the correlation phi of the two findings, both are present with the probability
    p q + phi sqrt(p (1 - p) q (1 - q)). Labels are hidden independently of everything else; images are the same
    whatever is hidden.

    Args:
        count: how many, 0 or more.
        seed: 0 or more; use one seed for training and another for testing.
        size: height and width in pixels.
        prevalence: probabilities of a nodule and of an effusion, in [0, 1].
        correlation: of the two findings in the population (the phi coefficient), in [-1, 1] and possible at these
            prevalences.
        unknown: probability that the label of a finding is unknown, in [0, 1], for each finding by itself.

    Returns:
        A list of dictionaries as from `make_findings_phantom`, ready for `monai.data.Dataset`; in `label` unknown
        findings are 2, `truth` is without unknowns.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> made = make_findings_phantoms(6, seed=1, correlation=1.0, unknown=0.3)
        >>> [phantom["truth"].tolist() for phantom in made]
        [[1, 1], [0, 0], [0, 0], [0, 0], [0, 0], [0, 0]]
        >>> [phantom["label"].tolist() for phantom in made]
        [[2, 1], [0, 0], [2, 0], [0, 0], [2, 0], [2, 0]]
    """
    if count < 0:
        raise ValueError(f"count: expected 0 or more, got {count}.")
    if not 0 <= unknown <= 1:
        raise ValueError(f"unknown: expected a probability in [0, 1], got {unknown}.")
    chances = _joint_chances(prevalence, correlation)
    made = []
    for index in range(count):
        first, second = divmod(int(np.random.default_rng([seed, index, _LABEL]).choice(4, p=chances)), 2)
        phantom = make_findings_phantom(index, seed=seed, size=size, present=(first, second))
        hidden = np.random.default_rng([seed, index, _HIDDEN]).uniform(size=len(FINDINGS)) < unknown
        phantom["label"][hidden] = UNKNOWN
        made.append(phantom)
    return made


def _spread_out(rng: np.random.Generator, grid: tuple[Array, Array], drawn: Array, lung: Ellipse) -> Array:
    """Return the brightness of a finding over the whole lung, in 6 of 10 phantoms; else nothing."""
    area = lung.fill(grid, 0.15)
    return np.asarray(area * drawn.sum() / area.sum() * (rng.uniform() < 0.6))


def _joint_chances(prevalence: Sequence[float], correlation: float) -> NDArray[np.float64]:
    """Return the probabilities of (0, 0), (0, 1), (1, 0) and (1, 1)."""
    if len(prevalence) != len(FINDINGS) or not all(0 <= chance <= 1 for chance in prevalence):
        raise ValueError(
            f"prevalence: expected a probability in [0, 1] for each of {', '.join(FINDINGS)}, got {list(prevalence)}."
        )
    p, q = prevalence
    spread = float(np.sqrt(p * (1 - p) * q * (1 - q)))
    both = p * q + correlation * spread
    if not max(0.0, p + q - 1) - 1e-12 <= both <= min(p, q) + 1e-12:
        low, high = max(0.0, p + q - 1) - p * q, min(p, q) - p * q
        span = f"{low / spread:.3g} to {high / spread:.3g}" if spread else "anything: one of them is always the same"
        raise ValueError(
            f"correlation: expected a value that is possible at the prevalences {p:g} and {q:g}, {span}, got "
            f"{correlation:g}."
        )
    chances = np.clip([1 - p - q + both, q - both, p - both, both], 0, 1)
    return np.asarray(chances / chances.sum())

# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Level weights and temperature that a training with a contrastive term has learned, for the use of its weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from ..classification import LevelWeights
from ..classification.draw_weights import Weighting
from ..networks.model_description import read_model_note

__all__ = ["Levels", "learned_levels"]


class Levels(NamedTuple):
    """What an inferer takes: weighting of the levels and temperature."""

    weighting: Weighting
    temperature: float


def learned_levels(weighting: Weighting, temperature: float, checkpoint: str | os.PathLike[str]) -> Levels:
    """For the weighting "learned" the level weights and the temperature beside some weights; any other as it is.

    They are in the JSON file beside the weights, which :func:`monai_diffclf.networks.load_weights` refuses where it is
    of other weights.

    Args:
        weighting: ``"learned"``, or a weighting of :class:`monai_diffclf.inferers.DiffusionClassifierInferer`.
        temperature: temperature; of learned levels, what theirs is multiplied by.
        checkpoint: file of the weights.

    Raises:
        ValueError: when nothing was learned, or it is not what a training writes.

    Example:
        >>> learned_levels("min_snr", 2.0, "model.pt")
        Levels(weighting='min_snr', temperature=2.0)
    """
    if not isinstance(weighting, str) or weighting != "learned":
        return Levels(weighting, temperature)
    found: Mapping[str, Any] | None = read_model_note(checkpoint).get("learned")
    if found is None:
        raise ValueError(
            f"weighting: expected level weights beside {checkpoint}, as a training with contrastive_weight above 0 "
            "writes them, found none; name another weighting, such as min_snr"
        )
    try:
        own = float(found["temperature"])
        weights = LevelWeights.from_dict(found["level_weights"])
        return Levels(replace(weights, trained=True), temperature * own)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"weighting: expected level weights and temperature beside {checkpoint}: {error}") from None

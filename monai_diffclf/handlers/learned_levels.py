# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Validation with what a training has learned so far about the noise levels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ignite.engine import Engine, Events

from ..classification import LevelWeights
from ..inferers import DiffusionClassifierInferer

__all__ = ["LearnedLevels"]


class LearnedLevels:
    """Ignite handler for a validating evaluator: give its inferer the level weights and temperature of a loss.

    Weights that are kept for how well they classify should be judged as they will classify.

    Args:
        inferer: the evaluator's inferer.
        learned: :meth:`monai_diffclf.losses.ClassContrastiveLoss.learned`; where it gives None nothing is changed.
    """

    def __init__(self, inferer: DiffusionClassifierInferer, learned: Callable[[], Mapping[str, Any] | None]) -> None:
        self.inferer, self.learned = inferer, learned

    def attach(self, engine: Engine) -> None:
        """Attach to the validating evaluator."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Take what was learned."""
        if (found := self.learned()) is not None:
            self.inferer.weighting = LevelWeights.from_dict(found["level_weights"])
            self.inferer.temperature = float(found["temperature"])

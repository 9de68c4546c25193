# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What is learned from stored validation errors: how sure a classifier may be, and how it spends its draws."""

from __future__ import annotations

from .combined import Aligned, RunCascade, align_predictions, fit_run_cascade
from .fit_decision import DecisionFit, fit_decision, measure_mirrored
from .fit_uncertainty import UncertaintyFit, fit_uncertainty
from .stopping_rules import replay_all, replay_file

__all__ = [
    "Aligned",
    "DecisionFit",
    "RunCascade",
    "UncertaintyFit",
    "align_predictions",
    "fit_decision",
    "fit_run_cascade",
    "fit_uncertainty",
    "measure_mirrored",
    "replay_all",
    "replay_file",
]

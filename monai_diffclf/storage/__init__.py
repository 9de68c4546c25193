# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Results on disk: errors and likelihoods, the record of a long evaluation, what was fitted for a bundle."""

from __future__ import annotations

from .cascade_file import FittedCascade, load_cascade, save_cascade
from .decision_file import LearnedDecision, load_decision, save_decision
from .errors_file import StoredErrors, load_errors, save_errors
from .errors_journal import ErrorsJournal
from .likelihood_file import StoredLikelihoods, load_likelihoods
from .mean_image_file import find_mean_image, load_mean_image
from .same_images import rows_of_images
from .uncertainty_file import FittedUncertainty, load_uncertainty, save_uncertainty

__all__ = [
    "ErrorsJournal",
    "FittedCascade",
    "FittedUncertainty",
    "LearnedDecision",
    "StoredErrors",
    "StoredLikelihoods",
    "find_mean_image",
    "load_cascade",
    "load_decision",
    "load_errors",
    "load_likelihoods",
    "load_mean_image",
    "load_uncertainty",
    "rows_of_images",
    "save_cascade",
    "save_decision",
    "save_errors",
    "save_uncertainty",
]

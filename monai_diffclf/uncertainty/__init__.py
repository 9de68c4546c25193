# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""How sure a diffusion classifier is: votes, calibrated probabilities, prediction sets, typicality and shift."""

from __future__ import annotations

from ..classification import probability_uncertainty, vote_uncertainty
from .calibration import Calibration, fit_calibration
from .conformal import ConformalSets, fit_conformal
from .ensemble import Ensemble, ensemble_probabilities, fit_ensemble
from .image_statistics import image_statistics, latent_statistics
from .likelihood_typicality import LikelihoodTypicality, fit_likelihood_typicality, likelihood_score
from .mean_image import MeanImage, fit_mean_image
from .pooled_maps import pool_maps
from .probabilities import adjust_prior
from .selection import STRATEGIES, error_features, k_centre, select_images
from .shift import ShiftTest, shift_test, warn_if_shifted
from .typicality import Typicality, fit_typicality

__all__ = [
    "STRATEGIES",
    "Calibration",
    "ConformalSets",
    "Ensemble",
    "LikelihoodTypicality",
    "MeanImage",
    "ShiftTest",
    "Typicality",
    "adjust_prior",
    "ensemble_probabilities",
    "error_features",
    "fit_calibration",
    "fit_conformal",
    "fit_ensemble",
    "fit_likelihood_typicality",
    "fit_mean_image",
    "fit_typicality",
    "image_statistics",
    "k_centre",
    "latent_statistics",
    "likelihood_score",
    "pool_maps",
    "probability_uncertainty",
    "select_images",
    "shift_test",
    "vote_uncertainty",
    "warn_if_shifted",
]

# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Noise schedules and processes; importing it registers ``cosine_log_snr`` and ``shifted_cosine`` with MONAI."""

from __future__ import annotations

from .noise_process import NoiseProcess
from .noise_schedules import (
    cosine_log_snr,
    cosine_log_snr_slope,
    shifted_cosine_log_snr,
    shifted_cosine_log_snr_slope,
)
from .parameterization import PREDICTION_TYPES, alpha_sigma, convert_prediction

__all__ = [
    "PREDICTION_TYPES",
    "NoiseProcess",
    "alpha_sigma",
    "convert_prediction",
    "cosine_log_snr",
    "cosine_log_snr_slope",
    "shifted_cosine_log_snr",
    "shifted_cosine_log_snr_slope",
]

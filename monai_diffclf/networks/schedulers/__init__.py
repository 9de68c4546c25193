# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Noise schedules, SDEs and processes; importing it registers ``cosine_log_snr`` and others with MONAI."""

from __future__ import annotations

from .noise_process import NoiseProcess
from .noise_schedules import (
    cosine_log_snr,
    cosine_log_snr_slope,
    linear_log_snr,
    shifted_cosine_log_snr,
    shifted_cosine_log_snr_slope,
)
from .parameterization import PREDICTION_TYPES, alpha_sigma, convert_prediction
from .rectified_flow_process import RectifiedFlowProcess
from .scheduler_sde import SchedulerSDE
from .sde import SDE, VESDE, VPSDE, SubVPSDE
from .sde_process import SDEProcess
from .table_process import TableProcess

__all__ = [
    "PREDICTION_TYPES",
    "SDE",
    "VESDE",
    "VPSDE",
    "NoiseProcess",
    "RectifiedFlowProcess",
    "SDEProcess",
    "SchedulerSDE",
    "SubVPSDE",
    "TableProcess",
    "alpha_sigma",
    "convert_prediction",
    "cosine_log_snr",
    "cosine_log_snr_slope",
    "linear_log_snr",
    "shifted_cosine_log_snr",
    "shifted_cosine_log_snr_slope",
]

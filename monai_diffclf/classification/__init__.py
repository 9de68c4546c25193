# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The maths of classification by denoising: torch only, no I/O, no engine, no network architecture."""

from __future__ import annotations

from .draws import NoiseDraws, image_keys
from .errors import DenoisingErrors
from .result import Classification
from .rules import classify_errors, count_votes, draw_weights, mean_errors, vote_uncertainty
from .stopping import CurtailedVote, StoppingRule

__all__ = [
    "Classification",
    "CurtailedVote",
    "DenoisingErrors",
    "NoiseDraws",
    "StoppingRule",
    "classify_errors",
    "count_votes",
    "draw_weights",
    "image_keys",
    "mean_errors",
    "vote_uncertainty",
]

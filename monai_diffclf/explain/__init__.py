# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Explanations from the errors of a diffusion classifier."""

from __future__ import annotations

from .counterfactual import CounterfactualGenerator
from .counterfactual_quality import (
    counterfactual_quality,
    energy_inside,
    flip_rate,
    frechet_distance,
    l1_distance,
    sparsity,
    structural_similarity,
)
from .counterfactual_result import Counterfactuals
from .error_maps import class_difference, decision_map, overlay, rival_class, smooth_map, upsample_map
from .map_quality import (
    FaithfulnessAUC,
    deletion_insertion,
    map_average_precision,
    map_iou,
    map_rank_correlation,
    pointing_game,
    randomise_weights,
)
from .masks import dilate_mask, mask_from_map
from .volume_views import mosaic_overlay, upright_volume

__all__ = [
    "CounterfactualGenerator",
    "Counterfactuals",
    "FaithfulnessAUC",
    "class_difference",
    "counterfactual_quality",
    "decision_map",
    "deletion_insertion",
    "dilate_mask",
    "energy_inside",
    "flip_rate",
    "frechet_distance",
    "l1_distance",
    "map_average_precision",
    "map_iou",
    "map_rank_correlation",
    "mask_from_map",
    "mosaic_overlay",
    "overlay",
    "pointing_game",
    "randomise_weights",
    "rival_class",
    "smooth_map",
    "sparsity",
    "structural_similarity",
    "upright_volume",
    "upsample_map",
]

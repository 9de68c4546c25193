# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Representations: pretrained encoders as latent spaces."""

from __future__ import annotations

from .adapt import AdaptedEncoder, adapt_encoder
from .cross_fit import cross_fitted_features
from .encoder import Encoder, Features
from .latent_dataset import LatentDataset
from .make_encoder import make_encoder
from .principal_components import PrincipalComponents
from .representation_space import RepresentationSpace
from .space_file import load_space, save_space

__all__ = [
    "AdaptedEncoder",
    "Encoder",
    "Features",
    "LatentDataset",
    "PrincipalComponents",
    "RepresentationSpace",
    "adapt_encoder",
    "cross_fitted_features",
    "load_space",
    "make_encoder",
    "save_space",
]

# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Representations: pretrained encoders as latent spaces."""

from __future__ import annotations

from .adapt import AdaptedEncoder, adapt_encoder
from .cross_fit import cross_fitted_features
from .encoder import Encoder, Features
from .given_autoencoder import given_autoencoder
from .latent_dataset import LatentDataset
from .make_encoder import make_encoder
from .prepare_space import prepare_space
from .principal_components import PrincipalComponents
from .representation_space import RepresentationSpace
from .retrieval import Retrieval, edit_latents
from .space_file import load_space, save_space
from .training_index import Neighbour, TrainingIndex, index_training_images, pooled_latents

__all__ = [
    "AdaptedEncoder",
    "Encoder",
    "Features",
    "LatentDataset",
    "Neighbour",
    "PrincipalComponents",
    "RepresentationSpace",
    "Retrieval",
    "TrainingIndex",
    "adapt_encoder",
    "cross_fitted_features",
    "edit_latents",
    "given_autoencoder",
    "index_training_images",
    "load_space",
    "make_encoder",
    "pooled_latents",
    "prepare_space",
    "save_space",
]

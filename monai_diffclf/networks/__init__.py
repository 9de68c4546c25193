# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Networks, their noise schedulers, and how a class reaches them."""

from __future__ import annotations

from .archived import import_generative
from .autoencoder_folder import load_autoencoder
from .autoencoder_space import AutoencoderSpace, latent_scaling
from .checkpoints import load_generative_checkpoint
from .class_use import check_uses_classes
from .conditioning import class_labels, make_conditioning, one_hot_context
from .denoiser import Denoiser
from .fast_inference import FastNetwork, fast_inference
from .findings import findings_embedding, make_findings_conditioning
from .latent_space import GivenLatents, LatentSpace, PixelSpace, maps_in_pixels
from .map_smoothing import default_smoothing, smooth_map
from .model_description import describe_model, describe_settings
from .precondition import precondition_network
from .published_dit import load_published_dit
from .retimed import RetimedNetwork
from .tuning import Trial, Tuning, tune_batch
from .value_description import NotDescribedError, value_hash
from .weight_files import load_weights, network_hash

__all__ = [
    "AutoencoderSpace",
    "Denoiser",
    "FastNetwork",
    "GivenLatents",
    "LatentSpace",
    "NotDescribedError",
    "PixelSpace",
    "RetimedNetwork",
    "Trial",
    "Tuning",
    "check_uses_classes",
    "class_labels",
    "default_smoothing",
    "describe_model",
    "describe_settings",
    "fast_inference",
    "findings_embedding",
    "import_generative",
    "latent_scaling",
    "load_autoencoder",
    "load_generative_checkpoint",
    "load_published_dit",
    "load_weights",
    "make_conditioning",
    "make_findings_conditioning",
    "maps_in_pixels",
    "network_hash",
    "one_hot_context",
    "precondition_network",
    "smooth_map",
    "tune_batch",
    "value_hash",
]

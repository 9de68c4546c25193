# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Networks that diffusion classifiers are made of."""

from __future__ import annotations

from .classifier_network import DiffusionClassifier
from .dit import DiT
from .score_unet import ScoreUNet
from .slice_network import SliceNetwork
from .sliding_window_network import SlidingWindowNetwork
from .tiny_autoencoder import TinyAutoencoder
from .wavelet_network import WaveletNetwork
from .wavelet_unet import WaveletDiffusionUNet

__all__ = [
    "DiT",
    "DiffusionClassifier",
    "ScoreUNet",
    "SliceNetwork",
    "SlidingWindowNetwork",
    "TinyAutoencoder",
    "WaveletDiffusionUNet",
    "WaveletNetwork",
]

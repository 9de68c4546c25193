# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Encoders by their names."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from torch import nn

from .._optional import require
from ..networks.weights_content import read_tensors
from .autoencoder_encoder import make_autoencoder_encoder
from .efficientnet_lite import EfficientNetLite0
from .encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder
from .exported import OnnxNetwork, file_hash, load_torchscript
from .named_layers import OUTPUT
from .transformer_folder import read_vision_folder

__all__ = ["make_encoder"]


def make_encoder(name: str, *, layers: Sequence[str] | None = None, **settings: Any) -> Encoder:
    """An encoder by its name.

    - ``"efficientnet_lite0"``: EfficientNet-Lite0, trained on ImageNet, from the packages of the extra ``encoders``.
      Layers: ``stem``, ``blocks.0`` to ``blocks.15`` and ``features``, the default.
    - ``"monai"``: ``network=``, any network of MONAI or torch with its weights, 2D or 3D. Layers by their names in
      ``network.named_modules()``; ``output`` by default.
    - ``"transformers:FOLDER"``: the image part of a model in a local folder: ViT, DINOv2 (RAD-DINO is one), CLIP,
      SigLIP, BiomedCLIP in open_clip's form, see :func:`read_vision_folder`; extra ``transformers``. The last tokens
      are ``output``, those of a block ``model.layers.5``, ``model.encoder.layer.5`` or the like.
    - ``"timm:NAME:FILE"``: a network of timm with the weights in a local file, which may be given as ``weights=`` as
      well; needs timm, and with it torchvision.
    - ``"torchscript:FILE"`` and ``"onnx:FILE"``: an exported network; the latter on the CPU, with the extra ``onnx``.
      Layers are its outputs: ``output``, ``output.NAME`` or ``output.1``. They say nothing of the scaling of images:
      give ``mean=`` and ``std=`` of images in [0, 1]; else they get images in [-1, 1].
    - ``"autoencoder:FOLDER"``: the latents of an autoencoder in a local folder, as
      :func:`monai_diffclf.networks.load_autoencoder` reads it; with its decoder the space leads back to images.

    Nothing is downloaded.

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
    kind, _, what = name.partition(":") if isinstance(name, str) else (name, "", "")
    if kind not in KINDS or bool(what) == (kind in ALONE):
        names = [each if each in ALONE else f"{each}:..." for each in KINDS]
        raise ValueError(f"encoder: expected one of {names}, got {name!r}")
    encoder = KINDS[kind](what, None if layers is None else list(layers), settings)
    encoder.source = {"name": name, "layers": list(encoder.layers), **settings}
    encoder.source.pop("network", None)
    return encoder


def _efficientnet_lite0(what: str, layers: list[str] | None, settings: dict[str, Any]) -> Encoder:
    own = dict(settings)
    network = EfficientNetLite0(pretrained=own.pop("pretrained", True)).eval()
    known = {"mean": network.mean, "std": network.std, "licence": network.licence}
    return Encoder(network, layers or ["features"], name="efficientnet_lite0", **{**known, **own})


def _autoencoder(folder: str, layers: list[str] | None, settings: dict[str, Any]) -> Encoder:
    if layers not in (None, [OUTPUT]):
        raise ValueError(f"layers: expected none, as the latents of an autoencoder are its output, got {layers}")
    return make_autoencoder_encoder(folder, settings)


def _monai(what: str, layers: list[str] | None, settings: dict[str, Any]) -> Encoder:
    own = dict(settings)
    network = own.pop("network", None)
    if not isinstance(network, nn.Module):
        raise ValueError(f"network: expected a network with its weights for the encoder monai, got {network!r}")
    return Encoder(network, layers or [OUTPUT], name=f"monai:{type(network).__name__}", **own)


def _transformers(folder: str, layers: list[str] | None, settings: dict[str, Any]) -> Encoder:
    found = read_vision_folder(folder)
    known = {"mean": found.mean, "std": found.std, "licence": found.licence, "image_size": found.image_size}
    return Encoder(found.network, layers or [OUTPUT], name=f"transformers:{found.kind}", **{**known, **settings})


def _timm(what: str, layers: list[str] | None, settings: dict[str, Any]) -> Encoder:
    name, _, file = what.partition(":")
    own = {"weights": file, **settings} if file else dict(settings)
    if "weights" not in own:
        raise ValueError(
            f"encoder: expected the file of its weights as well, timm:{name}:FILE, as nothing is downloaded, got "
            f"timm:{name}"
        )
    if not os.path.isfile(own["weights"]):
        raise ValueError(f"encoder: expected a file with the weights of {name}, but there is no {own['weights']}")
    for module in ("timm", "torchvision"):
        require(module, argument="encoder", purpose=f"timm:{name}", command="pip install timm")
    library: Any = import_module("timm")
    try:
        network = library.create_model(name, pretrained=False, num_classes=0, global_pool="")
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"encoder: expected the name of a network of timm, got {name!r}: {error}") from None
    try:
        found = read_tensors(own.pop("weights"))
    except ValueError as error:
        raise ValueError(f"encoder: {str(error).removeprefix('path: ')}") from None
    _load(network, {key: value for key, value in found.items() if key in network.state_dict()}, name)
    published = network.pretrained_cfg
    known = {
        "mean": tuple(published.get("mean", IMAGENET_MEAN)),
        "std": tuple(published.get("std", IMAGENET_STD)),
        "licence": published.get("license") or "unknown",
        "image_size": tuple(published["input_size"][1:]),
    }
    return Encoder(network.eval(), layers or [OUTPUT], name=f"timm:{name}", digest=name, **{**known, **own})


def _torchscript(file: str, layers: list[str] | None, settings: dict[str, Any]) -> Encoder:
    digest = file_hash(file, what="TorchScript")
    return Encoder(load_torchscript(file), _outputs(layers), name="torchscript", digest=digest, **settings)


def _onnx(file: str, layers: list[str] | None, settings: dict[str, Any]) -> Encoder:
    digest = file_hash(file, what="ONNX")
    return Encoder(OnnxNetwork(file), _outputs(layers), name="onnx", digest=digest, **settings)


def _outputs(layers: list[str] | None) -> list[str]:
    """Layers of an exported network, whose modules cannot be looked into."""
    if wrong := [name for name in layers or [] if name.split(".")[0] != OUTPUT]:
        raise ValueError(
            f"layers: expected {OUTPUT!r} or an entry of it, such as '{OUTPUT}.0', for an exported network, got {wrong}"
        )
    return layers or [OUTPUT]


def _load(network: nn.Module, tensors: dict[str, Any], name: str) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"encoder: expected the weights of {name}, got others: {str(error)[:200]}") from None


KINDS: dict[str, Callable[[str, list[str] | None, dict[str, Any]], Encoder]] = {
    "efficientnet_lite0": _efficientnet_lite0,
    "monai": _monai,
    "onnx": _onnx,
    "timm": _timm,
    "torchscript": _torchscript,
    "transformers": _transformers,
    "autoencoder": _autoencoder,
}
ALONE = ("efficientnet_lite0", "monai")

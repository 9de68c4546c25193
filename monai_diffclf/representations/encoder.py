# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""An encoder: a network of which some layers' feature maps represent an image."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import interpolate

from .._checks import check_floating, check_integer, check_scale
from .._text import out_of_memory
from ..networks.weight_files import network_hash
from .named_layers import check_layers, feature_maps, run_layers

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Encoder", "Features"]

# Brightness, contrast and interpolation may lead out of [-1, 1], to -2 and 2 or so; images of another scale, such as 0
# to 255 or Hounsfield units, lie much further out.
_ROOM = 9.0

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Features(NamedTuple):
    """What an encoder makes of images: maps [B, F, *grid] and one vector an image [B, V]."""

    maps: torch.Tensor
    vector: torch.Tensor


class Encoder(nn.Module):
    """Feature maps of one or more layers of a network, from images in [-1, 1].

    The images are normalised as the network expects; a grey image is repeated where it expects more channels. Maps of
    several layers are enlarged to the finest of them (linearly) and joined. The global vector is the class token of the
    last layer named, or the mean of the maps where it has none. The network is taken as it is: `RepresentationSpace`
    freezes it, training is left to whoever trains it.

    Args:
        network: from normalised images [B, C, *spatial] to whatever; its layers are what counts.
        layers: names of the network's modules, or ``"output"``, see :func:`run_layers`.
        name: what the encoder is called, such as ``"efficientnet_lite0"``.
        spatial_dims: 2 or 3.
        in_channels: channels that the network expects.
        mean: what it subtracts from images in [0, 1], one number or one a channel.
        std: what it divides them by then.
        licence: licence of the weights, as far as it is known.
        image_size: size of the images with which stride and channels are found out, one number or one an axis; None for
            64 in 2D and 32 in 3D. Others may be encoded too, if the network takes them.
        source: what `make_encoder` makes it of again.
        digest: hash of a file that holds the network, where its weights alone do not say what it computes.

    Raises:
        ValueError: when a layer does not exist or gives no feature maps, or another argument is out of range.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.ReLU(), nn.Conv2d(4, 8, 2, 2)).eval()
        >>> encoder = Encoder(network, ["1", "2"], name="tiny", image_size=16)
        >>> encoder.stride, encoder.channels, encoder(torch.zeros(1, 1, 16, 16)).shape
        (2, (4, 8), torch.Size([1, 12, 8, 8]))
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[str],
        *,
        name: str,
        spatial_dims: int = 2,
        in_channels: int = 3,
        mean: float | Sequence[float] = 0.5,
        std: float | Sequence[float] = 0.5,
        licence: str = "unknown",
        image_size: int | Sequence[int] | None = None,
        source: Mapping[str, Any] | None = None,
        digest: str = "",
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims: expected 2 or 3, got {spatial_dims!r}")
        in_channels = check_integer(in_channels, "in_channels")
        self.network, self.layers = network, check_layers(network, layers)
        self.name, self.licence, self.digest = name, licence, digest
        self.spatial_dims, self.in_channels = spatial_dims, in_channels
        self.source = dict(source or {})
        self.adapted: str | bool = False
        """False for weights as they were published, or what they were adapted on."""
        self.register_buffer("mean", _of_channels("mean", mean, self), persistent=False)
        self.register_buffer("std", _of_channels("std", std, self), persistent=False)
        given = (64 if spatial_dims == 2 else 32) if image_size is None else image_size
        self.image_size = _size(given, spatial_dims)
        features, self.channels = self._probe(self.image_size)
        self.vector_size = features.vector.shape[1]
        grid = features.maps.shape[2:]
        self._steps = steps = tuple(-(-length // cells) for length, cells in zip(self.image_size, grid, strict=True))
        self.stride: int | tuple[int, ...] = steps[0] if len(set(steps)) == 1 else steps
        """Size of a cell of the maps in image pixels."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Encoder:
        """A copy that can be trained: weights in the copy of a TorchScript network are no leaves, which that takes."""
        made = self.__class__.__new__(self.__class__)
        memo[id(self)] = made
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        for parameter in made.parameters():
            if not parameter.is_leaf:
                parameter.detach_().requires_grad_(True)
        return made

    @property
    def out_channels(self) -> int:
        """Channels of the joined maps, F."""
        return sum(self.channels)

    @property
    def version(self) -> str:
        """Sixteen hexadecimal digits that depend on the weights and on all that changes a feature."""
        settings = [self.name.partition(":")[0], self.layers, self.in_channels, self.mean.tolist(), self.std.tolist()]
        text = json.dumps([settings, self.digest, network_hash(self.network)])
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @property
    def trainable(self) -> bool:
        """Whether it has weights that could be trained; an ONNX file and a frozen TorchScript network have none."""
        return next(self.network.parameters(), None) is not None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Feature maps [B, F, *grid] of images [B, C, *spatial] in [-1, 1]. See `features`."""
        return self.features(images).maps

    def features(self, images: torch.Tensor) -> Features:
        """Feature maps and global vector of images [B, C, *spatial] in [-1, 1].

        Raises:
            TypeError: when the images are no floating point tensor.
            ValueError: when the images do not suit the network, or are not finite or of plainly another scale.
        """
        try:
            return self._features(images)[0]
        except RuntimeError as error:
            size = images.shape[2:]
            if out_of_memory(error) or all(length >= step for length, step in zip(size, self._steps, strict=True)):
                raise
            raise ValueError(
                f"images: expected a size of at least a cell, {list(self._steps)}, for the encoder {self.name}, got "
                f"{list(size)}: {str(error)[:200]}"
            ) from None

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """Cells of the maps along each axis for images of a spatial size; one blank image is encoded to know."""
        return tuple(self._probe(_size(size, self.spatial_dims))[0].maps.shape[2:])

    def check(self, images: torch.Tensor) -> torch.Tensor:
        """The images, where they are a batch that the encoder can take; their values are `normalize`'s to check.

        Raises:
            TypeError: when they are no floating point tensor.
            ValueError: when they have another number of axes or channels, or no pixels.
        """
        check_floating(images, "images", "[B, C, *spatial]", "values in [-1, 1]")
        axes = images.ndim == self.spatial_dims + 2
        if not axes or images.shape[1] not in (1, self.in_channels) or 0 in images.shape[2:]:
            channels = f"1 or {self.in_channels}" if self.in_channels > 1 else "1"
            raise ValueError(
                f"images: expected [B, C, *spatial] with {self.spatial_dims} spatial axes and {channels} channels for "
                f"the encoder {self.name}, got {list(images.shape)}"
            )
        return images

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, C, *spatial] in [-1, 1] as the network expects them.

        What augmentation leads out of [-1, 1] is taken; other scales, such as 0 to 255, are refused.

        Raises:
            TypeError: when they are no floating point tensor.
            ValueError: when they have another number of axes or channels, or values that are not finite or far outside.
        """
        check_scale(
            self.check(images),
            -1.0,
            1.0,
            room=_ROOM,
            reader="encoders take them",
            remedy="scale them, for example by MONAI's ScaleIntensityRange",
        )
        shape = (-1, *[1] * self.spatial_dims)
        # One multiplication and one addition an element.
        scale, shift = 0.5 / self.std, (0.5 - self.mean) / self.std
        return images * scale.view(shape).to(images) + shift.view(shape).to(images)

    def _features(self, images: torch.Tensor) -> tuple[Features, tuple[int, ...]]:
        size = images.shape[2:]
        outputs = run_layers(self.network, self.layers, self.normalize(images))
        found = [feature_maps(output, size, layer) for output, layer in zip(outputs, self.layers, strict=True)]
        maps, channels = _joined([each.maps for each in found]), tuple(each.maps.shape[1] for each in found)
        token = found[-1].token
        return Features(maps, maps.flatten(2).mean(2) if token is None else token), channels

    @torch.no_grad()
    def _probe(self, size: Sequence[int]) -> tuple[Features, tuple[int, ...]]:
        modes = [(module, module.training) for module in self.network.modules()]
        device = next((weight.device for weight in self.network.parameters()), self.mean.device)
        self.network.eval()  # a blank image must not move running means
        try:
            return self._features(torch.zeros(1, 1, *size, device=device))
        except (RuntimeError, AssertionError) as error:  # the latter of networks of timm
            if out_of_memory(error):
                raise
            raise ValueError(
                f"image_size: expected one that the encoder {self.name} takes, got {list(size)}: {str(error)[:200]}"
            ) from error
        finally:
            for module, training in modes:
                module.training = training


def _of_channels(name: str, value: float | Sequence[float], encoder: Encoder) -> torch.Tensor:
    """One number a channel, float32."""
    try:
        numbers = torch.as_tensor(value, dtype=torch.float32).flatten()
        fits = bool(torch.isfinite(numbers).all()) and (name != "std" or bool((numbers > 0).all()))
    except (TypeError, ValueError, RuntimeError):
        numbers, fits = torch.empty(0), False
    if len(numbers) not in (1, encoder.in_channels) or not fits:
        raise ValueError(
            f"{name}: expected one {'positive ' if name == 'std' else ''}number, or one for each of "
            f"{encoder.in_channels} channels, got {value!r}"
        )
    return numbers.expand(encoder.in_channels).clone()


def _size(image_size: Any, spatial_dims: int) -> tuple[int, ...]:
    """A number of pixels for each spatial axis."""
    several = isinstance(image_size, Sequence) and not isinstance(image_size, str)
    sides = list(image_size) if several else [image_size] * spatial_dims
    whole = all(isinstance(side, Integral) and not isinstance(side, bool) and int(side) > 0 for side in sides)
    if len(sides) != spatial_dims or not whole:
        raise ValueError(
            f"image_size: expected a positive integer, or one for each of {spatial_dims} axes, got {image_size!r}"
        )
    return tuple(map(int, sides))


def _joined(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Maps on grids of several sizes, enlarged to the finest and joined [B, F, *grid]."""
    if len(maps) == 1:
        return maps[0]
    grids = [tuple(each.shape[2:]) for each in maps]
    finest = tuple(max(grid[axis] for grid in grids) for axis in range(len(grids[0])))
    mode = "bilinear" if len(finest) == 2 else "trilinear"
    resized = [each if each.shape[2:] == finest else interpolate(each, finest, mode=mode) for each in maps]
    return torch.cat([each.to(resized[0].dtype) for each in resized], 1)

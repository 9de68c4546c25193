# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The latents of an autoencoder as a latent space: MONAI's, diffusers', or one of one's own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import nn

from .._checks import check_integer
from .latent_space import strides
from .weight_files import network_hash

__all__ = ["AutoencoderSpace", "latent_scaling"]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class AutoencoderSpace:
    """Latents z = (E(x) - shift) scaling of an autoencoder, and images D(z / scaling + shift).

    As in latent diffusion (Rombach et al. 2022, section 3 and appendix G): the scaling factor brings latents to about
    variance 1, which noise schedules expect. An image has one code here, so that its class does not change from call
    to call: of an autoencoder with a Gaussian posterior the mean, of a VQVAE the quantised code.

    The autoencoder is MONAI's `AutoencoderKL` or `VQVAE`, diffusers' `AutoencoderKL` or `AutoencoderTiny`,
    :class:`monai_diffclf.networks.nets.TinyAutoencoder`, or any module with ``encode`` and ``decode`` that give
    tensors. It is put into eval mode and gets no gradient. Images must be scaled as it was trained: those of diffusers
    in [-1, 1].

    Args:
        autoencoder: the autoencoder.
        scaling_factor: factor of the latents; None for that of the autoencoder's own configuration, else 1. See
            `latent_scaling` for one that has none yet.
        shift_factor: what is taken off the latents first; None for that of the configuration, else 0.
        channels: channels of the images; None for those that the autoencoder takes. With 1, where it takes 3, a grey
            image is repeated, and the three channels that are drawn are averaged.
        stride: size of a latent pixel in image pixels, one number or one an axis; None for the product of the strides
            of the encoder's convolutions.
        batch_size: images that are encoded or decoded at a time, which bounds memory.

    Raises:
        TypeError: when the autoencoder lacks ``encode`` or ``decode``.
        ValueError: when another argument is out of range.

    Example:
        >>> from monai_diffclf.networks.nets import TinyAutoencoder
        >>> space = AutoencoderSpace(TinyAutoencoder(4, features=8), scaling_factor=0.5, channels=1)
        >>> latents = space.encode(torch.rand(2, 1, 32, 32) * 2 - 1)
        >>> space.stride, latents.shape, space.decode(latents).shape
        (8, torch.Size([2, 4, 4, 4]), torch.Size([2, 1, 32, 32]))
    """

    stride: int | Sequence[int]

    def __init__(
        self,
        autoencoder: nn.Module,
        *,
        scaling_factor: float | None = None,
        shift_factor: float | None = None,
        channels: int | None = None,
        stride: int | Sequence[int] | None = None,
        batch_size: int = 4,
    ) -> None:
        missing = [name for name in ("encode", "decode") if not callable(getattr(autoencoder, name, None))]
        if missing or not isinstance(autoencoder, nn.Module):
            lacks = f" without {' and '.join(missing)}" if missing else ""
            raise TypeError(
                f"autoencoder: expected a network with encode and decode, got {type(autoencoder).__name__}{lacks}"
            )
        batch_size = check_integer(batch_size, "batch_size")
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.batch_size = batch_size
        self.scaling_factor = _factor("scaling_factor", scaling_factor, autoencoder, 1.0)
        self.shift_factor = _factor("shift_factor", shift_factor, autoencoder, 0.0)
        taken = _input_channels(autoencoder)
        if channels not in (None, taken) and not (channels == 1 and taken == 3):
            raise ValueError(
                f"channels: expected {taken}, which the autoencoder takes{', or 1' if taken == 3 else ''}, "
                f"got {channels!r}"
            )
        self.channels = taken if channels is None else channels
        self.stride = _conv_stride(autoencoder) if stride is None else stride
        self._repeats = 3 if self.channels == 1 and taken == 3 else 1

    @property
    def version(self) -> str:
        """Autoencoder, hash of its weights as they are now, and factors."""
        return (
            f"{type(self.autoencoder).__name__} {network_hash(self.autoencoder)}, scaling {self.scaling_factor:.9g}, "
            f"shift {self.shift_factor:.9g}" + (", grey" if self._repeats == 3 else "")
        )

    @torch.no_grad()
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Latents [B, c, *grid] of images [B, C, *spatial].

        Raises:
            ValueError: when the images have other channels, or a size that the stride does not divide.
        """
        steps = strides(self.stride, images.ndim - 2)
        if images.shape[1] != self.channels:
            raise ValueError(
                f"images: expected {self.channels} channel(s), which this latent space was made for, got "
                f"{list(images.shape)}; its argument channels says how many"
            )
        if any(length % step for length, step in zip(images.shape[2:], steps, strict=True)):
            raise ValueError(
                f"images: expected a size that the autoencoder's stride {list(steps)} divides, got "
                f"{list(images.shape[2:])}; crop, pad or resize the images"
            )
        grid = [length // step for length, step in zip(images.shape[2:], steps, strict=True)]
        wide = images.repeat_interleave(3, 1) if self._repeats == 3 else images
        codes = self._in_batches(_code, wide)
        if list(codes.shape[2:]) != grid:
            raise ValueError(
                f"stride: expected one that leads from an image {list(images.shape[2:])} to its latents "
                f"{list(codes.shape[2:])}, got {self.stride!r}; give it as an argument"
            )
        return (codes - self.shift_factor) * self.scaling_factor

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Images [B, C, *spatial] of latents [B, c, *grid]."""
        images = self._in_batches(_drawn, latents / self.scaling_factor + self.shift_factor)
        return images.mean(1, keepdim=True) if self._repeats == 3 else images

    def _in_batches(self, function: Any, tensor: torch.Tensor) -> torch.Tensor:
        """What a function of the autoencoder makes of some rows at a time, in the tensor's dtype and on its device."""
        weight = next(self.autoencoder.parameters(), tensor)
        parts = tensor.split(self.batch_size) if len(tensor) else [tensor]
        made = [function(self.autoencoder, part.to(weight.device, weight.dtype)).to(tensor) for part in parts]
        return made[0] if len(made) == 1 else torch.cat(made)


def latent_scaling(space: AutoencoderSpace, batches: Iterable[torch.Tensor]) -> float:
    """The scaling factor that gives the latents of some images standard deviation 1: 1 / std of the codes.

    For an autoencoder that comes without one (Rombach et al. 2022, appendix G; MONAI's tutorials). Take training
    images, some hundreds of them.

    Args:
        space: the latent space, whatever its own factors.
        batches: images [B, C, *spatial], batch by batch.

    Raises:
        ValueError: when there are no images, or all codes are equal.

    Example:
        >>> from monai_diffclf.networks.nets import TinyAutoencoder
        >>> network, images = TinyAutoencoder(4, features=8), torch.rand(8, 3, 32, 32)
        >>> scaling = latent_scaling(AutoencoderSpace(network), [images])
        >>> round(float(AutoencoderSpace(network, scaling_factor=scaling).encode(images).std(correction=0)), 4)
        1.0
    """
    count, total, squares = 0, 0.0, 0.0
    for batch in batches:
        codes = (space.encode(batch) / space.scaling_factor).double()
        count, total = count + codes.numel(), total + float(codes.sum())
        squares += float(codes.square().sum())
    variance = squares / count - (total / count) ** 2 if count else 0.0
    if not variance > 0:
        raise ValueError(f"batches: expected images with codes that differ, got {count} number(s) of variance 0")
    return 1 / math.sqrt(variance)


def _factor(name: str, given: float | None, autoencoder: nn.Module, default: float) -> float:
    """A factor as given, or of the autoencoder's configuration, as diffusers keeps it."""
    configured = getattr(getattr(autoencoder, "config", None), name, None)
    value = given if given is not None else default if configured is None else configured
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value!r}")
    if name == "scaling_factor" and value <= 0:
        raise ValueError(f"{name}: expected a positive number, got {value!r}")
    return float(value)


def _input_channels(autoencoder: nn.Module) -> int:
    """Channels of the images that an autoencoder takes: those of its first convolution."""
    first = next((each for each in _encoder(autoencoder).modules() if isinstance(each, CONVOLUTIONS)), None)
    if first is None:
        raise ValueError(
            f"autoencoder: expected one whose encoder has convolutions, got {type(autoencoder).__name__}; a "
            "LatentSpace of your own is a class with encode, decode, stride and version"
        )
    return int(first.in_channels)


def _encoder(autoencoder: nn.Module) -> nn.Module:
    encoder = getattr(autoencoder, "encoder", None)
    return encoder if isinstance(encoder, nn.Module) else autoencoder


def _conv_stride(autoencoder: nn.Module) -> int | tuple[int, ...]:
    """Product of the strides of the encoder's convolutions; what was guessed wrong is refused at the first image."""
    layers = [each for each in _encoder(autoencoder).modules() if isinstance(each, CONVOLUTIONS)]
    axes = [math.prod(int(each.stride[axis]) for each in layers) for axis in range(len(layers[0].stride))]
    return axes[0] if len(set(axes)) == 1 else tuple(axes)


def _code(autoencoder: Any, images: torch.Tensor) -> torch.Tensor:
    """The code of images, whatever form the autoencoder gives it in."""
    if callable(getattr(autoencoder, "quantize", None)) and hasattr(autoencoder, "encode_stage_2_inputs"):
        return cast(torch.Tensor, autoencoder.encode_stage_2_inputs(images))  # MONAI's VQVAE
    made = autoencoder.encode(images)
    if hasattr(made, "latent_dist"):
        return cast(torch.Tensor, made.latent_dist.mode())  # diffusers' AutoencoderKL
    if hasattr(made, "latents"):
        return cast(torch.Tensor, made.latents)  # diffusers' AutoencoderTiny
    return cast(torch.Tensor, made[0] if isinstance(made, tuple) else made)  # MONAI's AutoencoderKL: mean and deviation


def _drawn(autoencoder: Any, codes: torch.Tensor) -> torch.Tensor:
    """Images of codes; a VQVAE's are quantised anew, as latents that were denoised lie between its codes."""
    draw = getattr(autoencoder, "decode_stage_2_outputs", autoencoder.decode)
    made = draw(codes)
    return cast(torch.Tensor, made if isinstance(made, torch.Tensor) else made.sample)

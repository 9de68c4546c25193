# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The space in which a diffusion model works: the image's own pixels, or what an encoder makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast, runtime_checkable

import torch

__all__ = [
    "GivenLatents",
    "LatentSpace",
    "PixelSpace",
    "check_latent_space",
    "decode",
    "encode",
    "maps_in_pixels",
    "mask_in_latents",
    "spread_map",
]


@runtime_checkable
class LatentSpace(Protocol):
    """From images to latents, and back where there is a way back.

    Noise, errors and the arithmetic of maps live in the latent space; an image is encoded once, whatever the number of
    draws. The noise of an image is keyed by its pixels: an encoder's rounding may depend on the batch. A space that can
    draw images also has ``decode(latents) -> images``; sampling and counterfactuals need it, classification and maps do
    not. Latents may be tokens [B, c, T], on one axis whatever the image's; such a space has
    ``spread(maps [..., T], size) -> [..., *size]``, which lays maps over tokens on the image and keeps their sum.
    """

    @property
    def stride(self) -> int | Sequence[int]:
        """Size of a latent pixel in image pixels, one number or one an axis."""
        ...

    @property
    def version(self) -> str:
        """What tells this space from another in stored results, such as a hash of the encoder's weights."""
        ...

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Latents [B, c, *grid], or tokens [B, c, T], of images [B, C, *spatial]."""
        ...


class PixelSpace:
    """The image itself: nothing is encoded.

    Example:
        >>> images = torch.rand(2, 1, 4, 4)
        >>> PixelSpace().encode(images) is images, PixelSpace().version
        (True, 'pixels')
    """

    stride: int | Sequence[int] = 1
    version: str = "pixels"

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """The images."""
        return images

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """The latents."""
        return latents


class GivenLatents(PixelSpace):
    """Latents in the place of images, encoded beforehand: [B, c, *grid] or tokens [B, c, T] are taken as they are.

    For data that hold latents, such as a `LatentDataset`. Noise is then keyed by the latents, and maps stay
    over latents.

    Args:
        version: version of the space that they are in.

    Example:
        >>> GivenLatents("blocks of two").encode(torch.zeros(1, 4, 50)).shape
        torch.Size([1, 4, 50])
    """

    def __init__(self, version: str = "latents") -> None:
        self.version = version


def check_latent_space(space: LatentSpace | None) -> LatentSpace:
    """The latent space, pixels for None.

    Raises:
        TypeError: when it lacks ``encode``, ``stride`` or ``version``.
        ValueError: when a stride is not a positive integer.
    """
    if space is None:
        return PixelSpace()
    # Of a property its class is asked: a version may be a hash of many weights.
    missing = [name for name in ("encode", "stride", "version") if not hasattr(type(space), name)]
    missing = [name for name in missing if not hasattr(space, name)]
    if missing or not callable(space.encode):
        raise TypeError(
            f"latent_space: expected a LatentSpace with encode, stride and version, got {type(space).__name__}"
            + (f" without {', '.join(missing)}" if missing else "")
        )
    steps = list(space.stride) if isinstance(space.stride, Sequence) else [space.stride]
    if not steps or any(isinstance(step, bool) or not isinstance(step, int) or step < 1 for step in steps):
        raise ValueError(f"latent_space: expected a stride of positive integers, got {space.stride!r}")
    return space


@torch.no_grad()
def encode(space: LatentSpace, images: torch.Tensor) -> torch.Tensor:
    """Latents [B, c, *grid] or tokens [B, c, T] of images [B, C, *spatial], without a graph.

    An autocast around it is switched off: ``version`` names one encoder, in one precision.

    Raises:
        TypeError: when the encoder gives no floating point tensor.
        ValueError: when its shape does not fit or values are not finite.
    """
    if isinstance(space, PixelSpace):
        return images
    with torch.autocast(images.device.type, enabled=False):
        latents = space.encode(images)
    if not isinstance(latents, torch.Tensor) or not latents.is_floating_point():
        got = latents.dtype if isinstance(latents, torch.Tensor) else type(latents).__name__
        raise TypeError(f"latent_space: expected floating point latents from encode, got {got}")
    axes = latents.ndim in (images.ndim, 3 if has_tokens(space) else images.ndim)
    if not axes or len(latents) != len(images) or 0 in latents.shape[1:]:
        raise ValueError(
            f"latent_space: expected latents [{len(images)}, c, *grid] with {images.ndim - 2} spatial axes from "
            f"encode, got {list(latents.shape)}" + ("" if has_tokens(space) else "; tokens need a space with spread")
        )
    strides(space.stride, images.ndim - 2)
    if not bool(torch.isfinite(latents).all()):
        bad = (~torch.isfinite(latents)).flatten(1).any(1).nonzero().flatten().tolist()
        raise ValueError(f"latent_space: expected finite latents, got NaN or infinity for image(s) {bad[:10]}")
    return latents.detach().to(images.dtype)


@torch.no_grad()
def decode(space: LatentSpace, latents: torch.Tensor, *, purpose: str) -> torch.Tensor:
    """Images [B, C, *spatial] of latents [B, c, *grid], without a graph.

    Args:
        space: the latent space.
        latents: the latents.
        purpose: what needs the images, for the message.

    Raises:
        ValueError: when the space cannot draw images.
    """
    check_decodes(space, purpose)
    with torch.autocast(latents.device.type, enabled=False):
        return cast(torch.Tensor, space.decode(latents))  # type: ignore[attr-defined]


def check_decodes(space: LatentSpace, purpose: str) -> None:
    """Refuse a space without ``decode`` where images are to be drawn.

    Raises:
        ValueError: when it has none.
    """
    if not callable(getattr(space, "decode", None)):
        raise ValueError(
            f"latent_space: expected one with decode, which {purpose} need, got {type(space).__name__} (version "
            f"{space.version!r}), which encodes only; for {purpose} of a representation look at the nearest training "
            "images instead: monai_diffclf.representations.Retrieval"
        )


def has_tokens(space: LatentSpace) -> bool:
    """Whether latents of a space may be tokens [B, c, T], which it can lay on the image itself."""
    return callable(getattr(space, "spread", None))


def maps_in_pixels(space: LatentSpace, maps: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Maps over latents, or over tokens, in image pixels [..., *size]; the sum of a map is kept.

    By the space's own ``spread``, or the footprint of each latent pixel, see `spread_map`. Maps over `GivenLatents`,
    which know no image, are left as they are.

    Args:
        space: the latent space.
        maps: maps [..., *grid] or [..., T].
        size: the image's spatial size.

    Raises:
        ValueError: when the maps do not fit the image.

    Example:
        >>> maps_in_pixels(PixelSpace(), torch.ones(2, 4, 4), (4, 4)).shape
        torch.Size([2, 4, 4])
    """
    if isinstance(space, GivenLatents):
        return maps
    if not has_tokens(space):
        return spread_map(maps, space.stride, size)
    spread = cast(torch.Tensor, space.spread(maps, size))  # type: ignore[attr-defined]
    if tuple(spread.shape[spread.ndim - len(size) :]) != tuple(size):
        raise ValueError(f"latent_space: expected maps of the image's size {list(size)}, got {list(spread.shape)}")
    return spread


def strides(stride: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """The stride along each of some spatial axes.

    Raises:
        ValueError: when there are not as many.
    """
    steps = (stride,) * axes if isinstance(stride, int) else tuple(stride)
    if len(steps) != axes:
        raise ValueError(f"latent_space: expected a stride for each of {axes} spatial axes, got {list(steps)}")
    return steps


def spread_map(maps: torch.Tensor, stride: int | Sequence[int], size: Sequence[int]) -> torch.Tensor:
    """Maps over latent pixels, in image pixels, each latent pixel's value shared out evenly over its footprint.

    Latent pixel i covers the image pixels i s to (i + 1) s - 1 along an axis with stride s, cut at the image's border;
    the sum of a map is kept. Pixels that no latent pixel covers get 0.

    Args:
        maps: maps [..., *grid].
        stride: stride of the latent space.
        size: the image's spatial size.

    Raises:
        ValueError: when a latent pixel lies outside the image altogether.

    Example:
        >>> spread = spread_map(torch.tensor([[4.0, 8.0]]), (1, 2), (1, 4))
        >>> spread.tolist(), float(spread.sum())
        ([[2.0, 2.0, 4.0, 4.0]], 12.0)
    """
    axes = len(size)
    grid, steps = maps.shape[maps.ndim - axes :], strides(stride, axes)
    if tuple(grid) == tuple(size) and set(steps) == {1}:
        return maps
    for axis, (cells, step, pixels) in enumerate(zip(grid, steps, size, strict=True), start=maps.ndim - axes):
        if (cells - 1) * step >= pixels:
            raise ValueError(
                f"latent_space: expected every latent pixel inside the image, {list(size)} pixels; got a grid "
                f"{list(grid)} of stride {list(steps)}"
            )
        cell = torch.arange(pixels, device=maps.device) // step
        share = torch.bincount(cell, minlength=cells)[:cells].to(maps)
        shared = maps / share.reshape(-1, *[1] * (maps.ndim - 1 - axis))
        maps = shared.index_select(axis, cell.clamp(max=cells - 1))
        if cells * step < pixels:
            maps = maps * (cell < cells).to(maps).reshape(-1, *[1] * (maps.ndim - 1 - axis))
    return maps


def mask_in_latents(mask: torch.Tensor, stride: int | Sequence[int], grid: Sequence[int]) -> torch.Tensor:
    """A mask over image pixels [B, 1, *spatial], over latent pixels [B, 1, *grid]: the largest value of each footprint.

    Example:
        >>> mask_in_latents(torch.tensor([[[0.0, 1.0, 0.0, 0.0, 0.5]]]), 2, (3,)).tolist()
        [[[1.0, 0.0, 0.5]]]
    """
    for axis, (step, cells) in enumerate(zip(strides(stride, mask.ndim - 2), grid, strict=True), start=2):
        if step == 1 and mask.shape[axis] == cells:
            continue
        cell = (torch.arange(mask.shape[axis], device=mask.device) // step).clamp(max=cells - 1)
        shape = [*mask.shape[:axis], cells, *mask.shape[axis + 1 :]]
        index = cell.reshape(-1, *[1] * (mask.ndim - 1 - axis)).expand_as(mask)
        mask = mask.new_zeros(shape).scatter_reduce(axis, index, mask, "amax")
    return mask

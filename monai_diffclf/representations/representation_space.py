# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A latent space made of the principal components of a pretrained encoder's feature maps."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import product
from typing import Any

import torch
from monai.utils import CommonKeys
from torch import nn
from tqdm import tqdm

from .._checks import check_integer, plain_tensor
from ..networks.latent_space import spread_map, strides
from .encoder import Encoder, Features
from .principal_components import PrincipalComponents

__all__ = ["RepresentationSpace"]

AMP_DTYPES = (None, torch.bfloat16, torch.float16)


def check_precision(amp_dtype: torch.dtype | str | None) -> torch.dtype | None:
    """A reduced precision to encode in, from its name too; None for float32.

    Raises:
        ValueError: for another.
    """
    found = getattr(torch, amp_dtype, amp_dtype) if isinstance(amp_dtype, str) else amp_dtype
    if found not in AMP_DTYPES:
        raise ValueError(f"amp_dtype: expected None, 'bfloat16' or 'float16', got {amp_dtype!r}")
    return found if isinstance(found, torch.dtype) else None


class RepresentationSpace(nn.Module):
    """The latent space of an encoder: principal components of its feature maps, and of its global vector if asked for.

    Latents are [B, D, *grid], or with a global token [B, D, 1 + cells], the global token first and the cells in the
    order of the pixels. There is no way back to images: samples and counterfactuals are refused. The encoder is frozen:
    it is put into eval mode, its weights take no gradient, and it stays so. It goes to the device of the images.
    Latents are float32 and those of ``amp_dtype``, whatever autocast it is called in: else one version would stand for
    several.

    Args:
        encoder: the encoder.
        num_components: principal components of each cell, D.
        whitening: exponent w in [0, 1], see `PrincipalComponents`.
        global_token: put components of the global vector before those of the cells.
        amp_dtype: ``torch.bfloat16`` or ``torch.float16`` runs the encoder in automatic mixed precision. It changes
            latents by some hundredths of their spread, and so belongs to the version.
        batch_size: images that are encoded at a time; bounds memory.

    Raises:
        TypeError: when ``encoder`` is none.
        ValueError: when another argument is out of range.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> encoder = Encoder(nn.Conv2d(3, 8, 4, 4), ["output"], name="tiny", image_size=16)
        >>> space = RepresentationSpace(encoder, num_components=2, global_token=True)
        >>> space = space.fit([torch.rand(20, 3, 16, 16, generator=generator) * 2 - 1])
        >>> space.encode(torch.zeros(5, 3, 16, 16)).shape, space.stride, space.grid, len(space.version)
        (torch.Size([5, 2, 17]), 4, (4, 4), 16)
    """

    def __init__(
        self,
        encoder: Encoder,
        num_components: int = 64,
        *,
        whitening: float = 0.0,
        global_token: bool = False,
        amp_dtype: torch.dtype | None = None,
        batch_size: int = 32,
    ) -> None:
        super().__init__()
        if not isinstance(encoder, Encoder):
            raise TypeError(f"encoder: expected an Encoder, see make_encoder, got {type(encoder).__name__}")
        if amp_dtype not in AMP_DTYPES:
            raise ValueError(f"amp_dtype: expected None, torch.bfloat16 or torch.float16, got {amp_dtype!r}")
        batch_size = check_integer(batch_size, "batch_size")
        self.encoder = encoder.requires_grad_(False).eval()
        self.global_token, self.amp_dtype, self.batch_size = bool(global_token), amp_dtype, batch_size
        self.components = PrincipalComponents(
            encoder.out_channels, num_components, whitening=whitening, groups=encoder.channels
        )
        self.global_components = (
            PrincipalComponents(encoder.vector_size, num_components, whitening=whitening) if global_token else None
        )
        self.num_components, self.whitening = int(num_components), float(whitening)  # NumPy's are no JSON values
        self.image_size: tuple[int, ...] = encoder.image_size
        """Spatial size of the images that the space was fitted to."""
        if encoder.spatial_dims == 2:
            encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().train(False)

    @property
    def stride(self) -> int | tuple[int, ...]:
        """Size of a cell in image pixels."""
        return self.encoder.stride

    @property
    def grid(self) -> tuple[int, ...]:
        """Cells along each axis for images of `image_size`."""
        return self.encoder.grid(self.image_size)

    @property
    def adapted(self) -> str | bool:
        """False where the encoder's weights are as published, or what they were adapted on."""
        return self.encoder.adapted

    @property
    def fitted(self) -> bool:
        """Whether there are principal components."""
        parts = [self.components] if self.global_components is None else [self.components, self.global_components]
        return all(part.fitted for part in parts)

    @property
    def version(self) -> str:
        """Sixteen hexadecimal digits that depend on the encoder, the components and the settings, as they are now.

        Whoever else holds the network may have trained it, so that its weights are looked at each time: a second a GB.

        Raises:
            ValueError: when the space is not fitted.
        """
        self._check_fitted()
        settings = [self.encoder.version, self.whitening, self.global_token, str(self.amp_dtype)]
        digest = hashlib.blake2b(json.dumps(settings).encode(), digest_size=8)
        for name, value in self.component_tensors().items():
            digest.update(f"{name} {tuple(value.shape)}".encode())
            digest.update(value.numpy().tobytes())
        return digest.hexdigest()

    def latent_shape(self, size: Sequence[int] | None = None) -> tuple[int, ...]:
        """Shape of an image's latents, (D, *grid) or (D, T), for a spatial size; None for `image_size`."""
        grid = self.encoder.grid(self.image_size if size is None else size)
        return (self.num_components, *((1 + math.prod(grid),) if self.global_token else grid))

    def train(self, mode: bool = True) -> RepresentationSpace:
        """Nothing: what is frozen stays in eval mode."""
        return self

    @torch.no_grad()
    def fit(self, batches: Iterable[Any], *, progress: bool = False) -> RepresentationSpace:
        """Find the principal components of the features of training images, in one pass.

        Args:
            batches: batches of images [B, C, *spatial] in [-1, 1], or dictionaries with them as ``"image"``, such as a
                data loader gives.
            progress: show a progress bar.

        Raises:
            TypeError: when the images are no floating point numbers.
            ValueError: when there are too few images, they are of several sizes, or their values are not finite or of
                plainly another scale than [-1, 1].
        """
        size: tuple[int, ...] | None = None
        parts = [self.components] if self.global_components is None else [self.components, self.global_components]
        for part in parts:
            part.forget()
        for batch in tqdm(batches, desc="principal components", unit="batch", disable=not progress):
            if isinstance(batch, Mapping) and CommonKeys.IMAGE not in batch:
                raise ValueError(f"batches: expected images as 'image', got a dictionary of {sorted(map(str, batch))}")
            images = batch[CommonKeys.IMAGE] if isinstance(batch, Mapping) else batch
            images = self.encoder.check(plain_tensor(torch.as_tensor(images)))
            if size is not None and tuple(images.shape[2:]) != size:
                raise ValueError(
                    f"batches: expected images of one size, got {list(images.shape[2:])} after {list(size)}"
                )
            size = tuple(images.shape[2:])
            for some in images.split(self.batch_size):
                features = self._features(some)
                self.components.add(features.maps.flatten(2).transpose(1, 2).flatten(0, 1))
                if self.global_components is not None:
                    self.global_components.add(features.vector)
        for part in parts:
            part.fit()
        self.image_size = size or self.image_size
        return self

    @torch.no_grad()
    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Latents [B, D, *grid] or tokens [B, D, T] of images [B, C, *spatial] in [-1, 1], on their device, float32.

        Raises:
            TypeError: when the images are no floating point tensor.
            ValueError: when the space is not fitted, or the images do not suit the encoder or are not finite or of
                plainly another scale.
        """
        self._check_fitted()
        images = plain_tensor(self.encoder.check(images))
        parts = [self._encode(part) for part in images.split(self.batch_size)] if len(images) else []
        shape = (0, *self.latent_shape(images.shape[2:])) if not parts else ()
        return torch.cat(parts) if parts else torch.zeros(shape, device=images.device)

    def in_precision(self, amp_dtype: torch.dtype) -> RepresentationSpace:
        """The same encoder and components, encoding in another precision: a space of another version."""
        other = copy.copy(self)
        other.amp_dtype = check_precision(amp_dtype)
        return other

    def spread(self, maps: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        """Maps over cells [..., *grid], or over tokens [..., T], in image pixels [..., *size], with their sum kept.

        A cell is shared out over its footprint, the global token over the whole image.

        Raises:
            ValueError: when the maps do not fit the image.
        """
        if not self.global_token:
            return spread_map(maps, self.stride, size)
        grid = self._grid_of(maps.shape[-1] - 1, size)
        cells = spread_map(maps[..., 1:].unflatten(-1, grid), self.stride, size)
        share = (maps[..., 0] / math.prod(size)).reshape(*maps.shape[:-1], *[1] * len(size))
        return cells + share

    def component_tensors(self) -> dict[str, torch.Tensor]:
        """What was fitted, by name, on the CPU."""
        names = ("components", "global_components")
        parts = {name: part for name in names if (part := getattr(self, name)) is not None}
        return {
            f"{name}.{key}": value.detach().cpu().contiguous()
            for name, part in parts.items()
            for key, value in sorted(part.state_dict().items())
        }

    def _check_fitted(self) -> None:
        if not self.fitted:
            raise ValueError("latent_space: expected a representation with principal components, call fit() first")

    def _features(self, images: torch.Tensor) -> Features:
        """Features of images, float32; the encoder follows them to their device."""
        if self.components.weight.device != images.device:
            self.to(images.device)
        self._check_float32()
        self.encoder.eval()  # whoever else holds it may have trained it
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        with self._autocast(images.device):
            maps, vector = self.encoder.features(images.float())
        return Features(maps.float(), vector.float())

    def _check_float32(self) -> None:
        """Refuse what ``half()`` or the like has made of the space."""
        reduced = self.components.weight.dtype
        if self.amp_dtype is None and reduced == torch.float32:
            weights = (each.dtype for each in self.encoder.parameters() if each.is_floating_point())
            reduced = next((dtype for dtype in weights if dtype != torch.float32), reduced)
        if reduced != torch.float32:
            raise ValueError(
                f"latent_space: expected weights in float32, got {reduced}; call float(), amp_dtype=torch.float16 or "
                "torch.bfloat16 encodes in reduced precision"
            )

    def _autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Its own precision, whatever that around it."""
        return torch.autocast(device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None)

    def _encode(self, images: torch.Tensor) -> torch.Tensor:
        features = self._features(images)
        with torch.autocast(images.device.type, enabled=False):
            cells: torch.Tensor = self.components(features.maps.movedim(1, -1)).movedim(-1, 1)
            if self.global_components is None:
                return cells.contiguous()
            token = self.global_components(features.vector)[..., None]
        return torch.cat([token, cells.flatten(2)], 2)

    def _grid_of(self, cells: int, size: Sequence[int]) -> tuple[int, ...]:
        """The grid of so many cells on an image: encoders round its size up or down."""
        steps = strides(self.stride, len(size))
        choices = product(*[(length // step, -(-length // step)) for length, step in zip(size, steps, strict=True)])
        for grid in choices:
            if math.prod(grid) == cells:
                return grid
        raise ValueError(
            f"latent_space: expected maps over a global token and the cells of an image of {list(size)} pixels at "
            f"stride {self.stride}, got {cells + 1} tokens"
        )

# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Encode images once, before training, and keep their latents on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform

from .._checks import plain_tensor
from ..networks.latent_space import LatentSpace, check_latent_space, encode

__all__ = ["EncodeLatents", "EncodeLatentsD", "EncodeLatentsDict", "EncodeLatentsd", "latent_hash"]


class EncodeLatents(Transform):
    """An image [C, *spatial] to its latents [c, *grid], on the image's device.

    The transform is not random: after it, MONAI's `CacheDataset` keeps latents in memory and its `PersistentDataset` on
    disk, so that an image is encoded once and not once an epoch. Random transforms that come later act on the latents;
    those of images belong before, and then nothing can be kept: give ``latent_space`` to `DenoisingPrepareBatch`.

    Args:
        latent_space: the latent space.

    Raises:
        TypeError: when ``latent_space`` is none.

    Example:
        >>> from monai_diffclf.networks import PixelSpace
        >>> EncodeLatents(PixelSpace())(torch.zeros(1, 4, 4)).shape
        torch.Size([1, 4, 4])
    """

    def __init__(self, latent_space: LatentSpace) -> None:
        self.latent_space = check_latent_space(latent_space)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """The latents."""
        return encode(self.latent_space, plain_tensor(torch.as_tensor(image)).float()[None])[0]


class EncodeLatentsd(MapTransform):
    """Dictionary form of `EncodeLatents`, for the disk with MONAI's `PersistentDataset`.

    ``PersistentDataset(items, transform, cache_dir=..., hash_transform=latent_hash)`` keeps the latents of each space
    apart.

    Args:
        keys: keys of the images.
        latent_space: the latent space.
        allow_missing_keys: leave out a key that the item lacks instead of raising.
    """

    def __init__(self, keys: KeysCollection, latent_space: LatentSpace, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = EncodeLatents(latent_space)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with latents in place of its images."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.transform(item[key])
        return item


def latent_hash(transforms: Sequence[Any]) -> bytes:
    """A name for some transforms that tells one latent space from another, for `PersistentDataset`'s hash_transform.

    Args:
        transforms: the transforms before the first random one.

    Example:
        >>> from monai_diffclf.networks import PixelSpace
        >>> class Other(PixelSpace):
        ...     version = "another"
        >>> latent_hash([EncodeLatentsd("image", PixelSpace())]) == latent_hash([EncodeLatentsd("image", Other())])
        False
    """
    digest = hashlib.blake2b(digest_size=8)
    for transform in transforms:
        digest.update(type(transform).__name__.encode())
        inner = getattr(transform, "transform", transform)
        if isinstance(inner, EncodeLatents):
            digest.update(inner.latent_space.version.encode())
    return digest.hexdigest().encode()


EncodeLatentsD = EncodeLatentsDict = EncodeLatentsd

# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Features of training images from encoders that were not fitted to them, in the basis of the encoder that was."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable
from sklearn.model_selection import StratifiedGroupKFold
from torch.utils.data import Dataset

from .._checks import check_integer
from .._patients import known_patient
from ..networks.latent_space import LatentSpace, check_latent_space, encode, has_tokens
from .latent_dataset import LatentDataset

__all__ = ["AlignedSpace", "CrossFittedDataset", "align_space", "cross_fitted_features", "split_folds"]


class AlignedSpace:
    """A latent space turned into the basis of another: latents R z + b, cell by cell.

    Args:
        space: the space that is turned.
        rotations: orthogonal matrices R [P, D, D]: one, or one for the global token (first) and one for the cells.
        shifts: b [P, D].
        explained: share of the other space's variance that the turned latents had on the images they were aligned on.
    """

    def __init__(self, space: LatentSpace, rotations: torch.Tensor, shifts: torch.Tensor, explained: float) -> None:
        self.space, self.rotations, self.shifts, self.explained = space, rotations, shifts, explained
        self.stride = space.stride
        if has_tokens(space):
            self.spread = space.spread  # type: ignore[attr-defined]

    @property
    def version(self) -> str:
        """Sixteen hexadecimal digits that depend on the space and on how it is turned."""
        digest = hashlib.blake2b(self.space.version.encode(), digest_size=8)
        digest.update(self.rotations.numpy().tobytes() + self.shifts.numpy().tobytes())
        return digest.hexdigest()

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Turned latents of images."""
        latents = encode(self.space, images)
        parts = [
            rotation.to(latents) @ part + shift.to(latents)[:, None]
            for rotation, shift, part in zip(self.rotations, self.shifts, _parts(self.space, latents), strict=True)
        ]
        return torch.cat(parts, dim=2).reshape(latents.shape)


def align_space(space: LatentSpace, reference: LatentSpace, batches: Iterable[torch.Tensor]) -> AlignedSpace:
    """Turn a space so that its latents of some images come as close as can be to those of a reference.

    Orthogonal Procrustes (Schoenemann, Psychometrika 1966): with X and Y the centred latents of all cells in the space
    and in the reference, and X^T Y = U S V^T, the rotation is R = V U^T. A rotation keeps lengths, where a regression
    would shrink what it cannot predict, and so give the training images another spread than the images to classify.

    Args:
        space: the space, with as many components as the reference.
        reference: the space whose basis is wanted.
        batches: images [B, C, *spatial] that both were fitted to.

    Raises:
        ValueError: when the shapes of their latents differ, or there is no image.

    Example:
        >>> from monai_diffclf.networks import PixelSpace
        >>> class Turned:
        ...     stride, version = 1, "turned"
        ...     def encode(self, images):
        ...         return images.flip(1) + 1
        >>> images = torch.randn(9, 2, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> aligned = align_space(PixelSpace(), Turned(), [images])
        >>> aligned.rotations[0].round().int().tolist(), aligned.shifts[0].round().tolist(), aligned.explained
        ([[0, 1], [1, 0]], [1.0, 1.0], 1.0)
    """
    sums: list[_Moments] = []
    for images in batches:
        own, other = encode(space, images), encode(reference, images)
        if own.shape != other.shape:
            raise ValueError(
                f"space: expected latents of the reference's shape {list(other.shape[1:])}, got {list(own.shape[1:])}"
            )
        pairs = list(zip(_parts(space, own), _parts(reference, other), strict=True))
        sums = sums or [_Moments(own.shape[1]) for _ in pairs]
        for moments, (x, y) in zip(sums, pairs, strict=True):
            moments.add(x, y)
    if not sums:
        raise ValueError("batches: expected images to align two spaces on, got none")
    found = [moments.solve() for moments in sums]
    rest, total = (sum(moments[name] for moments in found) for name in ("rest", "total"))
    return AlignedSpace(
        space,
        torch.stack([each["rotation"] for each in found]),
        torch.stack([each["shift"] for each in found]),
        round(1 - float(rest / total), 6),
    )


class _Moments:
    """Sums of pairs of latents, from which the rotation follows."""

    def __init__(self, size: int) -> None:
        self.count, self.x, self.y = 0, torch.zeros(size).double(), torch.zeros(size).double()
        self.xx, self.yy, self.xy = 0.0, 0.0, torch.zeros(size, size).double()

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Latents [B, D, T] of both spaces."""
        x, y = (part.cpu().double().transpose(1, 2).flatten(0, 1) for part in (x, y))
        self.count, self.x, self.y = self.count + len(x), self.x + x.sum(0), self.y + y.sum(0)
        self.xx, self.yy = self.xx + float(x.square().sum()), self.yy + float(y.square().sum())
        self.xy += x.T @ y

    def solve(self) -> dict[str, torch.Tensor]:
        """Rotation, shift, and the squared distance that they leave, beside that of the reference from its mean."""
        mean_x, mean_y = self.x / self.count, self.y / self.count
        u, singular, vh = torch.linalg.svd(self.xy - self.count * torch.outer(mean_x, mean_y))
        rotation = (u @ vh).T
        total_x = self.xx - self.count * mean_x.square().sum()
        total = self.yy - self.count * mean_y.square().sum()
        rest = (total_x + total - 2 * singular.sum()).clamp(min=0)
        shift = mean_y - rotation @ mean_x
        return {"rotation": rotation.float(), "shift": shift.float(), "rest": rest, "total": total}


def _parts(space: LatentSpace, latents: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Latents [B, D, T] of the global token, where there is one, and of the cells: each has a basis of its own."""
    tokens = latents.flatten(2)
    return (tokens[:, :, :1], tokens[:, :, 1:]) if getattr(space, "global_token", False) else (tokens,)


def split_folds(data: Sequence[Mapping[str, Any]], folds: int, *, seed: int = 0) -> list[int]:
    """The fold of each item: classes as equal as can be, the images of a patient in one fold where patients are known.

    Raises:
        ValueError: when there are fewer folds than two, or a class has fewer patients than there are folds.

    Example:
        >>> split_folds([{"label": i % 2, "patient": f"p{i // 4}"} for i in range(8)], 2)
        [1, 1, 1, 1, 0, 0, 0, 0]
    """
    folds = check_integer(folds, "folds", 2)
    labels = np.array([int(item["label"]) for item in data])
    groups = np.array([known_patient(item.get("patient")) or f"image {i}" for i, item in enumerate(data)])
    fewest = min(len(set(groups[labels == label])) for label in set(labels))
    if fewest < folds:
        raise ValueError(f"folds: expected at most {fewest}, the patients (or images) of the rarest class, got {folds}")
    found = np.zeros(len(data), dtype=int)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for fold, (_, inside) in enumerate(splitter.split(labels, labels, groups)):
        found[inside] = fold
    return [int(fold) for fold in found]


class CrossFittedDataset(Randomizable, Dataset[dict[str, Any]]):
    """Items of several data sets of latents in the order of one datalist.

    Args:
        data: the datalist.
        parts: data sets, each of some of the items.
        places: for each item its part and its place in there.
        explained: of each part, see `AlignedSpace`.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        parts: Sequence[LatentDataset],
        places: Sequence[tuple[int, int]],
        explained: Sequence[float],
    ) -> None:
        self.data, self.parts, self.places = [dict(item) for item in data], list(parts), list(places)
        self.explained = list(explained)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The item with its latents."""
        part, place = self.places[index]
        return self.parts[part][place]

    def set_random_state(self, seed: int | None = None, state: Any = None) -> CrossFittedDataset:
        """Seed which of an item's views is drawn."""
        super().set_random_state(seed, state)
        for part in self.parts:
            part.set_random_state(seed=int(self.R.randint(2**31)))
        return self


def cross_fitted_features(
    data: Sequence[Mapping[str, Any]],
    transform: Callable[..., Any] | Sequence[Callable[..., Any]] | None,
    latent_space: LatentSpace,
    fit_space: Callable[[list[dict[str, Any]], int], LatentSpace],
    *,
    folds: int = 3,
    seed: int = 0,
    cache_dir: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> CrossFittedDataset:
    """Latents of training images from encoders that have not seen them, for a space that was adapted on all of them.

    An encoder that was fitted to its images tells their classes apart more surely than those of others, and whoever is
    trained on its features learns to be too sure. So, as in stacking (Wolpert, Neural Networks 1992) and double machine
    learning (Chernozhukov et al. 2018), the images of a fold are encoded in a space that was fitted on the other folds,
    turned into the basis of ``latent_space`` on the images that both were fitted to (`align_space`). It takes ``folds``
    further trainings of an encoder.

    Args:
        data: the datalist of the training images; images of one "patient" stay in one fold.
        transform: as of `LatentDataset`.
        latent_space: the space adapted on all training images, in which new images are classified.
        fit_space: makes the space of a fold from the items outside it and the fold's number.
        folds: number of folds.
        seed: of the folds, and as of `LatentDataset`.
        cache_dir: folder, with a folder for each fold; None keeps latents in memory.
        settings: further arguments of `LatentDataset`.

    Raises:
        ValueError: as `split_folds`, `align_space` and `LatentDataset` do.
    """
    check_latent_space(latent_space)
    numbers = split_folds(data, folds, seed=seed)
    parts, explained = [], []
    places: list[tuple[int, int]] = [(fold, numbers[:i].count(fold)) for i, fold in enumerate(numbers)]
    for fold in range(folds):
        others = [dict(item) for item, number in zip(data, numbers, strict=True) if number != fold]
        inside = [item for item, number in zip(data, numbers, strict=True) if number == fold]
        aligned = align_space(fit_space(others, fold), latent_space, _plain_images(others, transform, settings))
        explained.append(aligned.explained)
        folder = None if cache_dir is None else Path(cache_dir) / f"fold_{fold}"
        parts.append(LatentDataset(inside, transform, aligned, seed=seed, cache_dir=folder, **settings))
    dataset = CrossFittedDataset(data, parts, places, explained)
    return dataset.set_random_state(seed=seed)


def _plain_images(
    items: Sequence[Mapping[str, Any]],
    transform: Callable[..., Any] | Sequence[Callable[..., Any]] | None,
    settings: Mapping[str, Any],
) -> Iterable[torch.Tensor]:
    """Images without augmentation, in batches."""
    size, device = settings.get("batch_size", 32), settings.get("device", "cpu")
    for start in range(0, len(items), size):
        chunk = items[start : start + size]
        images = LatentDataset(chunk, transform, None, views=0, key=settings.get("key", "image"), progress=False)
        yield torch.stack([images[i][images.key] for i in range(len(images))]).to(device)

# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""What typicality describes images of a bundle by, beside their denoising errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from .._checks import plain_tensor
from .._patients import known_patient
from .._spread import spread
from ..bundle import Bundle
from ..data.image_facts import read_facts
from ..data.near_duplicates import near_duplicates
from ..data.trained_images import was_trained_on
from ..networks import LatentSpace, PixelSpace
from ..networks.latent_space import encode
from ..networks.model_description import read_model_note
from ..representations import RepresentationSpace
from ..storage import StoredErrors
from ..uncertainty import image_statistics, latent_statistics
from ..uncertainty.image_statistics import SMALLEST_SIDE

__all__ = ["describe_images", "describe_training", "learned_from_training"]

NUM_TRAINING = 2000  # images that are read at most: more would take minutes and change little
_VOLUMES = 200  # of which each takes as long as some planes
_BATCH = 64

Described = dict[str, torch.Tensor]


def describe_images(bundle: Bundle, stored: StoredErrors, *, progress: bool = False) -> Described:
    """What typicality describes the validation images by, beside their errors [n, S of each part], as they are stored.

    Those of :func:`monai_diffclf.uncertainty.image_statistics`, and of the latents where the network works on those of
    a representation; none of images too small for them.

    Args:
        bundle: opened with ``train.json`` and ``evaluate.json``; its validation images are those of the errors.
        stored: errors of the validation images.
        progress: show a progress bar.
    """
    if min(bundle.image_size) < SMALLEST_SIDE:
        return {}
    keys, described = _describe(bundle, bundle.get("validate#dataset"), True, "validation images", progress)
    place = {key: index for index, key in enumerate(keys)}
    order = torch.tensor([place[key] for key in stored.keys])
    return {name: values[order] for name, values in described.items()}


def describe_training(
    bundle: Bundle,
    stored: StoredErrors,
    *,
    audit: Path | None = None,
    limit: int | None = None,
    progress: bool = False,
) -> Described:
    """The same of training images without augmentation, evenly spaced where there are more than ``limit``.

    Images of patients who are in the validation split as well are left out, and near-duplicates of validation images,
    whose patients may not be known: a validation image would look more usual beside its twin than a new image does. So
    are the latents, where an encoder or an autoencoder may have been trained on these images, for the same reason.

    Args:
        bundle: opened with ``train.json`` and ``evaluate.json``.
        stored: errors of the validation images.
        audit: what the training has left of its images, see :func:`monai_diffclf.data.trained_images.was_trained_on`;
            without, their names are compared with those that the weights name.
        limit: images at most; None for 2,000 planes or 200 volumes.
        progress: show a progress bar.

    Raises:
        ValueError: when the training images are not at hand, or are not those that were trained on.
    """
    if min(bundle.image_size) < SMALLEST_SIDE:
        return {}
    known = {known_patient(patient) for patient in stored.patients} - {""}
    items = [item for item in bundle.get("train#datalist") if known_patient(item.get("patient")) not in known]
    limit = (NUM_TRAINING if len(bundle.image_size) == 2 else _VOLUMES) if limit is None else limit
    chosen = _apart(bundle, spread(items, limit), audit, progress)
    read = bundle.get("validate#preprocessing")
    # Read one by one: a data set of the bundle would hold all of them, or keep latents of them beside the run.
    images = _Read(chosen, read)
    latents = learned_from_training(bundle.get("evaluate#inferer").latent_space)
    return _describe(bundle, images, not latents, "training images", progress)[1] if len(images) else {}


def learned_from_training(space: LatentSpace) -> bool:
    """Whether latents may have been learned from the training images: all but those of an encoder as it is published.

    Example:
        >>> learned_from_training(PixelSpace())
        True
    """
    if not isinstance(space, RepresentationSpace) or space.adapted:
        return True
    return space.encoder.name.startswith("autoencoder")


def _apart(
    bundle: Bundle, items: list[Mapping[str, Any]], audit: Path | None, progress: bool
) -> list[Mapping[str, Any]]:
    """The training images that were trained on, all of them, without near-duplicates of validation images."""
    facts = read_facts(items, progress=progress)
    known = None if audit is None else was_trained_on(audit, [fact.content for fact in facts])
    if known is None:
        noted = (bundle.get("images_read") or {}).get("train", {}).get("hash")
        weights = read_model_note(bundle.get("checkpoint")).get("training", {})
        known = noted is not None and noted == weights.get("data", {}).get("train", {}).get("hash")
    if not known:
        raise ValueError(f"the images in the training split of {bundle.get('dataset_dir')} are not those trained on")
    others = read_facts(bundle.get("validate#datalist"), progress=progress)
    thumbnails = np.stack([fact.thumbnail for fact in (*facts, *others)])
    twins = {i for i, j, _ in near_duplicates(thumbnails) if i < len(items) <= j}
    return [item for place, item in enumerate(items) if place not in twins]


class _Read(Sequence[Any]):
    """Items as a transform reads them, one at a time."""

    def __init__(self, items: Sequence[Mapping[str, Any]], read: Any) -> None:
        self.items, self.read = items, read

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.read(self.items[index])


def _describe(
    bundle: Bundle, images: Any, with_latents: bool, what: str, progress: bool
) -> tuple[list[str], Described]:
    """Keys of images, and what describes them part by part [n, S]."""
    space = bundle.get("evaluate#inferer").latent_space
    keys, parts = list[str](), list[Described]()
    for start in tqdm(range(0, len(images), _BATCH), desc=what, unit="batch", disable=not progress):
        items = [images[i] for i in range(start, min(start + _BATCH, len(images)))]
        batch = torch.stack([plain_tensor(torch.as_tensor(item["image"])) for item in items])
        described = image_statistics(batch)
        if with_latents and not isinstance(space, PixelSpace):
            described |= latent_statistics(encode(space, batch.to(bundle.device).float()).cpu())
        keys += [str(item["key"]) for item in items]
        parts.append(described)
    return keys, {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The training images of a run by their mean latents, in one file: which are nearest to an image."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import DataLoader, Dataset
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from tqdm import tqdm

from .._checks import plain_tensor
from ..data.data_description import files_hash
from ..networks.latent_space import LatentSpace, encode
from ..storage.array_file import read_arrays, write_arrays
from .transform_steps import describe_steps

__all__ = ["Neighbour", "TrainingIndex", "index_training_images", "mean_vectors", "pooled_latents"]


@dataclass(frozen=True)
class Neighbour:
    """A training image that is near in the representation.

    Args:
        key: its name.
        label: its class number.
        distance: Euclidean distance of the mean latents, 0 for the same image.
        file: where it lies; empty for an image that is no file.
        as_class: None where the image asked for was taken as it is, else the class that it was edited towards first.
    """

    key: str
    label: int
    distance: float
    file: str = ""
    as_class: int | None = None


def pooled_latents(latents: torch.Tensor) -> torch.Tensor:
    """Means [B, D] of latents [B, D, *grid] over the grid, so that places in an image do not matter."""
    return latents.flatten(2).mean(2)


class TrainingIndex:
    """Mean latents of training images, and what these are called.

    Args:
        vectors: mean latents [N, D].
        labels: class of each [N].
        keys: name of each.
        files: file of each, empty where there is none.
        version: version of the space that encoded them.
        made_of: hash of the images, labels and transforms that it was made of; empty where it is not known.

    Raises:
        ValueError: when the lengths differ, or there are none.

    Example:
        >>> index = TrainingIndex(np.eye(3), [0, 1, 1], ["a", "b", "c"], ["", "", ""], "v1")
        >>> [(found.key, round(found.distance, 2)) for found in index.nearest(np.array([[0.0, 0.9, 0.0]]), count=2)[0]]
        [('b', 0.1), ('a', 1.35)]
    """

    def __init__(
        self,
        vectors: NDArray[Any],
        labels: Sequence[int],
        keys: Sequence[str],
        files: Sequence[str],
        version: str,
        made_of: str = "",
    ) -> None:
        counts = {len(vectors), len(labels), len(keys), len(files)}
        if len(counts) != 1 or counts == {0} or np.ndim(vectors) != 2:
            raise ValueError(
                f"vectors: expected an array [N, D] and N labels, keys and files, got shape {list(np.shape(vectors))} "
                f"and {len(labels)}, {len(keys)} and {len(files)}"
            )
        self.vectors = np.asarray(vectors, np.float32)
        self.labels, self.keys, self.files = [int(k) for k in labels], list(map(str, keys)), list(map(str, files))
        self.version, self.made_of = version, made_of

    @cached_property
    def _neighbours(self) -> NearestNeighbors:
        return NearestNeighbors().fit(self.vectors)

    def nearest(
        self, vectors: NDArray[Any], *, count: int = 3, as_class: Sequence[int] | None = None
    ) -> list[list[Neighbour]]:
        """The nearest training images of each of some mean latents [B, D], nearest first.

        Args:
            vectors: mean latents [B, D] of the same space.
            count: how many of each; all where there are fewer.
            as_class: the class that each was edited towards, None for latents of the images as they are.
        """
        if np.ndim(vectors) != 2 or np.shape(vectors)[1] != self.vectors.shape[1]:
            raise ValueError(
                f"vectors: expected mean latents [B, {self.vectors.shape[1]}], got shape {list(np.shape(vectors))}"
            )
        distances, places = self._neighbours.kneighbors(vectors, min(count, len(self.keys)))
        return [
            [
                Neighbour(self.keys[i], self.labels[i], float(d), self.files[i], as_class[row] if as_class else None)
                for d, i in zip(distances[row], places[row], strict=True)
            ]
            for row in range(len(places))
        ]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as one file (npz)."""
        about = {"version": self.version, "made_of": self.made_of}
        texts = json.dumps({**about, "keys": self.keys, "files": self.files})
        labels, encoded = np.asarray(self.labels, np.int64), np.frombuffer(texts.encode(), np.uint8)
        write_arrays(path, {"vectors": self.vectors, "labels": labels, "texts": encoded})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TrainingIndex:
        """Read what `save` wrote.

        Raises:
            ValueError: when it is something else.
        """

        def make(found: dict[str, Any]) -> TrainingIndex:
            texts = json.loads(found["texts"].tobytes())
            labels, keys, files, version = found["labels"].tolist(), texts["keys"], texts["files"], texts["version"]
            return cls(found["vectors"], labels, keys, files, version, texts.get("made_of", ""))

        try:
            return read_arrays(path, make, written_by="a training, of its images (remove it to go without)")
        except TypeError as error:  # JSON of another shape
            raise ValueError(f"path: expected an index of training images in {path}, got none: {error}") from error


def index_training_images(
    path: str | os.PathLike[str],
    data: Sequence[dict[str, Any]],
    transform: Callable[..., Any],
    latent_space: LatentSpace,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 32,
    progress: bool = True,
) -> Path:
    """Encode the training images, without augmentation, and write their index.

    One of the same images (by sizes and times of their files, or the content of arrays), names, labels, transform and
    space is left alone; another is made anew, and so is one of a transform that cannot be told from others.

    Args:
        path: the file, ``nearest.npz`` in the folder of a run.
        data: MONAI datalist of the training images, items with "image" and "label".
        transform: what reads an item.
        latent_space: the space.
        device: where to encode.
        batch_size: images encoded at a time.
        progress: whether to show a bar on stderr.

    Returns:
        the path.
    """
    path = Path(path)
    keys = [str(item.get("key", place)) for place, item in enumerate(data)]
    files = [os.path.abspath(image) if isinstance(image := item["image"], str | os.PathLike) else "" for item in data]
    labels, version = [int(item["label"]) for item in data], latent_space.version
    made_of = _made_of(data, [version, keys, labels, files], transform)
    if path.is_file() and made_of and _made_before(path) == made_of:
        return path
    # With a generator of its own: else it would take torch's global numbers, where an index is not there already.
    loader = DataLoader(Dataset(data, transform), batch_size=batch_size, generator=torch.Generator())
    vectors = [
        mean_vectors(encode(latent_space, plain_tensor(torch.as_tensor(batch["image"])).float().to(device)))
        for batch in tqdm(loader, desc="indexing training images", disable=not progress, leave=False)
    ]
    TrainingIndex(np.concatenate(vectors), labels, keys, files, version, made_of).save(path)
    return path


def _made_of(data: Sequence[dict[str, Any]], facts: list[Any], transform: Callable[..., Any]) -> str:
    """A hash of all that an index depends on; empty where the transform cannot be described."""
    try:
        images = [files_hash([item]) for item in data]  # in their order
        text = json.dumps([*facts, images, describe_steps(transform)], sort_keys=True)
    except ValueError:
        return ""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _made_before(path: Path) -> str:
    """What a file says it was made of; a damaged one, or one of an earlier version, does not, and is made anew."""
    try:
        return TrainingIndex.load(path).made_of
    except ValueError:
        return ""


def mean_vectors(latents: torch.Tensor) -> NDArray[Any]:
    """What the index holds of latents [B, D, *grid]: their means [B, D]."""
    return np.asarray(pooled_latents(latents).float().cpu())

# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""The training images that are nearest in a representation: what stands for counterfactuals where nothing decodes."""

from __future__ import annotations

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
from monai.networks.schedulers import Scheduler
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from tqdm import tqdm

from .._checks import plain_tensor
from ..classification import NoiseDraws, image_keys
from ..networks.denoiser import Denoiser
from ..networks.latent_space import LatentSpace, encode
from ..networks.schedulers import NoiseProcess
from ..sampling.paths import denoise, edit_timesteps
from ..storage.array_file import read_arrays, write_arrays

__all__ = ["Neighbour", "Retrieval", "TrainingIndex", "edit_latents", "index_training_images", "pooled_latents"]


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

    Raises:
        ValueError: when the lengths differ, or there are none.

    Example:
        >>> index = TrainingIndex(np.eye(3), [0, 1, 1], ["a", "b", "c"], ["", "", ""], "v1")
        >>> [(found.key, round(found.distance, 2)) for found in index.nearest(np.array([[0.0, 0.9, 0.0]]), count=2)[0]]
        [('b', 0.1), ('a', 1.35)]
    """

    def __init__(
        self, vectors: NDArray[Any], labels: Sequence[int], keys: Sequence[str], files: Sequence[str], version: str
    ) -> None:
        counts = {len(vectors), len(labels), len(keys), len(files)}
        if len(counts) != 1 or counts == {0} or np.ndim(vectors) != 2:
            raise ValueError(
                f"vectors: expected an array [N, D] and N labels, keys and files, got shape {list(np.shape(vectors))} "
                f"and {len(labels)}, {len(keys)} and {len(files)}"
            )
        self.vectors = np.asarray(vectors, np.float32)
        self.labels, self.keys, self.files = [int(k) for k in labels], list(map(str, keys)), list(map(str, files))
        self.version = version

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
        texts = json.dumps({"version": self.version, "keys": self.keys, "files": self.files})
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
            return cls(found["vectors"], found["labels"].tolist(), texts["keys"], texts["files"], texts["version"])

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
    """Encode the training images, without augmentation, and write their index; one of the same space is left alone.

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
    if path.is_file() and _is_of(path, latent_space.version, keys):
        return path
    loader = DataLoader(Dataset(data, transform), batch_size=batch_size)
    vectors = [
        _plain(encode(latent_space, plain_tensor(torch.as_tensor(batch["image"])).float().to(device)))
        for batch in tqdm(loader, desc="indexing training images", disable=not progress, leave=False)
    ]
    files = [
        os.path.abspath(path) if isinstance(path, str | os.PathLike) else "" for path in (i["image"] for i in data)
    ]
    labels = [int(item["label"]) for item in data]
    TrainingIndex(np.concatenate(vectors), labels, keys, files, latent_space.version).save(path)
    return path


def _is_of(path: Path, version: str, keys: list[str]) -> bool:
    """Whether a file is the index of these images in this space; a damaged one is not, and is made anew."""
    try:
        found = TrainingIndex.load(path)
    except ValueError:
        return False
    return found.version == version and found.keys == keys


@torch.no_grad()
def edit_latents(
    latents: torch.Tensor,
    denoiser: Denoiser,
    labels: torch.Tensor,
    *,
    keys: Sequence[bytes],
    start: float = 0.6,
    num_steps: int = 10,
    seed: int = 0,
) -> torch.Tensor:
    """Latents as they might be had their images been of other classes: noised to a level, and denoised as the class.

    Deterministic DDIM steps from z = alpha x + sigma epsilon (Meng et al., SDEdit, ICLR 2022), with the
    same noise whatever the class.

    Args:
        latents: latents [B, D, *grid].
        denoiser: the network with its noise process and classes.
        labels: the class each is edited towards [B].
        keys: what the noise of each is seeded by, see :func:`monai_diffclf.classification.image_keys`.
        start: where in the schedule to start, in (0, 1]; the higher, the less is kept.
        num_steps: levels of the way down, at least 2.
        seed: of the noise.

    Returns:
        edited latents [B, D, *grid].
    """
    timesteps = edit_timesteps(denoiser.process, start, num_steps)
    draws = NoiseDraws(torch.zeros(1), seed)
    rows = torch.arange(len(latents), device=latents.device)
    random = draws.random(keys, latents.device)
    noise = draws.batch_noise(random, rows, torch.zeros_like(rows), latents.shape[1:]).double()
    noisy = denoiser.process.add_noise(latents.double(), noise, timesteps[0].expand(len(latents)))
    return denoise(denoiser, noisy, timesteps, labels, image=rows).to(latents.dtype)


class Retrieval:
    """Training images nearest to an image as it is, and to it edited towards another class.

    In place of counterfactuals for a space that cannot draw: not what the image would look like, but which known
    images it would then be near. `monai_diffclf.handlers.CaseReport` takes it as ``nearest=``.

    Args:
        index: the training images, or the path of their index.
        latent_space: the space, of the index's version.
        scheduler: the noise schedule of the network.
        num_classes: number of classes.
        read: transform of an item ``{"image": file}`` that gives the image as the network's pipeline has it, for
            pictures; None for names alone.
        conditioning: how a class reaches the network.
        count: how many images of each.
        start: see `edit_latents`, as the next.
        num_steps: levels of the way down.
        batch_size: network evaluations in one call.

    Raises:
        ValueError: when the index is of another space.
    """

    def __init__(
        self,
        index: TrainingIndex | str | os.PathLike[str],
        latent_space: LatentSpace,
        scheduler: Scheduler | NoiseProcess,
        num_classes: int,
        *,
        read: Callable[[dict[str, Any]], Any] | None = None,
        conditioning: str = "class_labels",
        count: int = 3,
        start: float = 0.6,
        num_steps: int = 10,
        batch_size: int = 256,
    ) -> None:
        self.index = index if isinstance(index, TrainingIndex) else TrainingIndex.load(index)
        if self.index.version != latent_space.version:
            raise ValueError(
                f"index: expected one of the space {latent_space.version}, got one of {self.index.version}; train "
                "again, or remove the file, and no nearest training images are shown"
            )
        self.latent_space, self.scheduler, self.num_classes = latent_space, scheduler, num_classes
        self.read, self.conditioning, self.count = read, conditioning, count
        self.start, self.num_steps, self.batch_size = start, num_steps, batch_size

    @torch.no_grad()
    def __call__(
        self, images: torch.Tensor, network: torch.nn.Module, *, target: torch.Tensor, **_: Any
    ) -> list[list[Neighbour]]:
        """Neighbours of each image: of it as it is, then of it edited towards its target.

        Args:
            images: images [B, C, *spatial].
            network: the denoiser, in eval mode.
            target: class to edit each towards [B].
        """
        latents = encode(self.latent_space, images)
        denoiser = Denoiser(
            network,
            self.scheduler,
            self.num_classes,
            conditioning=self.conditioning,
            num_images=len(images),
            batch_size=self.batch_size,
            device=latents.device,
        )
        keys = image_keys(images)
        edited = edit_latents(latents, denoiser, target, keys=keys, start=self.start, num_steps=self.num_steps)
        own = self.index.nearest(_plain(latents), count=self.count)
        other = self.index.nearest(_plain(edited), count=self.count, as_class=target.tolist())
        return [mine + theirs for mine, theirs in zip(own, other, strict=True)]

    def picture(self, neighbour: Neighbour) -> NDArray[Any] | None:
        """The image of a neighbour [C, *spatial] in [-1, 1]; None where its file is not at hand or cannot be read."""
        if self.read is None or not neighbour.file or not Path(neighbour.file).is_file():
            return None
        try:
            found: Any = self.read({"image": neighbour.file})["image"]
        except (ValueError, OSError, RuntimeError):
            return None
        return np.asarray(plain_tensor(torch.as_tensor(found)).float().cpu())


def _plain(latents: torch.Tensor) -> NDArray[Any]:
    return np.asarray(pooled_latents(latents).float().cpu())

# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""A data set of latents: every image encoded once, or as several augmented views, before the training."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from monai.transforms import Randomizable
from numpy.typing import NDArray
from torch.utils.data import Dataset
from tqdm import tqdm

from .._checks import check_floating, check_integer, plain_tensor
from .._file_state import array_hash, file_state, further_fields
from ..networks.latent_space import LatentSpace, PixelSpace, check_latent_space, encode
from .latent_store import LatentStore
from .representation_space import RepresentationSpace, check_precision
from .transform_steps import compose_steps, describe_steps, may_be_random

__all__ = ["LatentDataset"]


class LatentDataset(Randomizable, Dataset[dict[str, Any]]):
    """Items with latents in place of their images, like MONAI's `CacheDataset`: encoded when the data set is made.

    With ``views`` k every image is encoded as k augmented views, each with the random numbers of (seed, image, view),
    and one of them, drawn anew each time, is what an item holds; with 0 it is encoded once, MONAI's random transforms
    (`Randomizable`) left out.
    That takes n max(k, 1) passes through the encoder, whatever the number of epochs, and 4 n max(k, 1) D T bytes: on
    disk, of which the system keeps in memory what it has room for, or in memory where there is no ``cache_dir``. To
    augment afresh in every epoch instead, give the latent space to `DenoisingPrepareBatch`.

    A killed run goes on where it was and ends with the same bits. Latents of another space, other transforms, views or
    another seed are refused, and so is a folder in which an image was kept that has changed since (size or time of its
    files). Of functions in a transform the code counts, of arrays the content, see
    :func:`monai_diffclf.networks.value_hash`; one that cannot be told from others is refused with ``cache_dir``. In
    distributed training the first process encodes and the others wait.

    Args:
        data: a datalist; the image is a file, several files, or an array.
        transform: from an item to one with the image [C, *spatial], scaled as the encoder expects it.
        latent_space: the latent space; None for the images themselves.
        views: augmented views an image, 0 for the image itself.
        cache_dir: folder that keeps the latents; None keeps them in memory.
        seed: of the views, and of which of them is drawn; `set_random_state` seeds the latter, as `EpochSeed` does.
        key: key of the image.
        batch_size: views that are encoded at once.
        device: where the encoder is.
        amp_dtype: reduced precision to encode in, such as ``"bfloat16"``, which is several times as fast where the
            processor has units for it; None for the latent space's own.
        progress: whether to show a bar on stderr.

    Raises:
        TypeError: when ``latent_space`` is none, an image is neither file nor array, or not of floating point values.
        ValueError: when the data are empty, an item has no image, images are of several sizes or not finite, a number
            is out of its range, ``cache_dir`` holds other latents, or latents are to be kept of a transform that cannot
            be told from others.

    Example:
        >>> from monai.transforms import RandFlipd
        >>> from monai_diffclf.networks import PixelSpace
        >>> items = [{"image": torch.arange(2.0).reshape(1, 1, 2), "label": 1}]
        >>> flip = RandFlipd("image", prob=0.5, spatial_axis=1)
        >>> dataset = LatentDataset(items, flip, PixelSpace(), views=8, progress=False)
        >>> len(dataset), dataset[0]["label"], sorted({float(dataset[0]["image"][0, 0, 0]) for _ in range(50)})
        (1, 1, [0.0, 1.0])
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Callable[..., Any] | Sequence[Callable[..., Any]] | None,
        latent_space: LatentSpace | None,
        *,
        views: int = 1,
        cache_dir: str | os.PathLike[str] | None = None,
        seed: int = 0,
        key: str = "image",
        batch_size: int = 32,
        device: torch.device | str = "cpu",
        amp_dtype: torch.dtype | str | None = None,
        progress: bool = True,
    ) -> None:
        views, seed = check_integer(views, "views", 0), check_integer(seed, "seed", 0)
        batch_size = check_integer(batch_size, "batch_size")
        if not data:
            raise ValueError("data: expected a datalist with at least one item, got an empty one")
        self.data = [_item(item, number, key) for number, item in enumerate(data)]
        self.transform = compose_steps(transform, random=views > 0)
        self.latent_space = check_latent_space(latent_space)
        self.views, self.seed, self.key, self.batch_size = views, seed, key, batch_size
        self.device, self.progress = torch.device(device), progress
        self.amp_dtype = check_precision(amp_dtype)
        self.set_random_state(seed)
        self._image_shape: torch.Size | None = None
        self._latents: Any = self._in_memory() if cache_dir is None else self._on_disk(Path(cache_dir))

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The item, with the latents [D, *grid] of a view."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index: expected one of {len(self)} items, got {index}")
        view = int(self.R.randint(self.views)) if self.views > 1 else 0
        latents = np.array(self._latents[index % len(self)][view])
        return {**self.data[index], self.key: torch.from_numpy(latents)}

    def _in_memory(self) -> NDArray[np.float32]:
        parts = []
        with self._bar(len(self)) as bar:
            for chunk in self._chunks():
                parts.append(self._encode(chunk))
                bar.update(len(chunk))
        latents: NDArray[np.float32] = torch.cat(parts).numpy()
        return latents

    def _on_disk(self, folder: Path) -> Any:
        names, states = zip(*(_identity(item, self.key) for item in self.data), strict=True)
        store = LatentStore(folder, self._provenance())
        if _first_process():
            self._check_unchanged(store, names, states)
            if any(store.state(name) is None for name in names):
                with store.filling():
                    store.read(repair=True)
                    self._fill(store, names, states)
        if _distributed():
            torch.distributed.barrier()
            store.read()
        return store.blocks(names)

    def _check_unchanged(self, store: LatentStore, names: Sequence[str], states: Sequence[str]) -> None:
        changed = [i for i, name in enumerate(names) if store.state(name) not in (None, states[i])]
        if changed:
            raise ValueError(
                f"cache_dir: expected the images that {store.folder} was made of, but {len(changed)} have changed "
                f"since, such as {self.data[changed[0]][self.key]}; name another folder, or remove this one"
            )

    def _fill(self, store: LatentStore, names: Sequence[str], states: Sequence[str]) -> None:
        """Encode what is missing, in the batches of an undisturbed run: rounding depends on the batch."""
        missing = {i for i, name in enumerate(names) if store.state(name) is None}
        with self._bar(len(missing)) as bar:
            for chunk in self._chunks():
                # An image may be listed twice.
                wanted = list({names[i]: i for i in chunk if store.state(names[i]) is None}.values())
                if wanted:
                    latents = self._encode(chunk)[[i - chunk[0] for i in wanted]]
                    store.append([names[i] for i in wanted], [states[i] for i in wanted], latents)
                bar.update(len(missing.intersection(chunk)))

    def _chunks(self) -> Iterator[range]:
        step = max(1, self.batch_size // max(1, self.views))
        return (range(start, min(start + step, len(self))) for start in range(0, len(self), step))

    def _encode(self, chunk: Sequence[int]) -> torch.Tensor:
        """Latents [n, V, D, *grid] of some images."""
        images = [image for index in chunk for image in self._views(index)]
        parts, space = torch.stack(images).split(self.batch_size), self.latent_space
        if self.amp_dtype is not None and isinstance(space, RepresentationSpace):
            space = space.in_precision(self.amp_dtype)
        elif self.amp_dtype is not None and not isinstance(space, PixelSpace):
            space = _InPrecision(space, self.amp_dtype)
        latents = torch.cat([encode(space, part.to(self.device)).float().cpu() for part in parts])
        return latents.reshape(len(chunk), max(1, self.views), *latents.shape[1:])

    def _views(self, index: int) -> Iterator[torch.Tensor]:
        """The augmented views of an image; what is not random is done once."""
        item = self.data[index]
        first = self.transform.get_index_of_first(may_be_random)
        read = self.transform(dict(item), end=first)
        name = int.from_bytes(_digest(_name_for_seed(item, self.key).encode()), "little")
        for view in range(max(1, self.views)):
            seen = read
            if first is not None:
                (number,) = np.random.SeedSequence([self.seed, name, view]).generate_state(1)
                self.transform.set_random_state(seed=int(number))
                seen = self.transform(copy.deepcopy(read), start=first)
            yield self._image(seen, index)

    def _image(self, seen: Any, index: int) -> torch.Tensor:
        """The image of a transformed item, float32, of the size of those before it."""
        name = f"data[{index}]['{self.key}']"
        if not isinstance(seen, Mapping) or self.key not in seen:
            raise ValueError(f"transform: expected one that gives an item with {self.key!r}, got none of {name}")
        given = plain_tensor(torch.as_tensor(seen[self.key]))
        image = check_floating(given, name, "[C, *spatial]", "values scaled as the encoder expects them").float()
        if self._image_shape not in (None, image.shape):
            raise ValueError(
                f"{name}: expected the shape {list(self._image_shape or ())} of the images before, got "
                f"{list(image.shape)}; resize or pad them by the transform"
            )
        if not bool(torch.isfinite(image).all()):
            raise ValueError(f"{name}: expected finite values, got NaN or infinity; leave the image out")
        self._image_shape = image.shape
        return image

    def _provenance(self) -> dict[str, Any]:
        return {
            "space": self.latent_space.version,
            "transform": describe_steps(self.transform),
            "views": self.views,
            "seed": self.seed if self.views else None,
            "key": self.key,
            **({} if self.amp_dtype is None else {"amp_dtype": str(self.amp_dtype)}),
        }

    def _bar(self, images: int) -> Any:
        return tqdm(total=images, desc="encoding", unit="image", disable=not self.progress)


class _InPrecision:
    """A latent space that encodes in automatic mixed precision: `encode` heeds no autocast around it."""

    def __init__(self, space: LatentSpace, amp_dtype: torch.dtype) -> None:
        self._space, self._amp_dtype = space, amp_dtype

    def __getattr__(self, name: str) -> Any:
        return getattr(self._space, name)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(images.device.type, self._amp_dtype):
            return self._space.encode(images)


def _item(item: Any, number: int, key: str) -> dict[str, Any]:
    if not isinstance(item, Mapping) or key not in item:
        got = sorted(map(str, item)) if isinstance(item, Mapping) else type(item).__name__
        raise ValueError(f"data[{number}]: expected an item with {key!r}, got {got}")
    return dict(item)


def _identity(item: Mapping[str, Any], key: str) -> tuple[str, str]:
    """Name and state of an image: its paths, and sizes and times of these files; both the content of an array.

    What else the item holds is part of both, as a transform may read it: an image with two boxes is two.
    """
    image = item[key]
    named, found = (further_fields(item, key, of_file) for of_file in (str, file_state))
    if not isinstance(image, str | os.PathLike | list | tuple):
        name = state = _content(image, key)
        if not named:
            return name, state
    else:
        paths = [image] if isinstance(image, str | os.PathLike) else list(image)
        name = "\0".join(os.fspath(path) for path in paths)
        state = repr([file_state(path) for path in paths])
    if named:
        name, state = f"{name}\0{named}", f"{state}\0{found}"
    return _digest(name.encode(errors="surrogateescape")).hex(), _digest(state.encode()).hex()


def _name_for_seed(item: Mapping[str, Any], key: str) -> str:
    """What tells an image from others wherever its folder lies: its key, or the name of its file."""
    image = item[key]
    if item.get("key"):
        return str(item["key"])
    if isinstance(image, str | os.PathLike):
        return os.path.basename(os.fspath(image))
    if isinstance(image, list | tuple):
        return "\0".join(os.path.basename(os.fspath(path)) for path in image)
    return _content(image, key)


def _content(image: Any, key: str) -> str:
    if not isinstance(image, np.ndarray | torch.Tensor):
        raise TypeError(f"data: expected a file or an array as {key!r}, got {type(image).__name__}")
    return array_hash(image)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=8).digest()


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _first_process() -> bool:
    return not _distributed() or torch.distributed.get_rank() == 0

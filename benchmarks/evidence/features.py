"""Pooled features of a frozen encoder, kept on disk by the hash of the pixels."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.evidence.data import Images, as_tensor
from benchmarks.evidence.protocol import ROOT
from monai_diffclf.representations import make_encoder
from monai_diffclf.storage.atomic_file import replaced

CACHE = ROOT / "runs" / "evidence" / "features"


def pooled_features(images: Images, encoder: str, cache: Path = CACHE, progress: bool = True) -> NDArray[np.float64]:
    """Global vector of each image [N, F]: the mean of its feature maps, or its class token.

    It is encoded in bfloat16 where it is not on disk. Features are kept image by image, so that subsets, marks and
    corruptions encode only what is new.
    """
    known = _Store.of(cache / f"{encoder}.npz")
    names = [hashlib.sha256(pixel.tobytes()).hexdigest()[:24] for pixel in images.pixels]
    new = [row for row, name in enumerate(names) if name not in known.rows]
    if new:
        _encode(images.take(np.asarray(new)), [names[row] for row in new], encoder, known, progress)
    return np.stack([known.rows[name] for name in names]).astype(np.float64)


class _Store:
    """Features by name, in one file a thousand images."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, NDArray[np.float32]] = {}
        for file in sorted(path.parent.glob(f"{path.stem}_*.npz")):
            with np.load(file) as content:
                self.rows.update(zip(content["names"].tolist(), content["features"], strict=True))

    @classmethod
    def of(cls, path: Path) -> _Store:
        return _stores(path)

    def add(self, names: list[str], features: NDArray[np.float32]) -> None:
        file = self.path.with_name(f"{self.path.stem}_{names[0]}_{len(names)}.npz")
        with replaced(file) as temporary, temporary.open("wb") as target:
            np.savez(target, names=np.asarray(names), features=features)
        self.rows.update(zip(names, features, strict=True))


@lru_cache
def _stores(path: Path) -> _Store:
    return _Store(path)


@lru_cache
def _encoder(name: str) -> Any:
    return make_encoder(name).eval().to(memory_format=torch.channels_last)


def _encode(images: Images, names: list[str], encoder: str, store: _Store, progress: bool, batch: int = 32) -> None:
    network = _encoder(encoder)
    for start in tqdm(range(0, len(names), 960), desc="encoding", unit="block", disable=not progress):
        block = np.arange(start, min(start + 960, len(names)))
        found = []
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            for rows in np.split(block, range(batch, len(block), batch)):
                pixels = as_tensor(images.take(rows)).contiguous(memory_format=torch.channels_last)
                found.append(network.features(pixels).vector.float())
        store.add([names[row] for row in block], torch.cat(found).numpy())

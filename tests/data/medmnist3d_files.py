"""Small files in the format of MedMNIST3D, which the reader is told to expect."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from monai_diffclf.data import medmnist3d as module

COUNTS = (16, 8, 6)


def medmnist3d_arrays(size: int = 28) -> dict[str, np.ndarray]:
    """Arrays as the official files name them: images uint8 [N, size, size, size], labels uint8 [N, 1]."""
    rng, arrays = np.random.default_rng(size), {}
    for split, count in zip(("train", "val", "test"), COUNTS, strict=True):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, size, size, size), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 2).astype(np.uint8)[:, None]
    return arrays


def write_medmnist3d(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, size: int = 28, **changes: np.ndarray
) -> Path:
    """Write a file; the module expects its MD5 and its numbers of volumes."""
    path = folder / (f"{name}.npz" if size == 28 else f"{name}_{size}.npz")
    np.savez(path, **medmnist3d_arrays(size) | changes)
    old = module.MEDMNIST3D[name]
    md5 = {**old.md5, size: hashlib.md5(path.read_bytes()).hexdigest()}  # noqa: S324
    monkeypatch.setitem(module.MEDMNIST3D, name, module._Set(old.classes, COUNTS, md5))
    return path

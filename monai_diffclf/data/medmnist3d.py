# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""NoduleMNIST3D and AdrenalMNIST3D (MedMNIST v2, Yang et al., Sci Data 2023) as MONAI datalists; CC BY 4.0.

Volumes of 28 or 64 voxels a side, uint8: nodules of CT at 1 mm (LIDC-IDRI), benign or malignant, and shapes of adrenal
glands, normal or hyperplasia. The official splits are kept. That of AdrenalMNIST3D is by patient; the files say of
nobody who he is, so that this can be checked for neither.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._text_path import text_path
from .download import download_by_hand, download_file
from .pneumonia_mnist import image_key

__all__ = ["MEDMNIST3D", "find_medmnist3d", "load_medmnist3d"]

_ADDRESS = "https://zenodo.org/records/10519652/files/{}?download=1"
_SPLITS = {"train": "train", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class _Set:
    """A data set: its classes in the order of their labels, volumes of each split, and MD5 of the file of each size."""

    classes: tuple[str, ...]
    counts: tuple[int, int, int]
    md5: dict[int, str]


MEDMNIST3D = {
    "nodulemnist3d": _Set(
        ("benign", "malignant"),
        (1158, 165, 310),
        {28: "8755a7e9e05a4d9ce80a24c3e7a256f3", 64: "c47c5b7d457bf6332200d2ea6d64ecd8"},
    ),
    "adrenalmnist3d": _Set(
        ("normal", "hyperplasia"),
        (1188, 98, 298),
        {28: "bbd3c5a5576322bc4cdfea780653b1ce", 64: "17721accfe9fb005146a47d33bc54b2f"},
    ),
}
"""The data sets by name."""


def find_medmnist3d(
    root: str | os.PathLike[str], name: str, *, size: int = 28, download: bool = False, progress: bool = True
) -> Path:
    """The path of ``NAME.npz`` or ``NAME_64.npz``, downloaded first if that is asked for and it is not there.

    Args:
        root: the folder that holds the file, or the path of the ``.npz`` file itself.
        name: "nodulemnist3d" or "adrenalmnist3d".
        size: voxels a side, 28 or 64.
        download: fetch the file from MedMNIST's address when it is absent; its folder must exist, so that a mistyped
            name makes none.
        progress: show a progress bar while downloading.

    Raises:
        FileNotFoundError: when the file is absent and `download` is False, or the folder is absent.
        RuntimeError: when the download fails or its MD5 is wrong; nothing is left behind.
        ValueError: for another name or size, or when the file is another one.
    """
    if name not in MEDMNIST3D:
        raise ValueError(f"name: expected one of {', '.join(MEDMNIST3D)}, got {name!r}")
    if size not in MEDMNIST3D[name].md5:
        raise ValueError(f"size: expected 28 or 64 voxels a side, got {size!r}")
    path = text_path(root, "root")
    file = f"{name}.npz" if size == 28 else f"{name}_{size}.npz"
    path = path if path.suffix == ".npz" else path / file
    url, md5 = _ADDRESS.format(file), MEDMNIST3D[name].md5[size]
    if not path.is_file():
        if not download:
            raise FileNotFoundError(
                f"root: expected {name} at {path}, which does not exist; {download_by_hand(url, md5, path)}"
            )
        if not path.parent.is_dir():
            raise FileNotFoundError(
                f"root: expected a folder to download {name} into, but {path.parent} does not exist; make it first, or "
                "mend its name"
            )
        download_file(url, md5, path, name=name, progress=progress)
    state = path.stat()
    if (found := _md5(path, state.st_mtime_ns, state.st_size)) != md5:
        raise ValueError(
            f"{path}: has MD5 {found}, expected {md5} of {name} of {size} voxels; move it away, then "
            f"{download_by_hand(url, md5, path)}"
        )
    return path


def load_medmnist3d(
    root: str | os.PathLike[str],
    split: str,
    *,
    name: str,
    size: int = 28,
    download: bool = False,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """One official split as a MONAI datalist.

    Args:
        root: see `find_medmnist3d`, as for ``name``, ``size``, ``download`` and ``progress``.
        split: "train", "validation" or "test".
        name: "nodulemnist3d" or "adrenalmnist3d".
        size: voxels a side, 28 or 64.
        download: fetch the file when it is absent.
        progress: show a progress bar while downloading.

    Returns:
        Items ``{"image": uint8 [size, size, size], "label": int, "key": str}`` in the order of the file. The key says
        the place in the file and a hash of the voxels.

    Raises:
        FileNotFoundError, RuntimeError, ValueError: see `find_medmnist3d`; for another split, too.
    """
    if split not in _SPLITS:
        raise ValueError(f"split: expected one of {', '.join(_SPLITS)}, got {split!r}")
    path = find_medmnist3d(root, name, size=size, download=download, progress=progress)
    images, labels = _read(path, _SPLITS[split], size, len(MEDMNIST3D[name].classes))
    expected = MEDMNIST3D[name].counts[list(_SPLITS).index(split)]
    if len(images) != expected:
        raise ValueError(f"{path}: expected {expected} volumes in {split}, got {len(images)}")
    return [
        {"image": image, "label": int(label), "key": f"{name}-{split}-{place:04d}-{image_key(image)}"}
        for place, (image, label) in enumerate(zip(images, labels, strict=True))
    ]


@lru_cache(maxsize=8)
def _md5(path: Path, changed: int, length: int) -> str:
    """MD5 of a file; time and length tell one that was changed since."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _read(path: Path, split: str, size: int, classes: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
    """Images [N, size, size, size] and labels [N] of a split, as the official files hold them."""
    names = f"{split}_images", f"{split}_labels"
    try:
        with np.load(path, allow_pickle=False) as file:
            held = file.files
            arrays = [file[name] for name in names if name in held]
    except Exception as error:
        raise ValueError(f"{path}: cannot be read as an npz file ({error}); download it again") from error
    if len(arrays) != 2:
        raise ValueError(f"{path}: expected the arrays {' and '.join(names)}, got {sorted(held)}")
    images, labels = arrays[0], arrays[1].reshape(-1)
    if images.ndim != 4 or images.shape[1:] != (size,) * 3 or images.dtype != np.uint8 or len(labels) != len(images):
        raise ValueError(
            f"{path}: expected {names[0]} uint8 [N, {size}, {size}, {size}] with N labels, got {images.dtype} "
            f"{list(images.shape)} with {len(labels)} labels"
        )
    if not np.isin(labels, range(classes)).all():
        raise ValueError(
            f"{path}: expected labels 0 to {classes - 1} in {names[1]}, got {sorted(set(labels.tolist()))}"
        )
    return images, labels

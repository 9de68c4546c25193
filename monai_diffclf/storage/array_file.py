# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Compressed .npz files of results: arrays of a data set, what is known of its images, and what made them."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from .._patients import known_patient
from .atomic_file import replaced

__all__ = ["check_lengths", "image_arrays", "image_fields", "provenance_array", "read_arrays", "write_arrays"]

Arrays = dict[str, NDArray[Any]]
_Stored = TypeVar("_Stored")


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Write arrays to a compressed .npz file, as a whole or not at all; equal arrays give equal files.

    Raises:
        ValueError: when the suffix is another one.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"path: expected a name ending in .npz, got {path.name!r}")
    # Given a name, NumPy would add ".npz" to it.
    with replaced(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def read_arrays(path: str | os.PathLike[str], make: Callable[[Arrays], _Stored], *, written_by: str) -> _Stored:
    """What ``make`` gives for the arrays of a file.

    Args:
        path: the file.
        make: from the arrays by name to what they stand for; what it raises counts as a fault of the file.
        written_by: what writes such files, for messages.

    Raises:
        ValueError: when the file does not exist, is damaged or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return make({name: archive[name] for name in archive.files})
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        # NumPy's own words would advise to load it without protection.
        why = "it is none of NumPy's" if "allow_pickle" in str(error) else str(error)
        why = f"it has no array {error}" if isinstance(error, KeyError) else why
        raise ValueError(f"path: expected a file written by {written_by}, got {path}: {why}") from error


def check_lengths(name: str, num_images: int, labels: Any, keys: Sequence[str], patients: Sequence[str]) -> None:
    """Refuse what is known of other than ``num_images`` images.

    Raises:
        ValueError: naming the array that has so many.
    """
    if not num_images == len(labels) == len(keys) == len(patients):
        raise ValueError(
            f"{name}: expected as many labels, keys and patients as images, {num_images}; got {len(labels)}, "
            f"{len(keys)}, {len(patients)}"
        )


def image_arrays(labels: Any, keys: Sequence[str], patients: Sequence[str]) -> Arrays:
    """What is known of images [n], as arrays."""
    return {
        "labels": torch.as_tensor(labels).cpu().numpy(),
        "keys": np.asarray(list(keys), dtype=np.str_),
        "patients": np.asarray([known_patient(patient) for patient in patients], dtype=np.str_),
    }


def provenance_array(provenance: Mapping[str, Any]) -> NDArray[Any]:
    """Names and JSON values of what made the arrays, as an array of one text."""
    return np.asarray(json.dumps(dict(provenance), sort_keys=True, allow_nan=False))


def image_fields(arrays: Arrays) -> dict[str, Any]:
    """What `image_arrays` and `provenance_array` wrote; the latter may be missing."""
    return {
        "labels": torch.from_numpy(arrays["labels"]),
        "keys": [str(key) for key in arrays["keys"]],
        "patients": [known_patient(patient) for patient in arrays["patients"]],
        "provenance": json.loads(str(arrays["provenance"])) if "provenance" in arrays else {},
    }

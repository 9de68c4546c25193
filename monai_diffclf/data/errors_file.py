# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Stored errors: every other number of draws and every other rule can be computed from them without a new run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..classification import DenoisingErrors

__all__ = ["StoredErrors", "load_errors", "save_errors"]


@dataclass(frozen=True)
class StoredErrors:
    """The errors of a data set, with what is known of its images.

    Args:
        errors: errors of all images [n, K, N].
        labels: class of each image [n], -1 where unknown.
        keys: name of each image.
        patients: patient of each image, empty where unknown.
    """

    errors: DenoisingErrors
    labels: torch.Tensor
    keys: list[str]
    patients: list[str]


def save_errors(
    path: str | os.PathLike[str],
    errors: DenoisingErrors,
    *,
    labels: torch.Tensor,
    keys: Sequence[str],
    patients: Sequence[str] | None = None,
) -> None:
    """Write errors to a compressed .npz file, as a whole or not at all.

    Args:
        path: the file; its suffix must be .npz.
        errors: errors of n images.
        labels: class of each image [n].
        keys: name of each image [n].
        patients: patient of each image [n].

    Raises:
        ValueError: when the suffix or a length is wrong.
    """
    path = Path(path)
    patients = [""] * len(keys) if patients is None else patients
    if path.suffix != ".npz":
        raise ValueError(f"path: expected a name ending in .npz, got {path.name!r}")
    if not len(errors) == len(labels) == len(keys) == len(patients):
        raise ValueError(
            f"errors: expected as many labels, keys and patients as images, {len(errors)}; "
            f"got {len(labels)}, {len(keys)}, {len(patients)}"
        )
    arrays: dict[str, Any] = {
        "values": errors.values.float().cpu().numpy(),
        "timesteps": errors.timesteps.cpu().numpy(),
        "log_snr": errors.log_snr.cpu().numpy(),
        "num_elements": np.asarray(errors.num_elements),
        "labels": torch.as_tensor(labels).cpu().numpy(),
        "keys": np.asarray(list(keys), dtype=np.str_),
        "patients": np.asarray(list(patients), dtype=np.str_),
    }
    if errors.log_snr_rate is not None:
        arrays["log_snr_rate"] = errors.log_snr_rate.cpu().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.npz")
    try:
        np.savez_compressed(temporary, **arrays)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_errors(path: str | os.PathLike[str]) -> StoredErrors:
    """Read what `save_errors` wrote.

    Raises:
        ValueError: when the file does not exist or holds something else.

    Example:
        >>> import tempfile
        >>> errors = DenoisingErrors(torch.rand(2, 2, 3), torch.arange(3), torch.tensor([2.0, 0.0, -2.0]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_errors(folder + "/errors.npz", errors, labels=torch.tensor([0, 1]), keys=["a", "b"])
        ...     stored = load_errors(folder + "/errors.npz")
        >>> torch.equal(stored.errors.values, errors.values), stored.keys
        (True, ['a', 'b'])
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        rate = arrays.get("log_snr_rate")
        return StoredErrors(
            errors=DenoisingErrors(
                torch.from_numpy(arrays["values"]),
                timesteps=torch.from_numpy(arrays["timesteps"]),
                log_snr=torch.from_numpy(arrays["log_snr"]),
                log_snr_rate=None if rate is None else torch.from_numpy(rate),
                num_elements=int(arrays["num_elements"]),
            ),
            labels=torch.from_numpy(arrays["labels"]),
            keys=[str(key) for key in arrays["keys"]],
            patients=[str(patient) for patient in arrays["patients"]],
        )
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"path: expected a file written by save_errors, got {path}: {error}") from error

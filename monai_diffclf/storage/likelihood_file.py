# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Stored log-likelihoods: every other prior, temperature and calibration follows from them without a network."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..keys import OutputKeys
from .atomic_file import replaced

__all__ = ["StoredLikelihoods", "load_likelihoods"]


@dataclass(frozen=True)
class StoredLikelihoods:
    """The log-likelihoods of a data set, with what is known of its images.

    Args:
        values: log p(x | k) in nats, of each probe of the divergence [n, K, P], float64.
        num_elements: elements of one image.
        labels: class of each image [n].
        keys: name of each image.
        patients: patient of each image, empty where unknown.
        provenance: what made them, see :func:`monai_diffclf.inferers.provenance`.

    Raises:
        ValueError: when the lengths disagree.

    Example:
        >>> import tempfile
        >>> stored = StoredLikelihoods(torch.zeros(1, 2, 1).double(), 16, torch.tensor([1]), ["a"], [""])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     stored.save(folder + "/likelihoods.npz")
        ...     again = load_likelihoods(folder + "/likelihoods.npz")
        >>> again.values.dtype, again.keys
        (torch.float64, ['a'])
    """

    values: torch.Tensor
    num_elements: int
    labels: torch.Tensor
    keys: list[str]
    patients: list[str]
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.values.ndim != 3:
            raise ValueError(f"values: expected shape [image, class, probe], got {list(self.values.shape)}")
        if not len(self.values) == len(self.labels) == len(self.keys) == len(self.patients):
            raise ValueError(
                f"values: expected as many labels, keys and patients as images, {len(self.values)}; got "
                f"{len(self.labels)}, {len(self.keys)}, {len(self.patients)}"
            )

    @property
    def log_likelihood(self) -> torch.Tensor:
        """Mean over the probes [n, K]."""
        return self.values.mean(2)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a compressed .npz file, as a whole or not at all.

        Raises:
            ValueError: when the suffix is another one.
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"path: expected a name ending in .npz, got {path.name!r}")
        with replaced(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(
                file,
                probe_log_likelihood=self.values.double().cpu().numpy(),
                num_elements=np.asarray(self.num_elements),
                labels=self.labels.cpu().numpy(),
                keys=np.asarray(self.keys, dtype=np.str_),
                patients=np.asarray(self.patients, dtype=np.str_),
                provenance=np.asarray(json.dumps(self.provenance, sort_keys=True, allow_nan=False)),
            )


def load_likelihoods(path: str | os.PathLike[str]) -> StoredLikelihoods:
    """Read what `StoredLikelihoods.save` wrote.

    Raises:
        ValueError: when the file does not exist or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        # Before it had its present name, the array was called as the mean over the probes is.
        name = OutputKeys.PROBE_LOG_LIKELIHOOD if OutputKeys.PROBE_LOG_LIKELIHOOD in arrays else "log_likelihood"
        return StoredLikelihoods(
            values=torch.from_numpy(arrays[name]),
            num_elements=int(arrays["num_elements"]),
            labels=torch.from_numpy(arrays["labels"]),
            keys=[str(key) for key in arrays["keys"]],
            patients=[str(patient) for patient in arrays["patients"]],
            provenance=json.loads(str(arrays["provenance"])),
        )
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"path: expected a file written by StoredLikelihoods.save, got {path}: {error}") from error

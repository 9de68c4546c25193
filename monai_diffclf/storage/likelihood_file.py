# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Stored log-likelihoods: every other prior, temperature and calibration follows from them without a network."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..keys import OutputKeys
from .array_file import (
    Arrays,
    check_lengths,
    image_arrays,
    image_fields,
    provenance_array,
    read_arrays,
    write_arrays,
)

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
        check_lengths("values", len(self.values), self.labels, self.keys, self.patients)

    @property
    def log_likelihood(self) -> torch.Tensor:
        """Mean over the probes [n, K]."""
        return self.values.mean(2)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a compressed .npz file, as a whole or not at all.

        Raises:
            ValueError: when the suffix is another one.
        """
        arrays = {
            str(OutputKeys.PROBE_LOG_LIKELIHOOD): self.values.double().cpu().numpy(),
            "num_elements": np.asarray(self.num_elements),
            **image_arrays(self.labels, self.keys, self.patients),
            "provenance": provenance_array(self.provenance),
        }
        write_arrays(path, arrays)


def load_likelihoods(path: str | os.PathLike[str]) -> StoredLikelihoods:
    """Read what `StoredLikelihoods.save` wrote.

    Raises:
        ValueError: when the file does not exist or holds something else.
    """
    return read_arrays(path, _from_arrays, written_by="StoredLikelihoods.save")


def _from_arrays(arrays: Arrays) -> StoredLikelihoods:
    # Before it had its present name, the array was called as the mean over the probes is.
    name = str(OutputKeys.PROBE_LOG_LIKELIHOOD)
    return StoredLikelihoods(
        values=torch.from_numpy(arrays[name if name in arrays else "log_likelihood"]),
        num_elements=int(arrays["num_elements"]),
        **image_fields(arrays),
    )

# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Stored errors: every other number of draws and every other rule can be computed from them without a new run."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..classification import DenoisingErrors
from .array_file import (
    Arrays,
    check_lengths,
    image_arrays,
    image_fields,
    provenance_array,
    read_arrays,
    write_arrays,
)

__all__ = ["StoredErrors", "list_differences", "load_errors", "save_errors"]

_HASH = re.compile(r"[0-9a-f]{16,}")


@dataclass(frozen=True)
class StoredErrors:
    """The errors of a data set, with what is known of its images.

    Args:
        errors: errors of all images [n, K, N].
        labels: class of each image [n], -1 where unknown.
        keys: name of each image.
        patients: patient of each image, empty where unknown.
        provenance: the network, draws and settings that made them, see
            :func:`monai_diffclf.inferers.provenance`; empty where unknown.
        maps: error maps on a coarse grid [n, K, *grid], see :func:`monai_diffclf.uncertainty.pool_maps`; None without.
    """

    errors: DenoisingErrors
    labels: torch.Tensor
    keys: list[str]
    patients: list[str]
    provenance: dict[str, Any] = field(default_factory=dict)
    maps: torch.Tensor | None = None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all of it with :func:`save_errors`, for :func:`load_errors` to read."""
        save_errors(
            path,
            self.errors,
            labels=self.labels,
            keys=self.keys,
            patients=self.patients,
            provenance=self.provenance,
            maps=self.maps,
        )


def save_errors(
    path: str | os.PathLike[str],
    errors: DenoisingErrors,
    *,
    labels: torch.Tensor,
    keys: Sequence[str],
    patients: Sequence[str] | None = None,
    provenance: Mapping[str, Any] | None = None,
    maps: torch.Tensor | None = None,
) -> None:
    """Write errors to a compressed .npz file, as a whole or not at all.

    Args:
        path: the file; its suffix must be .npz.
        errors: errors of n images.
        labels: class of each image [n].
        keys: name of each image [n].
        patients: patient of each image [n].
        provenance: names and JSON values of what made the errors.
        maps: error maps on a coarse grid [n, K, *grid].

    Raises:
        ValueError: when the suffix or a length is wrong.
    """
    patients = [""] * len(keys) if patients is None else patients
    check_lengths("errors", len(errors), labels, keys, patients)
    arrays: dict[str, Any] = {
        "values": errors.values.float().cpu().numpy(),
        "timesteps": errors.timesteps.cpu().numpy(),
        "log_snr": errors.log_snr.cpu().numpy(),
        "num_elements": np.asarray(errors.num_elements),
        **image_arrays(labels, keys, patients),
    }
    if maps is not None:
        if len(maps) != len(errors):
            raise ValueError(f"maps: expected those of {len(errors)} images, got {len(maps)}")
        arrays["maps"] = maps.float().cpu().numpy()
    for name in ("log_snr_rate", "importance"):
        if (vector := getattr(errors, name)) is not None:
            arrays[name] = vector.cpu().numpy()
    if provenance:
        arrays["provenance"] = provenance_array(provenance)
    write_arrays(path, arrays)


def load_errors(path: str | os.PathLike[str], *, provenance: Mapping[str, Any] | None = None) -> StoredErrors:
    """Read what `save_errors` wrote.

    Args:
        path: the file.
        provenance: what must have made the errors, all or some of what :func:`monai_diffclf.inferers.provenance` gives;
            None accepts any.

    Raises:
        ValueError: when the file does not exist or holds something else, or the errors were made by something else.

    Example:
        >>> import tempfile
        >>> errors = DenoisingErrors(torch.rand(2, 2, 3), torch.arange(3), torch.tensor([2.0, 0.0, -2.0]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_errors(folder + "/errors.npz", errors, labels=torch.tensor([0, 1]), keys=["a", "b"])
        ...     stored = load_errors(folder + "/errors.npz")
        >>> torch.equal(stored.errors.values, errors.values), stored.keys
        (True, ['a', 'b'])
    """
    stored = read_arrays(path, _from_arrays, written_by="save_errors")
    if provenance is None:
        return stored
    if not stored.provenance:
        raise ValueError(
            f"provenance: {path} does not say which network made its errors; compute them anew, or load them without "
            "provenance if you know"
        )
    if differences := list_differences(provenance, stored.provenance):
        raise ValueError(
            f"provenance: {path} holds other errors: {differences}; compute them anew or name another file"
        )
    return stored


def list_differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """The fields of ``expected`` that differ in ``found``, with both values, hashes last; empty where none does.

    Example:
        >>> list_differences({"seed": 0, "num_draws": 51}, {"seed": 1, "num_draws": 51, "network": "0c37ddc4"})
        'seed: expected 0, found 1'
    """
    differing = [name for name, value in expected.items() if name not in found or found[name] != value]
    differing.sort(key=lambda name: _HASH.fullmatch(str(expected[name])) is not None)
    return ", ".join(f"{name}: expected {expected[name]!r}, found {found.get(name, 'nothing')!r}" for name in differing)


def _from_arrays(arrays: Arrays) -> StoredErrors:
    optional = {name: torch.from_numpy(arrays[name]) for name in ("log_snr_rate", "importance") if name in arrays}
    return StoredErrors(
        errors=DenoisingErrors(
            torch.from_numpy(arrays["values"]),
            timesteps=torch.from_numpy(arrays["timesteps"]),
            log_snr=torch.from_numpy(arrays["log_snr"]),
            num_elements=int(arrays["num_elements"]),
            **optional,
        ),
        maps=torch.from_numpy(arrays["maps"]) if "maps" in arrays else None,
        **image_fields(arrays),
    )

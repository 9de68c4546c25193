# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Which images are of one patient: what ``patients`` and ``groups`` mean wherever the package takes them.

An image whose patient is not known is alone, as if it were the only one of a patient of its own. Not known are None,
NaN, empty or blank text, and words that say so ("unknown", "n/a", "nan", ...). Known and unknown patients may be mixed.
Imports nothing of ours, so that every part may import it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

__all__ = ["known_patient", "patient_codes"]

_UNKNOWN = {"", "-", "?", "<na>", "na", "n/a", "nan", "none", "null", "unknown"}


def known_patient(name: Any) -> str:
    """A patient's name as it is compared; empty where it is not known.

    Example:
        >>> known_patient(" P1 "), known_patient(7), known_patient("unknown"), known_patient(None)
        ('P1', '7', '', '')
    """
    text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
    text = unicodedata.normalize("NFC", text).strip()
    return "" if text.casefold() in _UNKNOWN else text


def patient_codes(
    patients: ArrayLike | Sequence[Any] | torch.Tensor | None, num_images: int, name: str = "patients"
) -> NDArray[np.int64]:
    """A number for each image [N], from 0, that images of one patient share; images of unknown patients have their own.

    Args:
        patients: name or number of the patient of each image [N]; None where no patient is known.
        num_images: number of images N.
        name: what the caller calls them.

    Raises:
        ValueError: when there is not one an image.

    Example:
        >>> patient_codes(["b", "a", "b"], 3).tolist(), patient_codes(["b", "", None, "b"], 4).tolist()
        ([1, 0, 1], [0, 1, 2, 0])
    """
    if patients is None:
        return np.arange(num_images)
    given = np.asarray(patients.tolist() if isinstance(patients, torch.Tensor) else patients)
    if given.shape != (num_images,):
        got = list(given.shape) if given.ndim else type(patients).__name__
        raise ValueError(
            f"{name}: expected one patient an image, [{num_images}], got {got}; give None or '' where one is not known"
        )
    if given.dtype.kind not in "biuf":
        given = np.asarray([known_patient(each) for each in given.tolist()], dtype=np.str_)
    known = given != "" if given.dtype.kind == "U" else ~np.isnan(given)
    names, numbers = np.unique(given[known], return_inverse=True)
    codes = np.empty(num_images, dtype=np.int64)
    codes[known] = numbers
    codes[~known] = len(names) + np.arange(num_images - len(numbers))
    return codes

# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Images of one patient, by numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["group_codes"]


def group_codes(groups: ArrayLike | Sequence[str] | None, num_images: int) -> NDArray[np.int64]:
    """A number for the patient of each image [n]; images without a name are each alone.

    Raises:
        ValueError: when there is not one group an image.
    """
    if groups is None:
        return np.arange(num_images)
    names = np.asarray(groups)
    if names.shape != (num_images,):
        raise ValueError(f"groups: expected one patient an image, [{num_images}], got {list(names.shape)}")
    names = names.astype(str)
    alone = np.flatnonzero(names == "")
    codes = np.unique(names, return_inverse=True)[1].astype(np.int64)
    codes[alone] = codes.max() + 1 + np.arange(len(alone))
    return np.asarray(np.unique(codes, return_inverse=True)[1], dtype=np.int64)

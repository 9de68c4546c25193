# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""MONAI transforms: the Haar wavelet, in array and dictionary form."""

from __future__ import annotations

from .haar import (
    HaarTransform,
    HaarTransformD,
    HaarTransformd,
    HaarTransformDict,
    InverseHaarTransform,
    InverseHaarTransformD,
    InverseHaarTransformd,
    InverseHaarTransformDict,
    haar_forward,
    haar_inverse,
)

__all__ = [
    "HaarTransform",
    "HaarTransformD",
    "HaarTransformDict",
    "HaarTransformd",
    "InverseHaarTransform",
    "InverseHaarTransformD",
    "InverseHaarTransformDict",
    "InverseHaarTransformd",
    "haar_forward",
    "haar_inverse",
]

# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""MONAI transforms in array and dictionary form: Haar wavelet; calibration, prediction sets, typicality, error maps."""

from __future__ import annotations

from .error_map import ErrorMap, ErrorMapD, ErrorMapd, ErrorMapDict
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
from .typicality import TypicalityScore, TypicalityScoreD, TypicalityScored, TypicalityScoreDict
from .uncertainty import (
    CalibrateProbabilities,
    CalibrateProbabilitiesD,
    CalibrateProbabilitiesd,
    CalibrateProbabilitiesDict,
    ConformalSet,
    ConformalSetD,
    ConformalSetd,
    ConformalSetDict,
)

__all__ = [
    "CalibrateProbabilities",
    "CalibrateProbabilitiesD",
    "CalibrateProbabilitiesDict",
    "CalibrateProbabilitiesd",
    "ConformalSet",
    "ConformalSetD",
    "ConformalSetDict",
    "ConformalSetd",
    "ErrorMap",
    "ErrorMapD",
    "ErrorMapDict",
    "ErrorMapd",
    "HaarTransform",
    "HaarTransformD",
    "HaarTransformDict",
    "HaarTransformd",
    "InverseHaarTransform",
    "InverseHaarTransformD",
    "InverseHaarTransformDict",
    "InverseHaarTransformd",
    "TypicalityScore",
    "TypicalityScoreD",
    "TypicalityScoreDict",
    "TypicalityScored",
    "haar_forward",
    "haar_inverse",
]

# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""MONAI transforms in array and dictionary form: Haar wavelet, dequantisation, mammograms; what follows inference."""

from __future__ import annotations

from ..networks.layers.haar import haar_forward, haar_inverse
from .breast_mask import breast_mask
from .dequantize import RandDequantize, RandDequantizeD, RandDequantized, RandDequantizeDict
from .error_map import ErrorMap, ErrorMapD, ErrorMapd, ErrorMapDict
from .findings import CalibrateFindingsD, CalibrateFindingsd, CalibrateFindingsDict
from .haar import (
    HaarTransform,
    HaarTransformD,
    HaarTransformd,
    HaarTransformDict,
    InverseHaarTransform,
    InverseHaarTransformD,
    InverseHaarTransformd,
    InverseHaarTransformDict,
)
from .image_warnings import ImageWarningsD, ImageWarningsd, ImageWarningsDict
from .mammography import CropBreast, EqualizeAdaptive, FlipToSide, ReadMammogram, ResizeAndPad, SuppressBackground
from .mammography_dictionary import (
    CropBreastD,
    CropBreastd,
    CropBreastDict,
    EqualizeAdaptiveD,
    EqualizeAdaptived,
    EqualizeAdaptiveDict,
    FlipToSideD,
    FlipToSided,
    FlipToSideDict,
    ReadMammogramD,
    ReadMammogramd,
    ReadMammogramDict,
    ResizeAndPadD,
    ResizeAndPadd,
    ResizeAndPadDict,
    SuppressBackgroundD,
    SuppressBackgroundd,
    SuppressBackgroundDict,
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
    "CalibrateFindingsD",
    "CalibrateFindingsDict",
    "CalibrateFindingsd",
    "CalibrateProbabilities",
    "CalibrateProbabilitiesD",
    "CalibrateProbabilitiesDict",
    "CalibrateProbabilitiesd",
    "ConformalSet",
    "ConformalSetD",
    "ConformalSetDict",
    "ConformalSetd",
    "CropBreast",
    "CropBreastD",
    "CropBreastDict",
    "CropBreastd",
    "EqualizeAdaptive",
    "EqualizeAdaptiveD",
    "EqualizeAdaptiveDict",
    "EqualizeAdaptived",
    "ErrorMap",
    "ErrorMapD",
    "ErrorMapDict",
    "ErrorMapd",
    "FlipToSide",
    "FlipToSideD",
    "FlipToSideDict",
    "FlipToSided",
    "HaarTransform",
    "HaarTransformD",
    "HaarTransformDict",
    "HaarTransformd",
    "ImageWarningsD",
    "ImageWarningsDict",
    "ImageWarningsd",
    "InverseHaarTransform",
    "InverseHaarTransformD",
    "InverseHaarTransformDict",
    "InverseHaarTransformd",
    "RandDequantize",
    "RandDequantizeD",
    "RandDequantizeDict",
    "RandDequantized",
    "ReadMammogram",
    "ReadMammogramD",
    "ReadMammogramDict",
    "ReadMammogramd",
    "ResizeAndPad",
    "ResizeAndPadD",
    "ResizeAndPadDict",
    "ResizeAndPadd",
    "SuppressBackground",
    "SuppressBackgroundD",
    "SuppressBackgroundDict",
    "SuppressBackgroundd",
    "TypicalityScore",
    "TypicalityScoreD",
    "TypicalityScoreDict",
    "TypicalityScored",
    "breast_mask",
    "haar_forward",
    "haar_inverse",
]

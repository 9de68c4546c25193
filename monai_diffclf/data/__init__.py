# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Data sets as they are distributed -> MONAI datalists; reading images; auditing splits."""

from __future__ import annotations

from .audit import SplitAudit, audit_splits
from .cbis_ddsm import load_cbis_ddsm
from .datalist import load_datalist
from .decision_file import LearnedDecision, load_decision, save_decision
from .errors_file import StoredErrors, load_errors, save_errors
from .errors_journal import ErrorsJournal
from .find_images import find_images
from .image_files import read_image_file
from .image_table import load_image_folder, load_image_table
from .inbreast import load_inbreast, read_inbreast_outlines
from .isic2017 import load_isic2017
from .likelihood_file import StoredLikelihoods, load_likelihoods
from .mammogram_files import ClassBalance, class_balance, read_mammogram
from .phantoms import make_phantom, make_phantoms
from .pneumonia_mnist import find_pneumonia_mnist, image_key, load_pneumonia_mnist
from .read_image import ReadImage, ReadImaged, crop_and_resize
from .sampling import class_balanced_weights
from .uncertainty_file import FittedUncertainty, load_uncertainty, save_uncertainty
from .vindr_mammo import load_vindr_mammo

__all__ = [
    "ClassBalance",
    "ErrorsJournal",
    "FittedUncertainty",
    "LearnedDecision",
    "ReadImage",
    "ReadImaged",
    "SplitAudit",
    "StoredErrors",
    "StoredLikelihoods",
    "audit_splits",
    "class_balance",
    "class_balanced_weights",
    "crop_and_resize",
    "find_images",
    "find_pneumonia_mnist",
    "image_key",
    "load_cbis_ddsm",
    "load_datalist",
    "load_decision",
    "load_errors",
    "load_image_folder",
    "load_image_table",
    "load_inbreast",
    "load_isic2017",
    "load_likelihoods",
    "load_pneumonia_mnist",
    "load_uncertainty",
    "load_vindr_mammo",
    "make_phantom",
    "make_phantoms",
    "read_image_file",
    "read_inbreast_outlines",
    "read_mammogram",
    "save_decision",
    "save_errors",
    "save_uncertainty",
]

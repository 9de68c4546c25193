# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Data sets as they are distributed -> MONAI datalists; reading images; auditing splits."""

from __future__ import annotations

from typing import Any

from .._class_names import class_names
from .._moved import moved
from .audit import SplitAudit, audit_splits
from .cbis_ddsm import load_cbis_ddsm
from .chexpert import load_chexpert
from .chexpert_findings import load_chexpert_findings
from .data_description import describe_data
from .datalist import load_datalist
from .find_classes import find_classes
from .find_images import find_images
from .image_folder import load_image_folder
from .image_table import load_image_table
from .inbreast import load_inbreast, read_inbreast_outlines
from .isic2017 import load_isic2017
from .isic_melanoma import compare_with_id_rule, id_rule, load_isic_melanoma
from .isic_tables import load_isic2018, load_isic2019, load_isic2020
from .kermany_cxr import load_kermany_cxr
from .mammogram_tables import ClassBalance, class_balance
from .medmnist3d import find_medmnist3d, load_medmnist3d
from .nih_chest_xray14 import load_nih_chest_xray14
from .patients import check_patients
from .phantom_findings import make_findings_phantom, make_findings_phantoms
from .phantoms import make_phantom, make_phantoms
from .pneumonia_mnist import find_pneumonia_mnist, image_key, load_pneumonia_mnist
from .run_checks import audit_run
from .sampling import class_balanced_weights
from .splits import NoSplitError
from .vindr_mammo import load_vindr_mammo
from .volume_phantoms import make_volume_phantom, make_volume_phantoms

__all__ = [
    "ClassBalance",
    "NoSplitError",
    "SplitAudit",
    "audit_run",
    "audit_splits",
    "check_patients",
    "class_balance",
    "class_balanced_weights",
    "class_names",
    "compare_with_id_rule",
    "describe_data",
    "find_classes",
    "find_images",
    "find_medmnist3d",
    "find_pneumonia_mnist",
    "id_rule",
    "image_key",
    "load_cbis_ddsm",
    "load_chexpert",
    "load_chexpert_findings",
    "load_datalist",
    "load_image_folder",
    "load_image_table",
    "load_inbreast",
    "load_isic2017",
    "load_isic2018",
    "load_isic2019",
    "load_isic2020",
    "load_isic_melanoma",
    "load_kermany_cxr",
    "load_medmnist3d",
    "load_nih_chest_xray14",
    "load_pneumonia_mnist",
    "load_vindr_mammo",
    "make_findings_phantom",
    "make_findings_phantoms",
    "make_phantom",
    "make_phantoms",
    "make_volume_phantom",
    "make_volume_phantoms",
    "read_inbreast_outlines",
]

_MOVED = {
    "ErrorsJournal": "monai_diffclf.storage",
    "FittedUncertainty": "monai_diffclf.storage",
    "LearnedDecision": "monai_diffclf.storage",
    "StoredErrors": "monai_diffclf.storage",
    "StoredLikelihoods": "monai_diffclf.storage",
    "load_decision": "monai_diffclf.storage",
    "load_errors": "monai_diffclf.storage",
    "load_likelihoods": "monai_diffclf.storage",
    "load_uncertainty": "monai_diffclf.storage",
    "save_decision": "monai_diffclf.storage",
    "save_errors": "monai_diffclf.storage",
    "save_uncertainty": "monai_diffclf.storage",
    "ReadImage": "monai_diffclf.image_io",
    "ReadImaged": "monai_diffclf.image_io",
    "crop_and_resize": "monai_diffclf.image_io",
    "read_image_file": "monai_diffclf.image_io",
    "read_mammogram": "monai_diffclf.image_io",
}


def __getattr__(name: str) -> Any:
    return moved(__name__, name, _MOVED)

# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
"""Coded concepts: of DICOM and SNOMED CT where there are some, else private ones, whose scheme begins with 99."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from pydicom.sr.coding import Code

from .text import vr_text

__all__ = ["NATS", "NO_UNITS", "PRIVATE", "Codes", "class_concept", "private_concept", "site_concept"]

PRIVATE = "99MDIFFCLF"
"""Designator of the private coding scheme: 99 marks it as one (PS3.16, 8.2)."""

NO_UNITS = Code("1", "UCUM", "no units")
NATS = Code("{nat}", "UCUM", "nats")

Codes = Mapping[str, tuple[str, str, str]]
"""Name of a class -> value, scheme designator and meaning of its code."""

# Names of classes that mean what a concept of DICOM, or of its own subset of SNOMED CT, which is free to use, means.
CLASSES = {
    "normal": Code("17621005", "SCT", "Normal"),
    "abnormal": Code("263654008", "SCT", "Abnormal"),
    "benign": Code("30807003", "SCT", "Benign"),
    "malignant": Code("21594007", "SCT", "Malignant"),
    "melanoma": Code("1162635006", "SCT", "Malignant melanoma"),
    "lesion": Code("52988006", "SCT", "Lesion"),
    "pleural_effusion": Code("60046008", "SCT", "Pleural effusion"),
    "effusion": Code("41699000", "SCT", "Effusion"),
    "nodule": Code("27925004", "SCT", "Nodule"),
    "mass": Code("4147007", "SCT", "Mass"),
    "pneumothorax": Code("36118008", "SCT", "Pneumothorax"),
    "cardiomegaly": Code("287272002", "SCT", "Cardiomegaly"),
    "edema": Code("79654002", "SCT", "Edema"),
    "fibrosis": Code("112674009", "SCT", "Fibrosis"),
    "present": Code("121053", "DCM", "Present"),
    "absent": Code("121054", "DCM", "Absent"),
    "undecided": Code("121059", "DCM", "Presence Undetermined"),
}
# Values of BodyPartExamined.
SITES = {
    "CHEST": Code("51185008", "SCT", "Thoracic structure"),
    "BREAST": Code("76752008", "SCT", "Breast"),
    "BRAIN": Code("12738006", "SCT", "Brain"),
    "HEAD": Code("69536005", "SCT", "Head"),
    "SKIN": Code("39937001", "SCT", "Skin"),
}
SIDES = {"L": Code("7771000", "SCT", "Left"), "R": Code("24028007", "SCT", "Right")}


def private_concept(name: str, meaning: str) -> Code:
    """A concept of the private scheme.

    Args:
        name: any text; a short one is the code itself, of another a hash keeps codes apart.
        meaning: what a reader sees.

    Example:
        >>> private_concept("vote share", "Vote share").value
        'VOTE_SHARE'
    """
    plain = re.sub(r"[^A-Z0-9]", "_", name.upper())
    if not name.isascii() or not 0 < len(plain) <= 16 or plain.lower() != name.lower().replace(" ", "_"):
        plain = _hashed(name)
    return Code(plain, PRIVATE, vr_text(meaning, "LO") or "unnamed")


def _hashed(name: str) -> str:
    digest = hashlib.blake2b(name.encode(errors="replace"), digest_size=4).hexdigest().upper()
    return f"{re.sub(r'[^A-Z0-9]', '_', name.upper())[:7]}_{digest}"


def class_concept(name: str, known: Codes | None = None) -> Code:
    """The concept of a class: the one given, of SNOMED CT or DICOM where its name is one of a few, else a private one.

    Args:
        name: name of the class.
        known: codes of some classes.

    Example:
        >>> class_concept("malignant").scheme_designator, class_concept("pneumonia").scheme_designator
        ('SCT', '99MDIFFCLF')
    """
    if known and name in known:
        value, scheme, meaning = known[name]
        return Code(vr_text(value, "SH"), vr_text(scheme, "SH"), vr_text(meaning, "LO"))
    if common := CLASSES.get(name.strip().lower().replace(" ", "_")):
        return common
    if "_" in name:  # the code of "a b" is A_B
        return Code(_hashed(name), PRIVATE, vr_text(name, "LO"))
    return private_concept(name, name)


def site_concept(header: Any) -> Code | None:
    """The part of the body that a header names by a code, or by one of a few words; None where it does not."""
    for item in header.get("AnatomicRegionSequence") or ():
        if item.get("CodeValue") and item.get("CodingSchemeDesignator") and item.get("CodeMeaning"):
            return Code(str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.CodeMeaning))
    return SITES.get(str(header.get("BodyPartExamined", "")).strip().upper())

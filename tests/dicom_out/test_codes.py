"""Codes of DICOM and SNOMED CT are those of DICOM's own dictionary; all others say that they are private."""

from __future__ import annotations

import re
from importlib import import_module

from pydicom.dataset import Dataset
from pydicom.sr._concepts_dict import concepts

from monai_diffclf.dicom_out.codes import CLASSES, PRIVATE, SIDES, SITES, class_concept, private_concept, site_concept


def test_codes_are_of_the_dictionary():
    used = [*CLASSES.values(), *SITES.values(), *SIDES.values()]
    names = ("codes", "image_library", "key_objects", "secondary_capture", "structured_report")
    modules = [import_module(f"monai_diffclf.dicom_out.{name}") for name in names]
    used += [value for module in modules for value in vars(module).values() if type(value).__name__ == "Code"]
    assert len(used) > 20
    for code in used:
        if code.scheme_designator == "UCUM":
            continue
        known = {
            re.sub(r" \(.*\)$", "", meaning).lower()
            for each in concepts[code.scheme_designator].values()
            for value, (meaning, _) in each.items()
            if value == code.value
        }
        assert code.meaning.lower() in known, code


def test_private_codes_are_marked_and_apart():
    names = ["a b", "a_b", "a-b", "A B", "", "é", "è", "x" * 17, "x" * 18, "p clear", "pneumonia"]
    made = {name: private_concept(name, name) for name in names}
    assert all(code.scheme_designator == PRIVATE and PRIVATE.startswith("99") for code in made.values())
    assert all(0 < len(code.value) <= 16 and code.meaning for code in made.values())
    distinct = [code.value for name, code in made.items() if name not in ("a_b", "A B")]
    assert len(set(distinct)) == len(distinct)
    assert made["pneumonia"].value == "PNEUMONIA"


def test_classes():
    assert class_concept("Pleural effusion").value == class_concept("pleural_effusion").value == "60046008"
    given = {"pneumonia": ("233604007", "SCT", "Pneumonia"), "normal": ("N", "99HOUSE", "Fine\\ly")}
    assert class_concept("pneumonia", given).scheme_designator == "SCT"
    assert class_concept("normal", given).meaning == "Fine/ly"
    assert class_concept("pneumonia").scheme_designator == PRIVATE
    assert len({class_concept(name).value for name in ("a b", "a_b", "a-b", "A_B")}) == 4


def test_sites():
    header = Dataset()
    assert site_concept(header) is None
    header.BodyPartExamined = "CHEST"
    assert site_concept(header).value == "51185008"
    header.AnatomicRegionSequence = [Dataset()]
    assert site_concept(header).value == "51185008"  # an empty item says nothing
    header.AnatomicRegionSequence[0].CodeValue = "1"
    header.AnatomicRegionSequence[0].CodingSchemeDesignator = "SCT"
    header.AnatomicRegionSequence[0].CodeMeaning = "Knee"
    assert site_concept(header).meaning == "Knee"

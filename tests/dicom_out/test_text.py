"""Text and headers as DICOM's value representations allow them."""

from __future__ import annotations

import pytest
from pydicom import config
from pydicom.dataset import Dataset

from monai_diffclf.dicom_out.text import clean_header, is_uid, vr_text
from monai_diffclf.dicom_out.uids import new_uid


@pytest.mark.parametrize(
    ("text", "vr", "expected"),
    [
        ("plain", "LO", "plain"),
        ("a\\b", "LO", "a/b"),
        ("a\\b", "UT", "a\\b"),
        ("a\x00\x1b[2Jb\n", "LO", "a  [2Jb"),
        ("one\r\ntwo", "ST", "one\ntwo"),
        ("one\ntwo", "SH", "one two"),
        ("x" * 65, "LO", "x" * 64),
        ("Röntgen Übersicht", "CS", "R_NTGEN _BERSICHT"[:16]),
        ("é" * 40, "LO", "é" * 32),
        ("=1+1", "LO", "=1+1"),
        ("  ", "LO", ""),
    ],
)
def test_text(text, vr, expected):
    assert vr_text(text, vr) == expected


def test_other_representation_is_refused():
    with pytest.raises(ValueError, match="vr: expected one of"):
        vr_text("1", "DS")


def test_header_is_cleaned():
    header = Dataset()
    header.PatientName, header.PatientID = "A\x07^B=" + "é" * 70, "id\n1"
    header.add_new(0x00100030, "DA", "19991332")
    header.StudyTime = "0304"
    header.OtherPatientNames = ["A^B", "C^D"]
    header.add_new(0x00091001, "LO", "private")
    header.PixelData = b"\0\0"
    header.AnatomicRegionSequence = [Dataset()]
    header.AnatomicRegionSequence[0].CodeMeaning = "x" * 70
    clean_header(header)
    assert str(header.PatientName) == "A ^B=" + "é" * 64 and header.PatientID == "id 1"
    assert header.PatientBirthDate == "" and header.StudyTime == "0304"
    assert [str(name) for name in header.OtherPatientNames] == ["A^B", "C^D"]
    assert len(header.AnatomicRegionSequence[0].CodeMeaning) == 64
    assert 0x00091001 not in header and "PixelData" not in header


@pytest.mark.parametrize(
    ("keyword", "given", "expected"),
    [
        ("StudyTime", "240000", ""),
        ("StudyTime", "126100", ""),
        ("StudyTime", "235959.999", "235959.999"),
        ("StudyTime", "12:30:05.5", "123005.5"),
        ("StudyTime", "12", "12"),
        ("StudyDate", "2020.03.04", "20200304"),
        ("StudyDate", "2020.13.04", ""),
        ("AcquisitionDateTime", "20200101250000", ""),
        ("AcquisitionDateTime", "20200101120000.5+0100", "20200101120000.5+0100"),
        ("AcquisitionDateTime", "2020", "2020"),
        ("InstanceNumber", "6442450941", ""),
        ("InstanceNumber", "12", 12),
        ("StudyDate", ["20200101", "20200102"], "20200101"),
        ("PatientName", ["A^B", "C^D"], "A^B"),
        ("PatientID", ["a", "b"], "a"),
        ("BodyPartExamined", ["CHEST", "ABDOMEN"], "CHEST"),
        ("OtherPatientNames", ["A", "B"], ["A", "B"]),
        ("ImageType", ["ORIGINAL", "PRIMARY", "AXIAL"], ["ORIGINAL", "PRIMARY", "AXIAL"]),
        ("PixelSpacing", ["1", "2", "3"], ["1", "2"]),
    ],
)
def test_values_are_those_that_an_element_may_have(keyword, given, expected):
    header = Dataset()
    with config.disable_value_validation():
        setattr(header, keyword, given)
        clean_header(header)
        found = header[keyword].value
    assert (list(found) if isinstance(expected, list) else found) == expected


def test_uids():
    made = new_uid("a", ["b"], {"c": 1})
    assert is_uid(made) and made.startswith("2.25.") and made == new_uid("a", ["b"], {"c": 1})
    assert len({new_uid("a", n) for n in range(100)} | {new_uid(n, "a") for n in range(100)}) == 200
    assert not any(map(is_uid, ("", "1.", "1..2", "1.02", "a.1", "1." * 40 + "1")))

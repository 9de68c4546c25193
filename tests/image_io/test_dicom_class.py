"""DICOM files that are no pictures of a patient are left out of folders, and named."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID

from monai_diffclf.archive import find_archive
from monai_diffclf.data import find_images
from monai_diffclf.image_io.dicom_class import MANUFACTURER, no_image, no_image_reason

PIXELS = np.arange(64, dtype=np.uint8).reshape(8, 8)
NO_IMAGES = {
    "Basic Text SR Storage": "88.11",
    "Key Object Selection Document Storage": "88.59",
    "Grayscale Softcopy Presentation State Storage": "11.1",
    "Encapsulated PDF Storage": "104.1",
    "Segmentation Storage": "66.4",
    "Raw Data Storage": "66",
    "Parametric Map Storage": "30",
    "12-lead ECG Waveform Storage": "9.1.1",
    "RT Dose Storage": "481.2",
    "RT Structure Set Storage": "481.3",
    "MR Spectroscopy Storage": "4.2",
    "Real World Value Mapping Storage": "67",
}
IMAGES = {
    "Computed Radiography Image Storage": "1",
    "Digital X-Ray Image Storage - For Presentation": "1.1",
    "CT Image Storage": "2",
    "MR Image Storage": "4",
    "Enhanced MR Image Storage": "4.1",
    "Enhanced MR Color Image Storage": "4.3",
    "Ultrasound Image Storage": "6.1",
    "Secondary Capture Image Storage": "7",
    "X-Ray 3D Angiographic Image Storage": "13.1.1",
    "VL Photographic Image Storage": "77.1.4",
    "Ophthalmic Photography 8 Bit Image Storage": "77.1.5.1",
    "RT Image Storage": "481.1",
    "Enhanced RT Image Storage": "481.23",
    "Positron Emission Tomography Image Storage": "128",
}


def header(rest: str, **elements: object) -> Dataset:
    made = Dataset()
    made.SOPClassUID = f"1.2.840.10008.5.1.4.1.1.{rest}"
    for name, value in elements.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(("name", "rest"), [*NO_IMAGES.items(), *IMAGES.items()])
def test_classes_are_those_of_the_standard(name, rest):
    assert UID(header(rest).SOPClassUID).name == name
    assert bool(no_image(header(rest))) == (name in NO_IMAGES)
    assert name in NO_IMAGES or not no_image(header(rest, Manufacturer="Maker"))


def test_results_of_this_package_are_none():
    assert no_image(header("7", Manufacturer=MANUFACTURER)).startswith("a result of this package")
    assert not no_image(Dataset()), "of what is not known nothing is said"


def test_they_are_left_out_of_folders_and_named(tmp_path, write_dicom, recwarn):
    write_dicom(tmp_path / "film.dcm", PIXELS)
    uid = "1.2.840.10008.5.1.4.1.1."
    for name, rest in (("map", "30"), ("report.dcm", "88.11"), ("mask", "66.4")):
        write_dicom(tmp_path / name, PIXELS, SOPClassUID=uid + rest)
    write_dicom(tmp_path / "overlay.dcm", PIXELS, Manufacturer=MANUFACTURER)
    for found in (find_images(tmp_path), [{"key": image.key} for image in find_archive([tmp_path])]):
        assert [item["key"] for item in found] == ["film.dcm"]
        said = str(recwarn.pop(UserWarning).message)
        assert "4 left out beside 1 images" in said
        assert "map (no image, but DICOM of the class Parametric Map Storage)" in said
        assert "overlay.dcm (a result of this package, no image to classify)" in said
    assert no_image_reason(tmp_path / "film.dcm") == ""
    assert len(find_images(tmp_path / "map")) == 1, "what is named by itself is wanted"


def test_a_damaged_header_is_left_to_the_reader(tmp_path):
    path = tmp_path / "cut.dcm"
    path.write_bytes(bytes(128) + b"DICM" + b"\x08\x00\x16\x00UI\xff\xff")
    assert no_image_reason(path) == ""
    assert no_image_reason(__file__) == ""

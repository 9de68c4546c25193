"""Reports, maps and pictures of ten images: valid, and reopened the values that went in."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from io import BytesIO

import numpy as np
import pydicom
import pytest
from PIL import Image

highdicom = pytest.importorskip("highdicom", reason="highdicom is not installed")

from monai_diffclf.dicom_out import (  # noqa: E402
    dicom_files,
    finding_of,
    parametric_map,
    read_source,
    secondary_capture,
    structured_report,
    to_bytes,
)
from monai_diffclf.dicom_out.structured_report import _prediction_set  # noqa: E402
from monai_diffclf.image_io import read_image_file  # noqa: E402
from tools import dicom_sources  # noqa: E402
from tools.dicom_sources import SOURCES, write_sources  # noqa: E402
from tools.validate_dicom import (  # noqa: E402
    ALGORITHM,
    CLASSES,
    ROW,
    WHEN,
    found_by,
    make_objects,
    missing_validators,
    validate,
)

FINDING = finding_of(ROW, CLASSES)


@pytest.fixture
def source(tmp_path):
    """Function that reads the header of a data set."""

    def make(*datasets):
        paths = []
        for number, dataset in enumerate(datasets):
            paths.append(tmp_path / f"{number}.dcm")
            pydicom.dcmwrite(paths[-1], dataset, enforce_file_format=True)
        return read_source(paths)

    return make


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Function from the name of an image to its files, which are made once."""
    known = {}

    def find(name):
        if name not in known:
            known[name] = make_objects(tmp_path_factory.mktemp(name), name)
        return known[name]

    return find


def reopened(dataset):
    return pydicom.dcmread(BytesIO(to_bytes(dataset)))


@pytest.mark.parametrize("name", SOURCES)
def test_valid(name, made):
    if absent := missing_validators():
        pytest.skip(f"not installed: {', '.join(absent)} (dicom3tools, dcmtk)")
    for kind, path in made(name).items():
        for program, found in validate(path, kind).items():
            assert found["errors"] == [], (kind, program)


def test_validators_find_faults(tmp_path):
    if absent := missing_validators():
        pytest.skip(f"not installed: {', '.join(absent)} (dicom3tools, dcmtk)")
    path = make_objects(tmp_path, "cr")["report"]
    broken = pydicom.dcmread(path)
    del broken.ContentDate
    del broken.ContentSequence[-1].ValueType
    broken.save_as(path)
    assert found_by("dciodvfy", path)[0] and found_by("dsrdump", path)[0]


@pytest.mark.parametrize("name", SOURCES)
def test_patient_and_study_are_the_images(name, made):
    files = made(name)
    image = pydicom.dcmread(files["source_0"])
    uids = set()
    for kind in ("report", "map", "overlay", "key_objects"):
        found = pydicom.dcmread(files[kind])
        for keyword in (
            "PatientName",
            "PatientID",
            "PatientBirthDate",
            "PatientSex",
            "StudyInstanceUID",
            "StudyDate",
            "StudyTime",
            "StudyID",
            "AccessionNumber",
        ):
            assert found[keyword].value == image[keyword].value, (kind, keyword)
        assert found.SpecificCharacterSet == "ISO_IR 192" and found.Manufacturer == "monai_diffclf contributors"
        assert (found.ContentDate, found.SeriesDate) == ("20260102", "20260102")
        uids |= {found.SOPInstanceUID, found.SeriesInstanceUID}
    assert len(uids) == 8 and not uids & {image.SOPInstanceUID, image.SeriesInstanceUID}


@pytest.mark.parametrize("name", SOURCES)
def test_report_holds_what_was_found(name, made):
    files = made(name)
    report = highdicom.sr.ComprehensiveSR.from_dataset(pydicom.dcmread(files["report"]))
    (group,) = report.content.get_image_measurement_groups()
    images = [pydicom.dcmread(path) for kind, path in files.items() if kind.startswith("source")]
    assert group.finding_type.value == "52988006"
    numbers = {str(each.name.meaning): float(each.value) for each in group.get_measurements()}
    assert numbers == {
        "Probability": 0.84,
        "Probability of clear": 0.16,
        "Probability of lesion": 0.84,
        "Share of the draws that vote for the class": 0.84,
        "Vote entropy": 0.4397,
        "Probability entropy": 0.4397,
        "Ood score": 1.25,
        "Ood p value": 0.3,
    }
    for each in group.get_measurements()[:1]:
        low, high = each[0].ContentSequence[1].value, each[0].ContentSequence[0].value
        assert (0.84 - low, 0.84 + high) == pytest.approx((0.653, 0.936))
    evaluations = group.get_qualitative_evaluations()
    chosen = [str(each.value.meaning) for each in evaluations if each.name.value == "PREDICTION_SET"]
    assert chosen == ["clear", "Lesion"]
    # All slices of a series, in the order of their positions, which is not that of the files.
    referenced = [each.referenced_sop_instance_uid for each in group.source_images]
    assert sorted(referenced) == sorted(image.SOPInstanceUID for image in images)
    assert {uid for _, _, uid, _ in report.get_evidence()} == {image.SOPInstanceUID for image in images}
    text = report.to_json()
    for said in ("0123456789abcdef", "num_draws=25", "Not a medical device", "no window", "phantom_xray_diffusion"):
        assert said in text


def test_side_and_part_of_the_body(source):
    left, right = source(dicom_sources.mg()), source(dicom_sources.mg("r", side="R"))
    assert (left.laterality, right.laterality) == ("L", "R")
    series = set()
    for image, side, meaning in ((left, "L", "Left"), (right, "R", "Right")):
        report = structured_report(image, FINDING, ALGORITHM, when=WHEN)
        values = np.zeros((72, 56))
        drawn = secondary_capture(image, FINDING, ALGORITHM, values[..., None], values, when=WHEN)
        mapped = parametric_map(image, FINDING, ALGORITHM, values, when=WHEN)
        assert meaning in reopened(report).to_json() and drawn.Laterality == mapped.Laterality == side
        series |= {report.SeriesInstanceUID, drawn.SeriesInstanceUID, mapped.SeriesInstanceUID}
    assert len(series) == 6  # a series has one side


@pytest.mark.parametrize("name", SOURCES)
def test_map_holds_the_values(name, tmp_path):
    source = read_source(write_sources(tmp_path, name))
    slices = () if source.num_frames == 1 else (source.num_frames,)
    values = np.random.default_rng(3).normal(size=(*source.shape, *slices)).astype(np.float32)
    made = reopened(parametric_map(source, FINDING, ALGORITHM, values, when=WHEN))
    again = highdicom.pm.ParametricMap.from_dataset(made)
    frames = again.get_frames(apply_real_world_transform=False)
    mapped = again.get_frames(apply_real_world_transform=True)
    assert made.BitsAllocated == 32 and made.ContentQualification == "RESEARCH"
    references = [
        item.DerivationImageSequence[0].SourceImageSequence[0] for item in made.PerFrameFunctionalGroupsSequence
    ]
    # Frames lie in the order of their positions; each knows its slice.
    if len(source.instances) == 1:  # of an enhanced image the frames have numbers
        order = [int(item.get("ReferencedFrameNumber", 1)) - 1 for item in references]
    else:
        order = [source.instances.index(item.ReferencedSOPInstanceUID) for item in references]
    assert sorted(order) == list(range(source.num_frames))
    expected = np.moveaxis(values[:, :, None] if values.ndim == 2 else values, -1, 0)[order]
    np.testing.assert_array_equal(frames, expected)
    np.testing.assert_array_equal(mapped, expected)
    assert {item.SpatialLocationsPreserved for item in references} == {"YES"}


def test_map_lies_where_the_slices_do(source):
    image = source(*(dicom_sources.ct(number) for number in (1, 2, 3)))
    made = parametric_map(image, FINDING, ALGORITHM, np.zeros((32, 32, 3)), when=WHEN)
    shared = made.SharedFunctionalGroupsSequence[0]
    assert made.FrameOfReferenceUID == image.first.FrameOfReferenceUID
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == [0.8, 0.8]
    assert float(shared.PixelMeasuresSequence[0].SliceThickness) == 3
    heights = {str(header.SOPInstanceUID): header.ImagePositionPatient[2] for header in image.headers}
    for item in made.PerFrameFunctionalGroupsSequence:
        (reference,) = item.DerivationImageSequence[0].SourceImageSequence
        assert item.PlanePositionSequence[0].ImagePositionPatient[2] == heights[reference.ReferencedSOPInstanceUID]


def test_map_of_a_projection_has_a_frame_of_its_own(source):
    image = source(dicom_sources.cr())
    made = parametric_map(image, FINDING, ALGORITHM, np.zeros((60, 48)), when=WHEN)
    shared = made.SharedFunctionalGroupsSequence[0]
    assert "FrameOfReferenceUID" not in image.first and made.FrameOfReferenceUID.startswith("2.25.")
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == [0.2, 0.2]  # at the detector
    assert "SliceThickness" not in shared.PixelMeasuresSequence[0]
    assert list(shared.PlaneOrientationSequence[0].ImageOrientationPatient) == [1, 0, 0, 0, 0, -1]  # left, feet
    other = parametric_map(image, FINDING, replace(ALGORITHM, name="b"), np.zeros((60, 48)), when=WHEN)
    assert other.FrameOfReferenceUID == made.FrameOfReferenceUID and other.SOPInstanceUID != made.SOPInstanceUID


def test_maps_of_two_projections_of_a_series_are_in_two_series(source):
    """Each has a frame of reference of its own, and a series has one."""
    first, second = dicom_sources.cr(), dicom_sources.cr()
    second.SOPInstanceUID = second.file_meta.MediaStorageSOPInstanceUID = dicom_sources.uid("second")
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    made = [parametric_map(source(one), FINDING, ALGORITHM, np.zeros((60, 48)), when=WHEN) for one in (first, second)]
    assert len({one.FrameOfReferenceUID for one in made}) == len({one.SeriesInstanceUID for one in made}) == 2


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("StudyTime", "240000"),
        ("StudyDate", ["20200101", "20200102"]),
        ("PatientBirthDate", ["19500101", "19510101"]),
        ("PatientName", ["A^B", "C^D"]),
        ("ReferringPhysicianName", ["A^B", "C^D"]),
        ("AccessionNumber", ["a", "b"]),
        ("PatientID", ["a", "b"]),
        ("BodyPartExamined", ["CHEST", "ABDOMEN"]),
        ("PixelSpacing", [0, 0]),
        ("ImageOrientationPatient", [0, 0, 0, 0, 0, 0]),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
        ("InstanceNumber", "6442450941"),
    ],
)
def test_odd_headers_cost_no_results(tmp_path, keyword, value):
    image = dicom_sources.cr()
    path = tmp_path / "a.dcm"
    with pydicom.config.disable_value_validation():
        setattr(image, keyword, value)
        if keyword == "ImageOrientationPatient":
            image.ImagePositionPatient, image.FrameOfReferenceUID = [0, 0, 0], dicom_sources.uid("frame")
        pydicom.dcmwrite(path, image, enforce_file_format=True)
    made = dicom_files(path, ROW, CLASSES, ALGORITHM, np.zeros((60, 48)), when=WHEN)
    assert {"report", "map", "overlay"} <= set(made)
    for kind, content in made.items():
        (tmp_path / kind).write_bytes(content if isinstance(content, bytes) else to_bytes(content))
        if not missing_validators():
            assert found_by("dciodvfy", tmp_path / kind)[0] == [], kind


def test_a_class_called_none_is_no_empty_prediction_set():
    row, names = {"predicted": "none", "probability_none": 0.5, "probability_b": 0.5}, ["none", "b"]
    empty, held = (finding_of({**row, "prediction_set": chosen}, names) for chosen in ([], ["none"]))
    found = [[item.value.value for item in _prediction_set(one, None)] for one in (empty, held)]
    assert [len(one) for one in found] == [1, 1]
    assert found[0] != found[1] == ["NONE"]


def test_picture(source, tmp_path):
    image = source(dicom_sources.cr(monochrome1=True))
    shown = read_image_file(tmp_path / "0.dcm")
    values = np.zeros((60, 48))
    values[10:20, 10:20] = 1
    made = reopened(secondary_capture(image, FINDING, ALGORITHM, shown, values, when=WHEN))
    factor = made.Columns // 48
    assert made.Columns == 48 * factor >= 300 and made.Rows > 60 * factor
    pixels = made.pixel_array
    # Far from the map the picture is what a viewer shows of the image: MONOCHROME1 turned round.
    grey = pixels[30 * factor : 60 * factor, 24 * factor :].astype(float)
    assert np.ptp(grey, axis=-1).max() <= 1
    centres = grey[factor // 2 :: factor, factor // 2 :: factor, 0] / 255
    assert np.corrcoef(centres.ravel(), shown[30:, 24:, 0].ravel())[0, 1] > 0.9
    inside = pixels[14 * factor : 16 * factor, 14 * factor : 16 * factor].astype(int)
    assert (inside[..., 0] > inside[..., 2]).all()  # red: for the class
    strip = pixels[60 * factor :]
    assert ((strip == [255, 255, 0]).all(-1).any(axis=1)).sum() > 10  # text
    assert list(made.ImagerPixelSpacing) == pytest.approx([0.2 / factor] * 2) and "PixelSpacing" not in made
    assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == image.first.SOPInstanceUID
    assert "RESEARCH ONLY" in made.DerivationDescription and list(made.PatientOrientation) == ["L", "F"]


def test_picture_of_slices_shows_the_strongest(source):
    image = source(*(dicom_sources.ct(number) for number in (1, 2, 3)))
    values = np.zeros((32, 32, 3))
    values[:, :, 1] = 1
    made = secondary_capture(image, FINDING, ALGORITHM, np.zeros((32, 32, 3, 1)), values, when=WHEN)
    assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == image.instances[1]
    assert list(made.PatientOrientation) == ["L", "P"]
    factor = made.Columns // 32
    assert list(made.PixelSpacing) == pytest.approx([0.8 / factor] * 2)


def test_same_makes_same_and_other_other(tmp_path):
    dataset = dicom_sources.mg()
    pydicom.dcmwrite(tmp_path / "a.dcm", dataset, enforce_file_format=True)
    values = np.linspace(-1, 1, 72 * 56).reshape(72, 56)

    def files(**changed):
        given = {"row": ROW, "algorithm": ALGORITHM, "when": WHEN} | changed
        return dicom_files(tmp_path / "a.dcm", given["row"], CLASSES, given["algorithm"], values, when=given["when"])

    first = files()
    assert files() == first and set(first) == {"report", "map", "overlay"}
    uids = {pydicom.dcmread(BytesIO(content)).SOPInstanceUID for content in first.values()}
    for changed in (
        {"row": {**ROW, "probability_lesion": 0.85}},
        {"algorithm": replace(ALGORITHM, weights="other")},
        {"when": datetime(2026, 1, 2, 3, 4, 6)},
    ):
        other = {pydicom.dcmread(BytesIO(content)).SOPInstanceUID for content in files(**changed).values()}
        assert not uids & other


def test_without_maps_there_is_a_report(tmp_path):
    (path,) = write_sources(tmp_path, "dx")
    assert set(dicom_files(path, ROW, CLASSES, ALGORITHM, None, when=WHEN)) == {"report"}


@pytest.mark.parametrize(
    ("make", "keyword", "value"),
    [
        ("dx", "PatientOrientation", ["L"]),
        ("dx", "ImagerPixelSpacing", [0.5]),
        ("ct", "ImagePositionPatient", [1.0, 2.0]),
        ("ct", "ImageOrientationPatient", [1.0, 0.0, 0.0, 0.0, 1.0]),
        ("cr", "PatientName", ["A", "B"]),
    ],
)
def test_a_header_that_breaks_the_standard_ends_in_one_line_or_in_objects(tmp_path, make, keyword, value):
    dataset = getattr(dicom_sources, make)()
    setattr(dataset, keyword, value)
    path = tmp_path / "a.dcm"
    with pydicom.config.disable_value_validation():
        pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    values = np.zeros((int(dataset.Rows), int(dataset.Columns)))
    try:
        assert "report" in dicom_files(path, ROW, CLASSES, ALGORITHM, values, when=WHEN)
    except ValueError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)


def test_hostile_and_strange_headers(source, tmp_path):
    image = dicom_sources.cr()
    image.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    image.PatientName = "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce"
    image.AccessionNumber = "=cmd"
    image.add_new(0x00100040, "CS", "UNKNOWN")
    image.add_new(0x00091001, "UN", b"\xff" * 9)
    del image.StudyID
    read = source(image)
    row = {**ROW, "warnings": "bad\x00\\text\x1b[2J" + "x" * 2000}
    name = '<script>"\\\x00' + "é" * 80
    finding = finding_of({**row, "predicted": name, f"probability_{name}": 0.5, "probability_b": 0.5}, [name, "b"])
    odd = replace(ALGORITHM, name="bundle\\\x07" + "y" * 99)
    values = np.zeros(read.shape)
    for made in (
        structured_report(read, finding, odd, when=WHEN),
        parametric_map(read, finding, odd, values, when=WHEN),
        secondary_capture(read, finding, odd, values[..., None], values, when=WHEN),
    ):
        path = tmp_path / "made.dcm"
        path.write_bytes(to_bytes(made))
        again = pydicom.dcmread(path)
        assert str(again.PatientName) == "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce" and again.PatientSex == ""
        assert "\x00" not in str(again) and len(again.ManufacturerModelName) == 64
        if not missing_validators():
            assert found_by("dciodvfy", path)[0] == []


def test_what_is_refused(source, tmp_path):
    image = source(dicom_sources.cr())
    with pytest.raises(ValueError, match=r"values: expected a map of 1 frame\(s\) of 60 x 48 pixels"):
        parametric_map(image, FINDING, ALGORITHM, np.zeros((48, 60)), when=WHEN)
    with pytest.raises(ValueError, match="values: expected finite numbers"):
        parametric_map(image, FINDING, ALGORITHM, np.full((60, 48), np.nan), when=WHEN)
    with pytest.raises(ValueError, match="values: expected a map as large as the image"):
        secondary_capture(image, FINDING, ALGORITHM, np.zeros((60, 48, 1)), np.zeros((6, 4)), when=WHEN)
    with pytest.raises(ValueError, match="expected files of one StudyInstanceUID"):
        source(dicom_sources.cr(), dicom_sources.cr("b"))
    with pytest.raises(ValueError, match="each image once"):
        source(dicom_sources.ct(), dicom_sources.ct())
    with pytest.raises(ValueError, match="paths: expected at least one"):
        read_source([])
    nameless = dicom_sources.cr()
    nameless.StudyInstanceUID = ""
    with pytest.raises(ValueError, match="expected a StudyInstanceUID, by which results refer to the image"):
        source(nameless)
    unknown = dicom_sources.cr()
    unknown.SOPClassUID = "1.2.3.4"
    with pytest.raises(ValueError, match="of a class that highdicom knows"):
        structured_report(source(unknown), FINDING, ALGORITHM, when=WHEN)
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: expected a"):
        read_source(tmp_path / "a.png")
    with pytest.raises(ValueError, match="row: expected the row of an image classified"):
        finding_of({"error": "not read"}, CLASSES)


def test_parts_of_the_body_and_sides(source):
    for body, written, side in (("WHOLE BODY", "WHOLEBODY", None), ("KNEE", "KNEE", ""), ("", None, "")):
        image = dicom_sources.cr()
        image.BodyPartExamined = body
        made = parametric_map(source(image), FINDING, ALGORITHM, np.zeros((60, 48)), when=WHEN)
        assert (made.get("BodyPartExamined"), made.get("Laterality")) == (written, side)

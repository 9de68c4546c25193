"""Results of volumes: the map lies where the source's slices do, and one slice is picked out."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pydicom
import pytest

highdicom = pytest.importorskip("highdicom", reason="highdicom is not installed")

from monai_diffclf.dicom_out import dicom_files, key_objects, read_volume_source, to_bytes  # noqa: E402
from monai_diffclf.image_io import ReadVolume, read_image_file  # noqa: E402
from tools import dicom_sources  # noqa: E402
from tools.dicom_sources import VOLUMES, write_sources  # noqa: E402
from tools.validate_dicom import (  # noqa: E402
    ALGORITHM,
    CLASSES,
    ROW,
    WHEN,
    make_objects,
    missing_validators,
    validate_together,
)


def written(folder, name):
    """Path of a volume: a folder of slices, or a file."""
    paths = write_sources(folder / name, name)
    return paths[0] if len(paths) == 1 else folder / name


def objects(path, values):
    made = dicom_files(path, ROW, CLASSES, ALGORITHM, values, when=WHEN, volume=True)
    return {kind: pydicom.dcmread(BytesIO(content)) for kind, content in made.items()}


def grid_of(mapped):
    """Voxels [column, row, slice] of a map and their affine to mm, RAS, as highdicom understands the file."""
    volume = highdicom.pm.ParametricMap.from_dataset(mapped).get_volume(apply_real_world_transform=False)
    # highdicom counts slices, rows and columns, and millimetres to the left and the back.
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine @ np.eye(4)[[2, 1, 0, 3]]
    return volume.array.transpose(2, 1, 0), affine


def in_order(values, affine, like):
    """Slices turned round where they are counted from the other end."""
    if np.dot(affine[:3, 2], like[:3, 2]) > 0:
        return values, affine
    turned = affine.copy()
    turned[:3, 3] += affine[:3, 2] * (values.shape[2] - 1)
    turned[:3, 2] *= -1
    return values[:, :, ::-1], turned


@pytest.mark.parametrize("name", VOLUMES)
def test_map_lies_on_the_voxels_that_were_read(name, tmp_path):
    path = written(tmp_path, name)
    image = ReadVolume()(path)
    values = np.random.default_rng(5).normal(size=tuple(image.shape[1:])).astype(np.float32)
    mapped = objects(path, values)["map"]
    found, affine = in_order(*grid_of(mapped), image.affine.numpy())
    np.testing.assert_array_equal(found, values)
    np.testing.assert_allclose(affine, image.affine.numpy(), atol=1e-4)
    source = read_volume_source(path).source
    assert mapped.FrameOfReferenceUID == source.first.FrameOfReferenceUID
    assert mapped.NumberOfFrames == values.shape[2] == source.num_frames


@pytest.mark.parametrize("name", VOLUMES)
def test_report_refers_to_all_slices(name, tmp_path):
    path = written(tmp_path, name)
    report = highdicom.sr.ComprehensiveSR.from_dataset(objects(path, None)["report"])
    instances = read_volume_source(path).source.instances
    (group,) = report.content.get_image_measurement_groups()
    assert [each.referenced_sop_instance_uid for each in group.source_images] == instances
    assert {uid for _, _, uid, _ in report.get_evidence()} == set(instances)


@pytest.mark.parametrize("name", VOLUMES)
def test_picture_and_note_are_of_the_slice_that_speaks_most(name, tmp_path):
    path = written(tmp_path, name)
    volume = read_volume_source(path)
    columns, rows, count = ReadVolume()(path).shape[1:]
    values = np.full((columns, rows, count), 0.01)
    values[:, :, 0] = -1  # against the class, however much
    values[3:6, 4:9, 1] = 0.5
    picture = objects(path, values)["overlay"]
    place = volume.frames[1]
    (reference,) = picture.SourceImageSequence
    assert f"slice {place + 1} of {count}" in picture.DerivationDescription
    one = volume.source.slice_at(place)
    note = pydicom.dcmread(BytesIO(to_bytes(key_objects([one], ["lesion"], ALGORITHM, when=WHEN))))
    (item,) = highdicom.ko.KeyObjectSelectionDocument.from_dataset(note).content.get_references()
    assert item.referenced_sop_instance_uid == reference.ReferencedSOPInstanceUID == one.instances[0]
    frames = item.ReferencedSOPSequence[0].get("ReferencedFrameNumber")
    assert frames == reference.get("ReferencedFrameNumber") == (place + 1 if len(volume.files) == 1 else None)
    assert "the slice in which the map speaks most for it" in note.to_json()
    # Far from the map the picture is what a viewer shows of that slice.
    shown = read_image_file(volume.files[place] if len(volume.files) > 1 else path)
    shown = shown[:, :, 0] if len(volume.files) > 1 else shown[:, :, place, 0]
    factor = picture.Columns // columns
    centres = picture.pixel_array[factor // 2 :: factor, factor // 2 :: factor, 0][12:rows, 8:columns] / 255
    assert np.corrcoef(centres.ravel(), shown[12:, 8:].ravel())[0, 1] > 0.9


@pytest.mark.parametrize("name", VOLUMES)
def test_objects_of_a_study_agree(name, tmp_path):
    if absent := missing_validators():
        pytest.skip(f"not installed: {', '.join(absent)} (dicom3tools, dcmtk)")
    found = validate_together(make_objects(tmp_path, name))
    assert found["dcentvfy"]["errors"] == []


def test_another_size_or_slice_is_refused(tmp_path):
    path = written(tmp_path, "ct_oblique")
    with pytest.raises(ValueError, match=r"values: expected a map of \[30, 24, 4\] voxels, got \[24, 30, 4\]"):
        objects(path, np.zeros((24, 30, 4)))
    with pytest.raises(ValueError, match="place: expected one of 4 slices, from 0, got 4"):
        read_volume_source(path).source.slice_at(4)
    (path / "ct_oblique_3.dcm").unlink()
    with pytest.raises(
        ValueError, match=r"ct_oblique: expected slices at equal distances, got distances from 2 to 4 mm"
    ):
        read_volume_source(path)


def test_slices_without_a_frame_of_reference_have_no_map(tmp_path):
    (tmp_path / "ct").mkdir()
    for number in (1, 2):
        dataset = dicom_sources.ct(number)
        del dataset.FrameOfReferenceUID
        pydicom.dcmwrite(tmp_path / "ct" / f"{number}.dcm", dataset, enforce_file_format=True)
    assert set(objects(tmp_path / "ct", None)) == {"report"}
    with pytest.raises(ValueError, match="ct: .*without positions and a frame of reference"):
        objects(tmp_path / "ct", np.zeros((32, 32, 2)))

"""Which images are taken, what they are called, and in which order they come."""

from __future__ import annotations

import os

import numpy as np
import pytest

from monai_diffclf.archive import find_archive
from tests.archive.conftest import write_pictures

AXIAL = [1, 0, 0, 0, 1, 0]


def keys(*sources, **options):
    return [image.key for image in find_archive([str(source) for source in sources], **options)]


def test_folder_gives_paths_in_it_and_a_file_its_name(tmp_path):
    write_pictures(tmp_path / "a" / "b", 2)
    assert keys(tmp_path / "a") == ["b/scan 0.png", "b/scan 1.png"]
    assert keys(tmp_path / "a" / "b" / "scan 1.png") == ["scan 1.png"]


def test_equal_names_in_two_folders_stay_apart_and_keep_the_order_given(tmp_path):
    for name in ("a", "b"):
        write_pictures(tmp_path / name, 1)
    assert keys(tmp_path / "b", tmp_path / "a") == ["b/scan 0.png", "a/scan 0.png"]


def test_what_is_given_twice_is_taken_once_where_it_is_met_first(tmp_path):
    first, second = write_pictures(tmp_path / "a", 2)
    os.symlink(tmp_path / "a", tmp_path / "link")
    with pytest.warns(UserWarning, match="taken once"):
        assert keys(second, tmp_path / "a", first) == ["a/scan 1.png", "a/scan 0.png"]
    with pytest.warns(UserWarning, match="taken once"):
        found = find_archive([tmp_path / "a", tmp_path / "link", tmp_path / "a"])
    assert [image.key for image in found] == ["a/scan 0.png", "a/scan 1.png"]


def test_output_folder_is_left_out(tmp_path):
    write_pictures(tmp_path, 1)
    write_pictures(tmp_path / "out" / "maps", 3)
    assert keys(tmp_path, output=tmp_path / "out") == ["scan 0.png"]


@pytest.mark.parametrize(
    ("sources", "message"),
    [([], "at least one"), (["no such"], "no such does not exist"), (["notes.txt"], "notes.txt")],
)
def test_refuses_what_is_no_image(tmp_path, monkeypatch, sources, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(ValueError, match=message):
        find_archive(sources)


def test_other_files_of_a_folder_are_named(tmp_path):
    write_pictures(tmp_path / "a", 1)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    with pytest.warns(UserWarning, match=r"1 left out beside 1 images: notes\.txt"):
        find_archive([tmp_path / "a"])


def test_slices_of_a_series_are_together_in_the_order_of_their_positions(tmp_path, write_dicom):
    folder = tmp_path / "a"
    write_pictures(folder, 1, name="b.png")
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for name, series, height in (("a", "1.2", 20.0), ("c", "1.3", 5.0), ("d", "1.2", 10.0), ("e", "1.2", -5.5)):
        place = {"ImagePositionPatient": [0, 0, height], "ImageOrientationPatient": AXIAL}
        write_dicom(folder / f"{name}.dcm", pixels, SeriesInstanceUID=series, **place)
    found = find_archive([folder])
    assert [image.key for image in found] == ["e.dcm", "d.dcm", "a.dcm", "b.png", "c.dcm"]
    assert [None if image.series is None else (image.series.series, image.series.number) for image in found] == [
        ("1.2", 1),
        ("1.2", 2),
        ("1.2", 3),
        None,
        None,  # a series of one file is a picture
    ]


def test_slices_without_positions_come_by_their_numbers(tmp_path, write_dicom):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for name, number in (("a", 12), ("b", 3), ("c", 7)):
        write_dicom(tmp_path / f"{name}.dcm", pixels, SeriesInstanceUID="1.2", InstanceNumber=number)
    assert keys(tmp_path) == ["b.dcm", "c.dcm", "a.dcm"]


def test_images_of_one_uid_are_named(tmp_path, write_dicom, recwarn):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    write_dicom(tmp_path / "a.dcm", pixels, SOPInstanceUID="1.2.3")
    write_dicom(tmp_path / "b.dcm", pixels)
    assert len(find_archive([tmp_path])) == 2 and not recwarn
    write_dicom(tmp_path / "c.dcm", pixels[::-1], SOPInstanceUID="1.2.3", SeriesInstanceUID="1.4")
    with pytest.warns(UserWarning, match="got one twice: .*c.dcm has that of .*a.dcm. Each file is classified"):
        assert len(find_archive([tmp_path])) == 3


def test_a_folder_of_slices_is_another_once_a_slice_in_it_is(tmp_path, write_dicom):
    """Also where the sum of sizes and the newest time are as before."""
    (folder := tmp_path / "scan").mkdir()
    for name, time in (("a.dcm", 1_000), ("b.dcm", 2_000), ("c.dcm", 3_000)):
        write_dicom(folder / name, np.arange(64, dtype=np.uint8).reshape(8, 8), SeriesInstanceUID="1.2")
        os.utime(folder / name, ns=(time, time))

    def state() -> tuple[int, int]:
        (image,) = find_archive([folder], volumes=True)
        assert image.key == "scan"
        return image.size, image.modified

    before = state()
    assert state() == before
    assert before[0] == sum(file.stat().st_size for file in folder.iterdir())
    os.utime(folder / "b.dcm", ns=(500, 500))
    older = state()
    (folder / "a.dcm").rename(folder / "d.dcm")
    renamed = state()
    assert before[0] == older[0] == renamed[0]
    assert len({before[1], older[1], renamed[1]}) == 3

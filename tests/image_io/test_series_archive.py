"""ZIP files of a series: opened as the folder of its slices, and whatever else they hold is refused in one line."""

from __future__ import annotations

import stat
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from monai_diffclf.archive import find_archive
from monai_diffclf.data import find_images
from monai_diffclf.image_io import ReadVolume, read_image_file
from monai_diffclf.image_io import series_archive as module
from monai_diffclf.image_io.series_archive import series_folder
from monai_diffclf.image_io.volume_file import read_volume_file, read_volume_grid
from tests.volume_fixtures import phantom, write_series


@pytest.fixture
def series(tmp_path):
    return write_series(tmp_path / "series", (phantom().transpose(2, 1, 0) + 1024) // 2)


@pytest.fixture
def pack(series, tmp_path):
    """Function that writes a ZIP of the series' files and others: name or entry -> content."""

    def make(others=None, *, below="", method=zipfile.ZIP_DEFLATED, files=True):
        path = tmp_path / "scan.zip"
        with zipfile.ZipFile(path, "w", method) as archive:
            for file in sorted(series.iterdir()) if files else ():
                archive.write(file, below + file.name)
            for name, content in (others or {}).items():
                archive.writestr(name, content)
        return path

    return make


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path, monkeypatch):
    """What is unpacked goes into a folder of the test's, which is empty in the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert not list(folder.iterdir())


@pytest.mark.parametrize("below", ["", "study/series 1/"])
def test_it_is_the_folder_of_its_slices(below, pack, series):
    others = {"__MACOSX/._IM0": b"x", ".DS_Store": b"x", "DICOMDIR": b"x", "study/": b""}
    path = pack(others, below=below)
    whole, one = read_volume_file(series), read_volume_file(path)
    np.testing.assert_array_equal(one.values, whole.values)
    np.testing.assert_array_equal(one.grid.affine, whole.grid.affine)
    np.testing.assert_array_equal(read_volume_grid(path).affine, whole.grid.affine)
    assert ReadVolume()(path).meta["filename_or_obj"] == str(path)


def test_a_zip_is_one_image_where_volumes_are_asked_for(pack, series, tmp_path):
    path = pack()
    assert [item["key"] for item in find_images(tmp_path, volumes=True)] == ["scan.zip", "series"]
    assert [item["key"] for item in find_images(path, volumes=True)] == ["scan.zip"]
    assert [image.key for image in find_archive([path], volumes=True)] == ["scan.zip"]
    with pytest.warns(UserWarning, match=r"scan\.zip \(no image that can be read\)"):
        assert len(find_images(tmp_path)) == len(list(series.iterdir()))
    with pytest.raises(ValueError, match="a ZIP file is read as a volume only"):
        read_image_file(path)


def entry(name, mode=stat.S_IFREG):
    made = zipfile.ZipInfo(name)
    made.external_attr = mode << 16
    return made


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ({"../evil.dcm": b"x"}, r"'\.\./evil\.dcm': its name leads out of the folder"),
        ({"a/../../evil.dcm": b"x"}, "its name leads out of the folder"),
        ({"/etc/evil.dcm": b"x"}, "its name is a path from a root"),
        ({"C:evil.dcm": b"x"}, "its name is a path from a root"),
        ({"..\\evil.dcm": b"x"}, "its name is a path from a root"),
        ({"a\x1b[2J.dcm": b"x"}, "its name holds a control character"),
        ({entry("link.dcm", stat.S_IFLNK): b"/etc/passwd"}, "it is a link or no file"),
        ({entry("pipe.dcm", stat.S_IFIFO): b""}, "it is a link or no file"),
        ({"inner.zip": b"PK\3\4" + bytes(500)}, r"'inner\.zip', which is no DICOM file"),
        ({"README.txt": b"hello"}, r"'README\.txt', which is no DICOM file"),
        ({"scan.dcm": b"\x89PNG\r\n\x1a\n" + bytes(500)}, "which is no DICOM file"),
    ],
)
def test_what_is_refused(others, reason, pack, tmp_path):
    path = pack(others)
    with pytest.raises(ValueError, match=rf"scan\.zip: cannot be read as a volume: expected .*{reason}") as caught:
        read_volume_file(path)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)
    assert not list(tmp_path.rglob("evil*"))


def test_other_methods_and_encryption_are_refused(pack):
    with pytest.raises(ValueError, match="it is packed in another way"):
        read_volume_file(pack(method=zipfile.ZIP_LZMA))
    path = pack()
    content = bytearray(path.read_bytes())
    place = content.rfind(b"PK\1\2")
    content[place + 8] |= 1  # the flag of encryption in the list of files
    path.write_bytes(content)
    with pytest.raises(ValueError, match="it is encrypted"):
        read_volume_file(path)


def test_bombs_are_refused_before_they_are_unpacked(pack, monkeypatch):
    opened = []
    path = pack({"bomb.dcm": bytes(80_000_000)})
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *args, **more: opened.append(args))
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match=r"expected at most 67,188,864 bytes in the ZIP file, got 80,0\d\d,\d\d\d"):
        read_volume_file(path, max_pixels=10_000)
    monkeypatch.setattr(module, "MAX_FILES", 5)
    with pytest.raises(ValueError, match="expected at most 5 files in the ZIP file, got 11"):
        read_volume_file(path)
    assert not opened


def test_a_size_that_is_a_lie_does_not_help(pack):
    path = pack({"bomb.dcm": bytes(1_000_000)})
    content = bytearray(path.read_bytes())
    place = content.rfind(b"PK\1\2")
    content[place + 24 : place + 28] = struct.pack("<I", 10)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="the ZIP file is damaged"):
        read_volume_file(path)


def test_a_long_list_of_files_is_not_read(pack, monkeypatch):
    path = pack()
    content = bytearray(path.read_bytes())
    content[-10:-6] = struct.pack("<I", 2**23)  # the length of the list, as the record at the end states it
    path.write_bytes(content)
    with pytest.raises(ValueError, match="got a list of 8,388,608 bytes"):
        read_volume_file(path)
    content[-22:-22] = b"PK\6\7" + bytes(16)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="got a ZIP64 file"):
        read_volume_file(path)


def test_damaged_and_empty_files_are_refused(pack, tmp_path):
    path = pack()
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.raises(ValueError, match="got one that is none, or is cut off"):
        read_volume_file(path)
    path.write_bytes(whole[:400] + b"\xff" * 50 + whole[450:])
    with pytest.raises(ValueError, match="the ZIP file is damaged"):
        read_volume_file(path)
    (tmp_path / "a.zip").write_bytes(b"")
    with pytest.raises(ValueError, match="got one that is none"):
        read_volume_file(tmp_path / "a.zip")
    with pytest.raises(ValueError, match="got no files"):
        read_volume_file(pack(files=False))


def test_two_series_or_a_gap_are_refused_as_in_a_folder(pack, tmp_path):
    other = write_series(tmp_path / "other", (phantom().transpose(2, 1, 0) + 1024) // 2, Modality="MR")
    with pytest.raises(ValueError, match="expected one series .* got 2") as caught:
        read_volume_file(pack({f"b/{file.name}": file.read_bytes() for file in other.iterdir()}))
    assert "temporary" not in str(caught.value)
    gap = write_series(tmp_path / "gap", (phantom().transpose(2, 1, 0) + 1024) // 2, lambda n, dataset: n != 4)
    with pytest.raises(ValueError, match=r"between \d{5}_IM\d{4}\.dcm and \d{5}_IM\d{4}\.dcm"):
        read_volume_file(pack({file.name: file.read_bytes() for file in gap.iterdir()}, files=False))


def test_another_path_stays_as_it_is(series):
    with series_folder(series) as folder:
        assert folder == Path(series)

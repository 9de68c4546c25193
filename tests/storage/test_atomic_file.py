"""Files are replaced as a whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from monai_diffclf.storage.atomic_file import begun_beside, replace_text, replaced


@pytest.mark.parametrize("shared", [False, True])
def test_the_file_appears_at_the_end(tmp_path, shared):
    path = tmp_path / "new" / "file.bin"
    with replaced(path, shared=shared) as temporary:
        temporary.write_bytes(b"half")
        assert not path.exists() and temporary.parent == path.parent
        temporary.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"
    assert os.listdir(path.parent) == ["file.bin"]


@pytest.mark.parametrize("shared", [False, True])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, shared):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"), replaced(path, shared=shared) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_what_a_kill_left_is_overwritten(tmp_path):
    path = tmp_path / "file.txt"
    (tmp_path / ".file.txt.tmp").write_text("left behind by a process that was killed")
    with replaced(path) as temporary:
        temporary.write_text("new")
    assert os.listdir(tmp_path) == ["file.txt"]


def test_two_writers_of_a_shared_file_do_not_meet(tmp_path):
    path = tmp_path / "file.txt"
    with replaced(path, shared=True) as first, replaced(path, shared=True) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first", "the last to end counts"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_text_is_utf8_and_others_may_read_it(tmp_path):
    path = tmp_path / "file.txt"
    replace_text(path, "Größe\n")
    assert path.read_bytes() == "Größe\n".encode()
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_torch_that_could_not_write_says_which_file(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_text("old")
    with pytest.raises(OSError, match="could not write .*weights.pt: no space left"), replaced(path) as temporary:
        temporary.write_text("ha")
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")
    assert path.read_text() == "old"
    with pytest.raises(RuntimeError, match="another"), replaced(path):
        raise RuntimeError("another")
    assert [file.name for file in tmp_path.iterdir()] == ["weights.pt"]


def left_behind(path: Path) -> Path:
    """A temporary file as of a process that was killed an hour ago."""
    path.write_text("half")
    os.utime(path, (path.stat().st_mtime - 3600,) * 2)
    return path


def test_what_killed_processes_left_of_a_shared_file_goes(tmp_path):
    stay = [".other.txt.0123abcd.tmp", ".file.txt.notahexa.tmp", ".file.txt.tmp", "file.txt.0123abcd.tmp"]
    for name in [".file.txt.0123abcd.tmp", ".file.txt.456789ef.tmp", *stay]:
        left_behind(tmp_path / name)
    replace_text(tmp_path / "file.txt", "new")
    assert sorted(os.listdir(tmp_path)) == sorted(["file.txt", *stay])


def test_what_a_living_process_writes_of_a_shared_file_stays(tmp_path):
    path = tmp_path / "file.txt"
    with replaced(path, shared=True) as slow:
        left_behind(slow)  # it has not written for an hour, and will
        (tmp_path / ".file.txt.0123abcd.tmp").touch()  # of a process younger than this one, where nothing can be locked
        replace_text(path, "fast")
        assert len(os.listdir(tmp_path)) == 3
    assert path.read_text() == "half"


def test_a_link_with_a_temporary_name_is_not_followed(tmp_path):
    (tmp_path / "away").mkdir()
    (tmp_path / "here").mkdir()
    left_behind(tmp_path / "away" / "mine")
    (tmp_path / "here" / ".made.0123abcd.tmp").symlink_to(tmp_path / "away")
    os.utime(tmp_path / "here" / ".made.0123abcd.tmp", (0, 0), follow_symlinks=False)
    with begun_beside(tmp_path / "here" / "made", folder=True) as made:
        made.rmdir()
    assert (tmp_path / "away" / "mine").is_file()


@pytest.mark.parametrize("shared", [False, True])
def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path, shared):
    with pytest.raises(FileNotFoundError) as caught, replaced(tmp_path / "file.txt", shared=shared) as temporary:
        temporary.unlink(missing_ok=True)
        temporary.read_bytes()
    assert caught.value.filename == str(tmp_path / "file.txt")


def test_a_file_that_cannot_be_begun_is_named(tmp_path, monkeypatch):
    def full(path, *given):
        raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(OSError, match="No space left") as caught:
        replace_text(tmp_path / "file.txt", "new")
    assert caught.value.filename == str(tmp_path / "file.txt")

"""One writer at a time, and none left behind by a process that was killed."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from monai_diffclf.storage import ErrorsJournal
from monai_diffclf.storage.folder_lock import FolderLock

REFUSED = "is being written by another process; wait for it, or name another folder"
HOLD = """
import sys, time
from monai_diffclf.storage.folder_lock import FolderLock
lock = FolderLock(sys.argv[1]); lock.acquire(); print("held", flush=True); time.sleep(60)
"""
SETTINGS = {"provenance": {"seed": 0}, "num_classes": 2, "num_draws": 3}


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock of a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_another_process_is_refused_until_it_is_killed(other, tmp_path):
    with pytest.raises(ValueError, match=REFUSED):
        FolderLock(tmp_path).acquire()
    with pytest.raises(ValueError, match=REFUSED):
        ErrorsJournal(tmp_path, **SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    other.kill()
    other.wait()
    assert (tmp_path / ".lock").exists()
    with FolderLock(tmp_path):
        pass
    with ErrorsJournal(tmp_path, **SETTINGS) as journal:
        assert len(journal) == 0


def test_nothing_is_left(tmp_path):
    with FolderLock(tmp_path / "a" / "b"):
        pass
    assert list((tmp_path / "a" / "b").iterdir()) == []
    FolderLock(tmp_path).release()  # of a lock that is not held


def test_another_thread_gives_the_lock_back(tmp_path):
    lock = FolderLock(tmp_path)
    lock.acquire()
    thread = threading.Thread(target=lock.release)
    thread.start()
    thread.join()
    with FolderLock(tmp_path):
        pass


def test_a_journal_is_written_by_one(tmp_path):
    with ErrorsJournal(tmp_path, **SETTINGS) as journal, pytest.raises(ValueError, match=REFUSED):
        journal.append(["00"], torch.ones(1, 2, 3), predicted=[0], network_evaluations=[6], decided=[True])
        ErrorsJournal(tmp_path, **SETTINGS)
    with ErrorsJournal(tmp_path, rank=0, num_ranks=2, **SETTINGS) as journal:
        assert "00" in journal
        with ErrorsJournal(tmp_path, rank=1, num_ranks=2, **SETTINGS) as second:  # of the same evaluation
            assert "00" in second
        journal.remove()
    assert not Path(tmp_path).exists()


def test_errors_that_were_changed_are_not_handed_out(tmp_path):
    with ErrorsJournal(tmp_path, **SETTINGS) as journal:
        values = torch.arange(12.0).reshape(2, 2, 3)
        journal.append(["00", "01"], values, predicted=[0, 1], network_evaluations=[6, 6], decided=[True, True])
        path = tmp_path / "errors_rank_0.f32"
        content = bytearray(path.read_bytes())
        content[30] ^= 1
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"errors_rank_0\.f32 was changed while it was in use; run the same"):
            journal.get(["01"])
    with pytest.warns(UserWarning, match="dropped 1 bad rows"), ErrorsJournal(tmp_path, **SETTINGS) as journal:
        assert "00" in journal and "01" not in journal

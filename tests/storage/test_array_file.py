"""Files of results: those that bundles ship stay readable, and are written as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monai_diffclf.storage import load_errors, load_likelihoods
from monai_diffclf.storage.array_file import read_arrays, write_arrays

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
SHIPPED = sorted(BUNDLES.glob("*/docs/evaluation/*test_seed_0.npz"))
RENAMED = {"log_likelihood": "probe_log_likelihood"}


@pytest.mark.parametrize("path", SHIPPED, ids=[f"{path.parts[-4]}-{path.stem}" for path in SHIPPED])
def test_shipped_files_are_written_as_they_were(path, tmp_path):
    stored = load_likelihoods(path) if path.name.startswith("likelihoods") else load_errors(path)
    stored.save(tmp_path / "again.npz")
    with np.load(path) as before, np.load(tmp_path / "again.npz") as after:
        assert [RENAMED.get(name, name) for name in before.files] == after.files
        for old, name in zip(before.files, after.files, strict=True):
            assert before[old].dtype == after[name].dtype
            assert before[old].tobytes() == after[name].tobytes(), name


def test_both_kinds_are_shipped():
    assert len({path.name.split("_")[0] for path in SHIPPED}) == 2


def test_faults_name_the_file_and_who_writes_such(tmp_path):
    path = tmp_path / "x.npz"
    write_arrays(path, {"a": np.arange(3)})
    assert read_arrays(path, lambda arrays: arrays["a"].tolist(), written_by="me") == [0, 1, 2]
    with pytest.raises(ValueError, match=r"path: expected a file written by me, got .*x\.npz: it has no array 'b'"):
        read_arrays(path, lambda arrays: arrays["b"], written_by="me")
    (tmp_path / "text.npz").write_text("rows and columns")
    with pytest.raises(ValueError, match=r"by me, got .*text\.npz: it is none of NumPy's$"):
        read_arrays(tmp_path / "text.npz", dict, written_by="me")
    path.write_bytes(path.read_bytes()[:50])
    for broken in (path, tmp_path / "absent.npz"):
        with pytest.raises(ValueError, match=rf"path: expected a file written by me, got .*{broken.stem}\.npz"):
            read_arrays(broken, dict, written_by="me")

"""Weights that were trained here: kept whole or not at all, one of them served."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from monai_diffclf.monailabel.trained_weights import BUNDLE, TrainedWeights


def train(weights: TrainedWeights, content: bytes) -> str:
    """What a training does to the folder."""
    run = weights.begin() / "run"
    run.mkdir()
    (run / "model.pt").write_bytes(content)
    return weights.add(run, {"labels": {}, "weights": {"network": "abc"}})


def test_versions_are_kept_and_selectable(tmp_path: Path) -> None:
    weights = TrainedWeights(tmp_path, "films")
    assert weights.versions() == [] and weights.served() == BUNDLE and weights.run_of(BUNDLE) is None
    assert [train(weights, b"1"), train(weights, b"2")] == ["0001", "0002"] and weights.served() == BUNDLE
    weights.select("0001")
    assert weights.served() == "0001" and weights.run_of("0001") == tmp_path / "models" / "films" / "0001"
    assert weights.note("0002")["weights"]["network"] == "abc"
    weights.select(BUNDLE)
    assert weights.served() == BUNDLE and weights.versions() == ["0001", "0002"]
    with pytest.raises(ValueError, match=r"expected one of \['bundle', '0001', '0002'\], got '0003'"):
        weights.select("0003")


def test_half_of_a_training_is_never_there(tmp_path: Path) -> None:
    weights = TrainedWeights(tmp_path, "films")
    train(weights, b"1")
    run = weights.begin() / "run"  # killed here
    run.mkdir()
    (run / "model.pt").write_bytes(b"half")
    left = tmp_path / "models" / "films" / "0002"  # or a folder without its note
    left.mkdir()
    (left / "model.pt").write_bytes(b"half")
    assert TrainedWeights(tmp_path, "films").versions() == ["0001"]
    assert train(weights, b"2") == "0002" and weights.run_of("0002") is not None


SERVER = """
import subprocess, sys, time
from pathlib import Path
from monai_diffclf.monailabel.trained_weights import TrainedWeights
weights = TrainedWeights(Path(sys.argv[1]), "films")
folder = weights.begin()
code = "import time; open('half', 'w').close(); time.sleep(60)"
training = subprocess.Popen([sys.executable, "-c", code], cwd=folder, pass_fds=[weights.lock.fileno()])
while not (folder / "half").exists():
    time.sleep(0.05)
print(training.pid, flush=True)
time.sleep(60)
"""


def test_a_training_holds_its_folder_for_as_long_as_it_runs(tmp_path: Path) -> None:
    train(weights := TrainedWeights(tmp_path, "films"), b"1")
    weights.end()
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    training = int(server.stdout.readline())
    server.kill()  # its training goes on for a while
    server.wait()
    other = TrainedWeights(tmp_path, "films")
    try:
        with pytest.raises(ValueError, match="train: films is being trained by another server of"):
            other.begin()
        assert (other.running / "half").exists()
        TrainedWeights(tmp_path, "others").begin()  # of other weights
    finally:
        os.kill(training, signal.SIGKILL)
        server.stdout.close()
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            assert list(other.begin().iterdir()) == []
            break
        except ValueError:  # the system has not ended it yet
            time.sleep(0.05)
    assert train(other, b"2") == "0002" and other.versions() == ["0001", "0002"]


def test_weights_that_were_changed_are_refused(tmp_path: Path) -> None:
    weights = TrainedWeights(tmp_path, "films")
    train(weights, b"1")
    weights.select("0001")
    file = tmp_path / "models" / "films" / "0001" / "model.pt"
    file.write_bytes(b"other")
    with pytest.raises(ValueError, match="is not what training.json beside it says"):
        weights.run_of("0001")
    (tmp_path / "models" / "films" / "served.json").write_text('{"weights": ["x"]}')
    with pytest.raises(ValueError, match="expected one of"):
        weights.served()
    (tmp_path / "models" / "films" / "served.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        weights.served()
    (tmp_path / "models" / "films" / "0001" / "training.json").write_text('{"version"')
    with pytest.raises(ValueError, match=r"training\.json cannot be read: .*, or remove the folder .*/0001, whose"):
        weights.note("0001")


def test_links_that_lead_out_are_refused(tmp_path: Path) -> None:
    studies, other = tmp_path / "studies", tmp_path / "other"
    studies.mkdir()
    (other / "0001").mkdir(parents=True)
    (other / "0001" / "training.json").write_text(json.dumps({}))
    (studies / "models").symlink_to(other)
    with pytest.raises(ValueError, match="leads out of the server's folders"):
        TrainedWeights(studies, "films")
    with pytest.raises(ValueError, match="model: expected a plain name"):
        TrainedWeights(studies, "../films")

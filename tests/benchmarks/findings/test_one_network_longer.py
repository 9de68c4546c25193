"""The long comparison opens its test phantoms once, with the weights that it names."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks.findings import one_network_longer
from monai_diffclf.bundle import open_bundle
from monai_diffclf.networks import load_weights, network_hash


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The program on a few phantoms."""
    for name, value in {"TRAIN": (64, 90), "TEST": (24, 91), "DRAWS": 1, "STEPS": 2}.items():
        monkeypatch.setattr(one_network_longer, name, value)
    output = tmp_path / "longer.json"
    monkeypatch.setattr(sys, "argv", ["longer", "--work", str(tmp_path / "work"), "--output", str(output)])

    def call() -> dict:
        one_network_longer.main()
        return json.loads(output.read_text())

    return call


def test_runs_and_refuses_a_second_time(run, tmp_path, monkeypatch):
    bundle = open_bundle(one_network_longer.BUNDLE, "train.json", progress=False)
    shipped = load_weights(bundle.get("denoiser"), one_network_longer.BUNDLE / "models" / "model.pt")
    monkeypatch.setattr(one_network_longer, "ONE", network_hash(shipped))
    result = run()
    assert result["one"]["steps"] == 2 and result["separate"]["steps"] == 4
    for name in one_network_longer.FINDINGS:
        assert result["within"][name] == (result["separate"][name]["less_one"]["value"] <= 0.01)
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["separate_0.pt", "separate_1.pt"]
    with pytest.raises(SystemExit, match="were opened already"):
        run()


def test_other_weights_are_refused(run, monkeypatch):
    monkeypatch.setattr(one_network_longer, "ONE", "0" * 16)
    with pytest.raises(SystemExit, match="weights: expected the network 0000000000000000, got"):
        run()

"""The long comparison opens its test phantoms once, and keeps what it has trained."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks.findings import one_network_longer


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


def test_runs_and_refuses_a_second_time(run, tmp_path):
    result = run()
    assert result["one"]["steps"] == 2 and result["separate"]["steps"] == 4
    assert result["one"]["training_cpu_seconds"] > 0
    for name in one_network_longer.FINDINGS:
        assert result["within"][name] == (result["separate"][name]["less_one"]["value"] <= 0.01)
    with pytest.raises(SystemExit, match="were opened already"):
        run()


def test_networks_that_are_kept_are_not_trained_again(run, tmp_path, monkeypatch):
    first = run()
    kept = {path.name: path.read_bytes() for path in (tmp_path / "work").iterdir()}
    assert sorted(kept) == ["one.pt", "separate_0.pt", "separate_1.pt"]
    (tmp_path / "longer.json").unlink()
    monkeypatch.setattr(one_network_longer, "train", lambda *args, **kwargs: pytest.fail("trained again"))
    assert run() == first

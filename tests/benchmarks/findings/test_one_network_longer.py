"""The long comparison opens its test phantoms once, and keeps what it has trained."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from benchmarks.findings import one_network_longer


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The program on a few phantoms."""
    tests = {1: (24, 91), 2: (24, 92)}
    for name, value in {"TRAIN": (64, 90), "TESTS": tests, "DRAWS": 1, "STEPS": 2}.items():
        monkeypatch.setattr(one_network_longer, name, value)
    output = tmp_path / "longer.json"
    command = ["longer", "--work", str(tmp_path / "work"), "--output", str(output)]

    def call(*more: str) -> dict:
        monkeypatch.setattr(sys, "argv", [*command, *more])
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


def test_a_second_stage_goes_on_with_the_first(run, tmp_path):
    run()
    (tmp_path / "longer.json").unlink()
    work = tmp_path / "work"
    first = torch.load(work / "one.pt", weights_only=True)
    result = run("--stages", "2")
    assert result["one"]["steps"] == 4 and result["separate"]["steps"] == 8 and result["about"]["test"] == [24, 92]
    second = torch.load(work / "one_stage_2.pt", weights_only=True)
    assert second["seconds"] > first["seconds"]
    moved = [(second["network"][name] - weight).abs().max() for name, weight in first["network"].items()]
    assert 0 < max(moved) < 0.01  # two steps at a learning rate of a thousandth: not a network that began anew

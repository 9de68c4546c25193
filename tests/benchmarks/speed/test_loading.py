"""Time of reading beside time of training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.speed import loading


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", loading.NAMES)
def test_images_are_read_as_the_bundle_trains_on_them(name: str) -> None:
    found = loading.seconds_an_image(name, 2)
    assert 0 < found["low"] <= found["median"] <= found["high"]


def test_a_step_waits_for_what_reading_takes_longer() -> None:
    assert loading.waits(0.01, 0.64)["1"] == pytest.approx(0.5)
    assert loading.waits(0.01, 0.64)["2"] == 0


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_results_are_written_for_every_network_and_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loading, "RESULTS", tmp_path)
    monkeypatch.setattr(loading, "seconds_an_image", lambda name, count: {"median": 0.002})
    monkeypatch.setattr("sys.argv", ["loading"])
    loading.main()
    found = json.loads((tmp_path / "loading.json").read_text())
    for name in loading.NAMES:
        assert set(found[name]["wait"]) == {f"{n}, {c}" for n in ("unet", "dit") for c in ("H100", "24 GB", "CPU")}
        step = found[name]["wait"]["unet, H100"]["step_seconds"]
        assert step == pytest.approx(128 * 528.952459264e9 / (989e12 * 0.35))

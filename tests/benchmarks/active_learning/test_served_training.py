"""The trial of training a served model: which images it takes, what it finds, and the whole with a small bundle."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.active_learning import served_training
from benchmarks.active_learning.other_source import as_other_source, parts
from benchmarks.evidence.data import Images
from monai_diffclf.data.pneumonia_mnist import is_held_out
from tests.monailabel.label_studies import CLASSES, write_small_bundle

PROTOCOL = served_training.PROTOCOL


def made_up(number: int) -> Images:
    """Images of patients of two images each, one half of which is brighter."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(60, 120, (number, 16, 16, 1)).astype(np.uint8)
    labels = np.arange(number) % 2
    for one, label in zip(pixels, labels, strict=True):
        one[:, slice(8 * label, 8 * label + 8)] += 100
    patients = np.asarray([f"P{index // 2}" for index in range(number)])
    return Images(pixels, labels.astype(np.int64), np.arange(number).astype(str), patients)


def test_unsharp_masking() -> None:
    rising = np.tile(np.arange(0, 250, 5, dtype=np.uint8), (50, 1))
    assert np.array_equal(as_other_source(rising, radius=3, share=0, gain=1), rising)
    flat = as_other_source(rising, radius=3, share=1, gain=1)[:, 15:-15]
    assert np.abs(flat.astype(int) - 128).max() <= 1, "of a ramp nothing is left but grey"
    twice = as_other_source(rising, radius=3, share=0, gain=2).astype(int)
    assert np.abs(twice - np.clip(2 * rising.astype(int) - 127.5, 0, 255)).max() <= 0.5


def test_no_test_image_and_none_of_the_training_is_read(data_root: Path) -> None:
    folder = data_root / PROTOCOL["data"]
    if not (folder / "labels.csv").is_file():
        pytest.skip(f"{folder} is not there")
    rows = [line.split(",") for line in (folder / "labels.csv").read_text().splitlines()[1:]]
    split = {row[0]: row[3] for row in rows}
    found = parts(folder)
    patients = {name: set(images.groups.tolist()) for name, images in found.items()}
    assert not patients["development"] & patients["final"]
    for images in found.values():
        for key, patient in zip(images.keys.tolist(), images.groups.tolist(), strict=True):
            assert split[key] == "val" or (split[key] == "train" and is_held_out(patient, 0.1))
    assert {split[key] for key in found["development"].keys.tolist()} == {"val"}
    label, judge = served_training.divided(found["final"])
    assert not set(label.groups.tolist()) & set(judge.groups.tolist())
    assert len(label) + len(judge) == len(found["final"]) and min(len(label), len(judge)) > max(PROTOCOL["labels"])


def test_labels_of_a_seed_are_nested_and_taken_by_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOL, "labels", [30, 60])
    images = made_up(200)
    one, two = (served_training.drawn(images, seed) for seed in (0, 1))
    assert np.array_equal(one, served_training.drawn(images, 0)) and not np.array_equal(one, two)
    assert sorted(one.tolist()) == list(range(200))


def test_gain_is_that_of_the_auc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOL, "labels", [50, 100])
    monkeypatch.setitem(PROTOCOL, "analysis", {"resamples": 50, "seed": 0})
    images = made_up(40)
    right = np.stack([1.0 - images.labels, images.labels], 1)
    keys = ("images", "before", "new", "difference", "better", "served")
    state = {"labels": {"train": 37}, "result": dict.fromkeys(keys, 0)}
    runs = {
        seed: {50: {"after": right[:, ::-1], "state": state}, 100: {"after": right, "state": state}} for seed in (0, 1)
    }
    found = served_training.analyse(images, right[:, ::-1], runs)
    assert (found["50"]["before"]["value"], found["50"]["gain"]["value"], found["50"]["helps"]) == (0, 0, False)
    assert (found["100"]["after"]["value"], found["100"]["gain"]["low"], found["100"]["helps"]) == (1, 1, True)


@pytest.mark.slow
def test_trial_with_a_small_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("monailabel", "httpx", "psutil"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed, see docs/monailabel.md")
    folder = write_small_bundle(tmp_path / "halves")
    small: dict[str, Any] = {"bundle": str(folder), "labels": [40, 60], "seeds": [0]}
    small |= {"source": {"radius": 4.0, "share": 0.0, "gain": 1.0}, "analysis": {"resamples": 50, "seed": 0}}
    for name, value in small.items():
        monkeypatch.setitem(PROTOCOL, name, value)
    monkeypatch.setattr(served_training, "CLASSES", tuple(CLASSES))
    monkeypatch.setattr(served_training, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(served_training, "parts", lambda root: {"final": made_up(200)})
    served_training.main(["--output", str(tmp_path / "a.json"), "--no-progress"])
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["images"]["judged"] + found["images"]["may_be_labelled"] == 200
    for number, content in found["by_labels"].items():
        assert content["gain"]["value"] == pytest.approx(content["after"]["value"] - content["before"]["value"])
        for told in content["by_the_server"].values():
            assert told["labels"]["train"] + told["images"] == int(number)
    assert len(list((tmp_path / "cache").rglob("*_*.npz"))) == 2
    monkeypatch.setattr(served_training, "served", None)  # nothing is trained again
    served_training.main(["--output", str(tmp_path / "b.json"), "--no-progress"])
    assert json.loads((tmp_path / "b.json").read_text()) == found

"""The simulation of active learning on small made-up sets: resumable, paired, and corrected for many comparisons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.active_learning import figure, simulate
from benchmarks.evidence.data import Images
from monai_diffclf.metrics import SUBGROUP_METRICS

SET = "isic2017_224"


def images(number: int, generator: torch.Generator) -> tuple[Images, torch.Tensor]:
    """Images of no pixels and components that tell their three classes."""
    labels = torch.randint(3, (number,), generator=generator)
    latents = torch.randn(number, 4, 1, 1, generator=generator) + labels[:, None, None, None]
    names = np.arange(number).astype(str)
    return Images(np.zeros((number, 1, 1, 1), np.uint8), labels.numpy(), names, names), latents


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A protocol that takes a second, and made-up images."""
    protocol = json.loads(json.dumps(simulate.PROTOCOL))
    protocol |= {"components": 4, "first": 24, "round": 6, "last": 36, "pool": 60, "seeds": [0, 1]}
    protocol["strategies"] = ["margin", "typicality", "random"]
    protocol["network"] = {"hidden_size": 8, "num_layers": 1, "num_heads": 1, "mlp_ratio": 1.0}
    protocol["training"] |= {"steps": 3, "batch": 8}
    protocol["inference"]["num_draws"] = 5
    protocol["analysis"]["resamples"] = 20
    generator = torch.Generator().manual_seed(0)
    (pool, pool_latents), (judged, latents) = images(80, generator), images(40, generator)
    monkeypatch.setattr(simulate, "PROTOCOL", protocol)
    monkeypatch.setattr(simulate, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(simulate, "read_set", lambda name, root: (pool, judged, pool_latents, latents))
    return tmp_path


def run(folder: Path, name: str) -> dict[str, Any]:
    """Run it and read what it wrote."""
    simulate.main(["--sets", SET, "--output", str(folder / name), "--no-progress"])
    return dict(json.loads((folder / name).read_text()))


def test_it_goes_on_where_it_was_stopped(small: Path) -> None:
    first = run(small, "a.json")
    kept = sorted((small / "cache").rglob("*.npz"))
    assert len(kept) == 2 * (1 + 3 * 2), "the first training of a seed serves all strategies"
    for each in kept[::3]:
        each.unlink()
    assert run(small, "b.json") == first
    content = first["sets"][SET]
    assert content["labels"] == [24, 30, 36] and set(content["strategies"]) == {"margin", "typicality", "random"}
    starts = {name: entry["auc"][0]["value"] for name, entry in content["strategies"].items()}
    assert len(set(starts.values())) == 1, "all begin alike"
    for entry in content["strategies"].values():
        mean = np.mean([values[1:] for values in entry["auc_of_seeds"].values()])
        assert entry["area"]["value"] == pytest.approx(mean) and entry["area"]["low"] < entry["area"]["high"]
    gap = content["strategies"]["margin"]["less_random"]
    areas = [content["strategies"][name]["area"]["value"] for name in ("margin", "random")]
    assert gap["value"] == pytest.approx(areas[0] - areas[1]) and gap["low"] <= gap["value"] <= gap["high"]


def test_labels_are_added_and_never_twice(small: Path) -> None:
    pool, judged, latents, judged_latents = simulate.read_set(SET, small)
    bar = type("Bar", (), {"update": lambda self: None})()
    for strategy in ("margin", "random"):
        rows = simulate.one_run(SET, (pool, judged, latents, judged_latents), strategy, 0, bar, {})["rows"]
        assert [len(set(each.tolist())) for each in rows] == [24, 30, 36]
        assert set(rows[0]) < set(rows[1]) < set(rows[2])


def test_the_auc_is_that_of_the_other_comparisons() -> None:
    generator = np.random.default_rng(0)
    labels, scores = generator.integers(0, 3, 60), generator.dirichlet([1, 1, 1], 60)
    assert float(simulate.macro_auc(labels, scores)) == pytest.approx(float(SUBGROUP_METRICS["auc"](labels, scores)))
    weights = generator.integers(1, 3, (4, 60))
    alone = [float(simulate.macro_auc(np.repeat(labels, w), np.repeat(scores, w, axis=0))) for w in weights]
    assert simulate.macro_auc(labels, scores, weights=weights) == pytest.approx(alone)


def test_many_comparisons_are_corrected_for() -> None:
    p = {"a": 0.001, "b": 0.03, "c": 0.02, "random": None}
    sets = {"x": {"strategies": {name: {"less_random": {"p_value": value}} for name, value in p.items()}}}
    simulate.beyond_chance(sets)
    found = {name: sets["x"]["strategies"][name]["less_random"] for name in "abc"}
    assert [found[name]["p_holm"] for name in "abc"] == pytest.approx([0.003, 0.04, 0.04])
    assert all(each["beyond_chance"] for each in found.values())


def test_the_first_images_hold_each_class_twice() -> None:
    labels = np.asarray([0] * 95 + [1] * 5)
    for seed in range(5):
        rows = simulate.first_images(labels, 30, seed)
        assert len(rows) == len(set(rows)) == 30 and (labels[rows] == 1).sum() >= 2


def test_the_figure_shows_each_set(small: Path) -> None:
    drawn = figure.draw(run(small, "a.json"))
    assert [axis.get_title() for axis in drawn.axes] == ["Skin lesions (ISIC 2017)"]
    assert len(drawn.axes[0].lines) == 3

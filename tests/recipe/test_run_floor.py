"""The floor of a run: what is written, and what is said of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from monai_diffclf.bundle import BundleSettings, open_bundle, write_bundle
from monai_diffclf.recipe import floor_lines, floor_text, measure_steps, seconds_per_step, write_floor


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A small bundle for dark and bright images of 16 px, 8 of each class in each split."""
    root, rng = tmp_path_factory.mktemp("floor"), np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for k, name in enumerate(("dark", "bright")):
            folder = root / "data" / split / name
            folder.mkdir(parents=True)
            for n in range(8):
                pixels = rng.integers(150 * k, 150 * k + 60, (20, 20), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{split}{n}.png")
    values = {
        "dataset_dir": root / "data",
        "batch_size": 4,
        "denoiser#channels": [8, 8],
        "denoiser#attention_levels": [False, False],
        "denoiser#num_res_blocks": 1,
        "denoiser#norm_num_groups": 4,
        "denoiser#num_head_channels": 8,
    }
    settings = BundleSettings(name="small", classes=["dark", "bright"], channels=1, image_size=16, values=values)
    return write_bundle(root / "small", settings)


def test_floor_of_a_run(bundle, tmp_path):
    floor = write_floor(bundle, tmp_path / "run")
    perfect = {"macro_auc": 1.0, "accuracy": 1.0, "balanced_accuracy": 1.0}
    split = {"logistic_regression": perfect, "extra_trees": perfect, "pixels": 16}
    assert floor == {"validation": split, "test": split}
    assert json.loads((tmp_path / "run" / "floor.json").read_text()) == floor
    opened = open_bundle(bundle, "train.json", "evaluate.json")
    assert write_floor(opened, tmp_path / "other") == floor


def test_time_of_a_step(bundle):
    opened = open_bundle(bundle, "train.json", progress=False, device="cpu")
    time = measure_steps(opened)
    assert 0 < time.evaluation < time.step < 5
    assert seconds_per_step(bundle) > 0


def test_time_of_a_step_of_a_resnet(bundle, tmp_path):
    values = {"dataset_dir": bundle.parent / "data", "batch_size": 4}
    settings = BundleSettings(
        name="net", classes=["dark", "bright"], channels=1, image_size=16, method="resnet18", values=values
    )
    time = measure_steps(write_bundle(tmp_path / "net", settings))
    assert 0 < time.evaluation < time.step < 5


def results(auc: float) -> dict:
    return {"diffusion_mean": {name: {"value": auc} for name in ("auc", "accuracy", "balanced_accuracy")}}


def values(auc: float | None) -> dict:
    return {"macro_auc": auc, "accuracy": 0.5, "balanced_accuracy": auc}


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (0.9, "Above the floor: macro AUC 0.900, 0.850 of ExtraTrees."),
        (0.85, "No better than a simple model as far as these images tell: macro AUC 0.850, 0.850 of ExtraTrees."),
        (0.8, "The simpler model is better on these images: macro AUC 0.800, 0.850 of ExtraTrees. Use it, or more or "),
    ],
)
def test_what_is_said(own, said, tmp_path):
    split = {"logistic_regression": values(0.8), "extra_trees": values(0.85), "pixels": 16}
    floor, found = {"validation": split, "test": split}, {"validation": results(own), "test": results(own)}
    lines = floor_lines(floor, found)
    assert len(lines) == 10 and lines[4].strip().startswith(said) and lines[9] == lines[4]
    assert lines[3].split() == ["ExtraTrees", "on", "16", "px", "0.850", "0.500", "0.850"]
    (tmp_path / "floor.json").write_text(json.dumps(floor))
    (tmp_path / "results.json").write_text(json.dumps(found))
    assert floor_text(tmp_path) == "\n".join(lines)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.86, 0.95, "Above"), (0.84, 0.95, "No better"), (0.7, 0.86, "No better"), (0.7, 0.84, "The simpler")],
)
def test_what_is_said_heeds_the_interval(low, high, said):
    """As the report does."""
    floor = {"test": {"logistic_regression": values(0.8), "extra_trees": values(0.85), "pixels": 16}}
    found = {"test": results(0.8)}
    found["test"]["diffusion_mean"]["auc"] |= {"low": low, "high": high}
    line = floor_lines(floor, found)[-1]
    assert line.strip().startswith(said) and f"macro AUC 0.800 ({low:.3f} to {high:.3f})" in line


def test_without_results_and_without_auc():
    floor = {"test": {"logistic_regression": values(None), "extra_trees": values(None), "pixels": 16}}
    assert [line.split()[-1] for line in floor_lines(floor, {})[1:]] == ["-", "-"]
    assert floor_lines(floor, {"test": results(0.8)})[-1].strip() == "The floor has no AUC, as a class is absent."


def test_no_floor_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"run: expected .*floor\.json, which an evaluation writes"):
        floor_text(tmp_path)

"""A short training on images of one's own leaves a model that is judged as itself, in its own folder, by its names."""

from __future__ import annotations

import csv
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from monai_diffclf.networks import network_hash
from monai_diffclf.networks.weights_content import read_tensors
from tests.bundles.conftest import bundle
from tests.bundles.workflows import bundle_workflow, refusal, run

BUNDLE = bundle("pneumonia_xray_diffusion")
CLASSES = ["dark", "grey", "bright"]
workflow = partial(bundle_workflow, BUNDLE)


@pytest.fixture(scope="module")
def shades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SPLIT/CLASS/*.png of 16 px."""
    root, rng = tmp_path_factory.mktemp("shades"), np.random.default_rng(0)
    for split, count in (("train", 8), ("validation", 4), ("test", 4)):
        for level, name in zip((40, 120, 200), CLASSES, strict=True):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(rng.normal(level, 15, (16, 16)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def common(small: dict[str, Any], shades: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Options of all runs here."""
    return {
        **small,
        "dataset_dir": str(shades),
        "classes": CLASSES,
        "image_size": [16, 16],
        "batch_size": 8,
        "output_dir": str(tmp_path_factory.mktemp("runs") / "shades"),
    }


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def trained(common: dict[str, Any]) -> Path:
    """The folder of a training of one epoch, evaluated; the bundle is as it was."""
    before = content(BUNDLE / "docs") | content(BUNDLE / "models") | content(BUNDLE / "configs")
    run(workflow("train", "train.json", max_epochs=1, val_draws=2, **common))
    run(workflow("train", "train.json", "evaluate.json", num_draws=3, **common))
    assert before == content(BUNDLE / "docs") | content(BUNDLE / "models") | content(BUNDLE / "configs")
    return Path(common["output_dir"])


def test_one_epoch_leaves_a_model_that_knows_what_it_is(trained: Path) -> None:
    note = json.loads((trained / "model.json").read_text())
    assert note["epoch"] == 1 and note["model"]["classes"] == CLASSES and note["model"]["image_size"] == [16, 16]
    assert note["average"] == {"steps": 3, "limit": 0.995, "start": 100}
    assert note["training"]["data"]["train"]["classes"] == dict.fromkeys(CLASSES, 8)
    assert note["model"]["schedule"]["prediction_type"] == "v_prediction"


def test_what_was_trained_is_judged_under_its_names(trained: Path) -> None:
    results = json.loads((trained / "results.json").read_text())
    network = json.loads((trained / "model.json").read_text())["weights"]
    for split in ("validation", "test"):
        entry = results[split]["diffusion_mean"]
        assert entry["weights"] == str(trained / "model.pt") and entry["weights_hash"] == network
        assert entry["data"].startswith("own images in shades") and entry["data"].endswith(", 16 px")
        assert entry["classes"] == CLASSES and entry["num_images"] == 12
        table = trained / "evaluation" / f"{split}_diffusion_mean_seed_0.csv"
        with open(table, newline="") as file:
            rows = list(csv.DictReader(file))
        assert [name for name in rows[0] if name.startswith("prob")] == [f"probability_{name}" for name in CLASSES]
        counts = table.with_name(f"{table.stem}_confusion.csv").read_text()
        assert counts.startswith("true class,predicted_dark,predicted_grey,predicted_bright\ndark,")
        with Image.open(table.with_name(f"{table.stem}_confusion.png")) as picture:
            assert picture.format == "PNG"


REFUSED = {
    "other order": ({"classes": CLASSES[::-1]}, r"started with other settings \(model classes: made with \['dark'"),
    "learning rate": ({"learning_rate": 0.01}, "training learning_rate: made with 0.001, asked for 0.01"),
    "network": ({"denoiser#channels": [16, 16]}, r"model network .*channels: made with \[8, 8\], asked for \[16, 16\]"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_other_settings_do_not_go_on_in_the_same_folder(what: str, trained: Path, common: dict[str, Any]) -> None:
    before, (other, message) = content(trained), REFUSED[what]
    last = refusal(workflow("train", "train.json", max_epochs=2, val_draws=2, **{**common, **other}))
    assert re.search(message, last), last
    assert "\n" not in last
    assert all(content(trained)[path] == data for path, data in before.items())


def test_another_order_of_the_classes_is_not_judged(trained: Path, common: dict[str, Any]) -> None:
    before = content(trained)
    last = refusal(
        workflow("train", "train.json", "evaluate.json", num_draws=3, **{**common, "classes": CLASSES[::-1]})
    )
    assert "classes: made with ['dark', 'grey', 'bright'], asked for ['bright', 'grey', 'dark']" in last
    assert content(trained) == before


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_of_one_class_is_refused_before_training(
    split: str, shades: Path, common: dict, tmp_path: Path
) -> None:
    for part in ("train", "validation"):
        for name in CLASSES if part != split else CLASSES[:1]:
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for path in (shades / part / name).iterdir():
                (tmp_path / "images" / part / name / path.name).symlink_to(path)
    options = {**common, "dataset_dir": str(tmp_path / "images"), "output_dir": str(tmp_path / "run")}
    last = refusal(workflow("train", "train.json", max_epochs=1, val_draws=2, **options))
    assert "grey" in last
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


INFERENCE = {
    "order": ({"classes": ["pneumonia", "normal"]}, "classes: made with ['normal', 'pneumonia']"),
    "size": ({"image_size": [64, 64]}, "image_size: made with [28, 28], asked for [64, 64]"),
    "bundle": (
        {"checkpoint": str(bundle("skin_lesion_diffusion") / "models" / "model.pt")},
        "bundle: made with 'skin_",
    ),
    "text": ({"checkpoint": str(BUNDLE / "docs" / "README.md")}, "README.md is a text file"),
}


@pytest.mark.parametrize("what", INFERENCE)
def test_inference_refuses_weights_of_another_model(what: str, shades: Path, tmp_path: Path) -> None:
    other, message = INFERENCE[what]
    options = {"dataset_dir": str(shades / "test" / "dark"), "output_dir": str(tmp_path), "progress": False}
    last = refusal(workflow("infer", "inference.json", **{**options, **other}))
    assert message in last and "\n" not in last
    assert not (tmp_path / "predictions.csv").exists()


@pytest.mark.parametrize(
    ("files", "message"), [((), "was fitted for another model"), (("fast.json",), "was learned from")]
)
def test_what_was_fitted_to_other_weights_is_refused(
    files: tuple[str, ...], message: str, shades: Path, tmp_path: Path
) -> None:
    weights = torch.load(BUNDLE / "models" / "model.pt", weights_only=True)
    weights["unet.conv_in.conv.bias"] += 0.01
    torch.save(weights, tmp_path / "other.pt")
    options = {"dataset_dir": str(shades / "test" / "dark"), "output_dir": str(tmp_path), "progress": False}
    last = refusal(workflow("infer", "inference.json", *files, checkpoint=str(tmp_path / "other.pt"), **options))
    assert message in last


@pytest.mark.parametrize("path", sorted(BUNDLE.parent.glob("*/models/model.pt")), ids=lambda path: path.parents[1].name)
def test_shipped_weights_say_what_they_are(path: Path) -> None:
    note = json.loads(path.with_suffix(".json").read_text())
    settings = json.loads((path.parents[1] / "configs" / "train.json").read_text())
    assert note["model"]["bundle"] == path.parents[1].name and note["model"]["classes"] == settings["classes"]
    assert note["model"]["image_size"] == settings["image_size"]
    holder = torch.nn.Module()
    holder.state_dict = partial(read_tensors, path)  # type: ignore[method-assign]
    assert network_hash(holder) == note["weights"]

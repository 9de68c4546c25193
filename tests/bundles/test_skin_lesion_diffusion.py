"""The bundle skin_lesion_diffusion: three classes, colour."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, verify_metadata, verify_net_in_out
from PIL import Image

from monai_diffclf.storage import load_errors
from tests.bundles.workflows import bundle_workflow, refusal, run

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "skin_lesion_diffusion"
CONFIGS = BUNDLE / "configs"
CLASSES = ("nevus", "melanoma", "seborrheic_keratosis")
workflow = partial(bundle_workflow, BUNDLE)


@pytest.fixture(scope="module")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of colour images that are not square, with a disk of another colour in each class."""
    root, rng, rows = tmp_path_factory.mktemp("lesions"), np.random.default_rng(0), []
    y, x = np.mgrid[:72, :96]
    for split, count in (("train", 24), ("validation", 6), ("test", 6)):
        for i in range(count):
            pixels = rng.normal(190, 8, (72, 96, 3))
            pixels[(y - 36) ** 2 + (x - 48) ** 2 < 400, i % 3] -= 90
            name = f"{split}_{i}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name)
            rows.append(f"{name},{i % 3},{split}")
    (root / "labels.csv").write_text("\n".join(["file,label_index,split", *rows]) + "\n")
    return root


def test_metadata_is_valid_and_network_has_the_stated_input_and_output(device: str) -> None:
    verify_metadata(
        meta_file=str(CONFIGS / "metadata.json"), filepath=str(Path(__file__).with_name("metadata_schema.json"))
    )
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=str(CONFIGS / "inference.json"),
        device=device,
        bundle_root=str(BUNDLE),  # where the weights are, and the level weights beside them
        noise_levels=[2.9],
        num_draws=2,
    )


def test_the_network_that_other_programs_load_decides_as_the_bundle_does() -> None:
    parser = ConfigParser(ConfigParser.load_config_file(str(CONFIGS / "inference.json")))
    parser.update({"bundle_root": str(BUNDLE), "device": torch.device("cpu"), "num_draws": 9, "progress": False})
    parser.parse()
    classifier, own = parser.get_parsed_content("network_def").eval(), parser.get_parsed_content("inferer")
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = classifier(images)  # before the bundle's own network, which is the same, has its weights
    network = parser.get_parsed_content("network")
    assert classifier.inferer.weighting == own.weighting and classifier.inferer.temperature == own.temperature
    torch.testing.assert_close(found, own(images, network))


def test_train_twice_and_evaluate_on_a_table_of_images(lesions: Path, small: dict[str, Any], tmp_path: Path) -> None:
    """As the shipped weights were made: without the contrastive term, then with it, whose level weights decide."""
    shared = {**small, "dataset_dir": str(lesions), "output_dir": str(tmp_path / "run")}
    steps = {"max_epochs": 1, "val_interval": 1, "val_draws": 9, "batch_size": 8}
    made = workflow("train", "train.json", **steps, **{**shared, "output_dir": str(tmp_path / "first")})
    run(made)
    assert made.check_properties() == []
    first = str(tmp_path / "first" / "model.pt")
    assert made.parser.get_parsed_content("denoiser").preconditioning is not None
    run(workflow("train", "train.json", "contrastive.json", initial_weights=first, **steps, **shared))
    docs = {"evaluation_dir": str(tmp_path / "docs"), "results_path": str(tmp_path / "docs" / "results.json")}
    shared |= {"num_draws": 9, **docs}
    last = refusal(workflow("train", "train.json", "evaluate.json", checkpoint=first, **shared))
    assert "expected level weights beside" in last and "name another weighting" in last
    weights = str(tmp_path / "run" / "model.pt")
    run(workflow("train", "train.json", "evaluate.json", checkpoint=weights, **shared))
    entry = json.loads((tmp_path / "docs" / "results.json").read_text())["test"]["diffusion_vote"]
    assert {"auc", "sensitivity_0", "sensitivity_2"} <= set(entry) and entry["network_evaluations"] == 27
    assert load_errors(tmp_path / "docs" / "errors_test_seed_0.npz").errors.values.shape == (6, 3, 9)
    metrics = (tmp_path / "run" / "test" / "metrics.csv").read_text()
    assert "calibration_error" in metrics and "aurc" in metrics


@pytest.mark.filterwarnings("ignore:The denoising errors of these:UserWarning")
def test_inference_with_the_shipped_weights(lesions: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for i in range(3):
        (images / f"{i}.png").write_bytes((lesions / f"test_{i}.png").read_bytes())
    out = tmp_path / "out"
    run(
        workflow(
            "infer",
            "inference.json",
            dataset_dir=str(images),
            output_dir=str(out),
            progress=False,
            device=torch.device("cpu"),
        )
    )
    with open(out / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    for row in rows:
        assert sum(float(row[f"probability_{name}"]) for name in CLASSES) == pytest.approx(1, abs=1e-5)
        assert set(row["prediction_set"].split(";")) <= set(CLASSES) and row["prediction_set"]
        assert (out / row["map"]).is_file()
    assert "not a medical device" in (out / "cases.html").read_text()

# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, verify_net_in_out
from PIL import Image

from monai_diffclf.bundle import open_bundle
from monai_diffclf.handlers.evaluation_saver import read_predictions
from monai_diffclf.handlers.results import read_results
from tools.publish_results import publish

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "pneumonia_xray_resnet18"
COUNTS = {"train": 8, "validation": 3, "test": 4}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Class folders of tiny images: pneumonia is brighter."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in COUNTS.items():
        for level, name in ((60, "normal"), (160, "pneumonia")):
            for patient in range(count):
                folder = root / split / name / f"{split}{name}{patient}"
                folder.mkdir(parents=True)
                Image.fromarray((level + rng.integers(0, 40, (28, 28))).astype(np.uint8)).save(folder / "image.png")
    return root


def workflow(root, images, *configs, kind="train", **overrides):
    return ConfigWorkflow(
        config_file=[str(root / "configs" / f"{name}.json") for name in configs],
        meta_file=str(root / "configs" / "metadata.json"),
        logging_file=str(root / "configs" / "logging.conf"),
        workflow_type=kind,
        bundle_root=str(root),
        dataset_dir=str(images),
        **{"network_def#widen_factor": 0.125, **overrides},
    )


def run(flow):
    flow.initialize()
    try:
        return flow.run()
    finally:
        flow.finalize()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, images):
    """A copy of the bundle, trained for two epochs with two seeds and evaluated."""
    root = shutil.copytree(
        BUNDLE, tmp_path_factory.mktemp("bundle") / "resnet18", ignore=shutil.ignore_patterns("runs", "docs")
    )
    options = {"max_epochs": 2, "batch_size": 8, "warmup_steps": 1, "progress": False}
    for seed in (0, 1):
        run(workflow(root, images, "train", seed=seed, **options))
        run(workflow(root, images, "train", "evaluate", seed=seed, **options))
    return root


def test_training_leaves_the_best_weights_and_a_log(trained):
    best = json.loads((trained / "runs" / "seed_1" / "model.json").read_text())
    assert best["metric"] == "val_auc" and best["epoch"] in (1, 2)
    state = torch.load(trained / "runs" / "seed_1" / "model.pt", weights_only=True)
    assert state["conv1.weight"].shape == (8, 1, 3, 3)
    log = (trained / "runs" / "seed_1" / "seed_1.log").read_text()
    assert "Epoch[2] Metrics -- train_loss" in log and "Epoch[2] Metrics -- val_auc" in log
    assert str(trained) not in log


def test_evaluation_writes_into_the_run_and_publishing_joins_both_seeds(trained):
    assert not (trained / "docs").exists()
    for seed in (0, 1):
        publish(trained, trained / "runs" / f"seed_{seed}")
    results = read_results(trained / "docs" / "results.json")
    for split in ("validation", "test"):
        entry = results[split]["resnet18"]
        assert entry["seed"] == [0, 1] and entry["num_images"] == 2 * COUNTS[split]
        assert entry["auc"]["low"] <= entry["auc"]["value"] <= entry["auc"]["high"]
        assert entry["resampled"] == "patients" and entry["network_evaluations"] == 1
        table = read_predictions(trained / "docs" / "predictions" / f"{split}_seed_0.csv")
        assert sorted(table["labels"]) == [0] * COUNTS[split] + [1] * COUNTS[split]
    thresholds = [results[split]["resnet18"]["seeds"]["0"]["threshold"] for split in ("validation", "test")]
    assert thresholds[0] == thresholds[1]


def test_the_same_seed_gives_the_same_training(trained, images, tmp_path):
    options = {"max_epochs": 2, "batch_size": 8, "warmup_steps": 1, "progress": False}
    run(workflow(trained, images, "train", output_dir=str(tmp_path), log_dir=str(tmp_path), **options))
    states = [torch.load(folder / "model.pt", weights_only=True) for folder in (tmp_path, trained / "runs" / "seed_0")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_inference_agrees_with_the_evaluation(trained, images, tmp_path):
    run(workflow(trained, images / "test", "inference", kind="infer", output_dir=str(tmp_path), progress=False))
    with open(tmp_path / "predictions.csv", newline="") as file:
        rows = {f"test/{row['key']}": row for row in csv.DictReader(file)}
    table = read_predictions(trained / "runs" / "seed_0" / "predictions" / "test_seed_0.csv")
    assert table["classes"].tolist() == ["normal", "pneumonia"]
    expected = dict(zip(table["keys"], table["probabilities"][:, 1], strict=True))
    found = {key: float(row["probability_pneumonia"]) for key, row in rows.items()}
    # The evaluation runs in float16 on a GPU.
    assert found == pytest.approx(expected, abs=2e-3 if torch.cuda.is_available() else 1e-5)
    assert {row["network_evaluations"] for row in rows.values()} == {"1"}
    assert not [name for row in rows.values() for name in row if name.startswith("vote")]


@pytest.mark.parametrize("readable", [True, False])
def test_inference_goes_on_after_an_image_that_cannot_be_read(trained, images, tmp_path, readable):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"no image")
    if readable:
        shutil.copy(next(iter((images / "test").rglob("*.png"))), folder / "b.png")
    made = workflow(trained, folder, "inference", kind="infer", output_dir=str(tmp_path / "out"), progress=False)
    run(made)
    with open(tmp_path / "out" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == ["a.png", "b.png"][: 1 + readable]
    assert rows[0]["error"] and not rows[0]["predicted"]
    assert not readable or (rows[1]["predicted"] and rows[1]["error"] == "")
    assert list(made.parser.get_parsed_content("evaluator").failed) == ["a.png"]


@pytest.mark.parametrize(("kind", "configs"), [("train", ["train"]), ("infer", ["inference"])])
def test_properties_are_complete(images, tmp_path, kind, configs):
    network = ConfigParser.load_config_file(str(BUNDLE / "configs" / "train.json"))["network_def"]
    network = ConfigParser({"network": {**network, "n_input_channels": 1, "num_classes": 2, "widen_factor": 0.125}})
    torch.save(network.get_parsed_content("network").state_dict(), tmp_path / "model.pt")
    output, weights = str(tmp_path / "run"), str(tmp_path / "model.pt")
    flow = workflow(BUNDLE, images, *configs, kind=kind, output_dir=output, checkpoint=weights)
    flow.initialize()
    assert not flow.check_properties()


def test_metadata_describes_the_network():
    configs = BUNDLE / "configs"
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / "inference.json"),
        device="cpu",
    )
    metadata = ConfigParser.load_config_file(str(configs / "metadata.json"))
    assert metadata["version"] in metadata["changelog"]


def test_real_images_are_split_by_patient(dataset):
    bundle = open_bundle(BUNDLE, "train.json", dataset_dir=str(dataset("pneumoniamnist_28")))
    train, validation = (bundle.get(f"{part}#datalist") for part in ("train", "validate"))
    assert len(train) + len(validation) == 4708
    assert not {item["patient"] for item in train} & {item["patient"] for item in validation}


def test_skin_lesion_baseline_takes_colour_and_gives_three_classes():
    network = open_bundle("skin_lesion_resnet18", "train.json").get("network_def").eval()
    assert network(torch.rand(2, 3, 64, 64)).shape == (2, 3)

# Copyright (c) monai_diffclf contributors
# Licensed under the Apache License, Version 2.0; see the LICENSE file.
from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from monai_diffclf.handlers.evaluation_saver import EvaluationSaver, read_predictions, write_predictions
from monai_diffclf.handlers.results import read_results
from monai_diffclf.metrics import classification_metrics


def items(size=40, patients=True):
    """Images whose mean is the evidence for class 1."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1], size // 2))
    for i, label in enumerate(labels):
        image = torch.full((1, 2, 2), float(label + rng.normal()))
        patient = {"patient": f"P{i // 2}" if i < patients * size else ""} if patients else {}
        yield {"image": image, "label": int(label), "key": f"{i * 7 % size:02d}", **patient}


class Evidence(torch.nn.Module):
    def __init__(self, slope):
        super().__init__()
        self.slope = slope

    def forward(self, x):
        evidence = self.slope * (x.mean((1, 2, 3)) - 0.5)
        return torch.stack([torch.zeros_like(evidence), evidence], 1).softmax(1)


def evaluate(
    folder, device, *, seed=0, split="validation", threshold="balanced_accuracy", slope=1.0, results=True, **kw
):
    data = list(items(**kw))
    saver = EvaluationSaver(
        folder / f"{split}_seed{{seed}}.csv",
        folder / "results.json" if results else None,
        split=split,
        model="resnet18",
        data="simulated",
        seed=seed,
        threshold=threshold,
        network_evaluations=1,
        num_resamples=50,
    )
    loader = DataLoader(Dataset(data), batch_size=16)
    SupervisedEvaluator(device, loader, Evidence(slope).to(device), val_handlers=[saver]).run()
    return data


def test_every_image_and_the_metrics_of_all(tmp_path, device):
    data = evaluate(tmp_path, device)
    table = read_predictions(tmp_path / "validation_seed0.csv")
    by_key = {item["key"]: item for item in data}
    assert table["keys"].tolist() == sorted(by_key)
    assert table["labels"].tolist() == [by_key[key]["label"] for key in table["keys"]]
    assert table["patients"].tolist() == [by_key[key]["patient"] for key in table["keys"]]
    evidence = [float(by_key[key]["image"].mean()) - 0.5 for key in table["keys"]]
    np.testing.assert_allclose(table["probabilities"][:, 1], 1 / (1 + np.exp(-np.array(evidence))), atol=1e-6)
    entry = read_results(tmp_path / "results.json")["validation"]["resnet18"]
    assert entry["auc"]["value"] == pytest.approx(roc_auc_score(table["labels"], table["probabilities"][:, 1]))
    called = table["probabilities"][:, 1] >= entry["threshold"]
    assert entry["balanced_accuracy"]["value"] == pytest.approx(balanced_accuracy_score(table["labels"], called))
    assert (entry["num_images"], entry["network_evaluations"], entry["resampled"]) == (40, 1, "patients")


def test_unknown_patients_are_drawn_singly(tmp_path, device):
    evaluate(tmp_path, device, patients=0.5)
    entry, table = read_results(tmp_path / "results.json"), read_predictions(tmp_path / "validation_seed0.csv")
    entry, unknown = entry["validation"]["resnet18"], table["patients"] == ""
    assert unknown.sum() == 20 and entry["resampled"] == "patients"
    names = [name or f"Q{i:02}" for i, name in enumerate(table["patients"])]
    expected = classification_metrics(table["labels"], table["probabilities"], groups=names, num_resamples=50)
    assert entry["auc"] == pytest.approx(expected["auc"])
    evaluate(tmp_path, device, split="test", threshold=0.5, patients=0)
    assert read_results(tmp_path / "results.json")["test"]["resnet18"]["resampled"] == "images"


def test_the_threshold_of_the_validation_images_is_used(tmp_path, device):
    evaluate(tmp_path, device)
    evaluate(tmp_path, device, split="test", threshold="validation", patients=False)
    results = read_results(tmp_path / "results.json")
    assert results["test"]["resnet18"]["threshold"] == results["validation"]["resnet18"]["threshold"] != 0.5
    assert results["test"]["resnet18"]["resampled"] == "images"


def test_without_validation_results_there_is_no_threshold(tmp_path, device):
    with pytest.raises(ValueError, match=r"resnet18', seed 3, on the validation images in .*; evaluate those first"):
        evaluate(tmp_path, device, split="test", threshold="validation", seed=3)
    assert (tmp_path / "test_seed3.csv").exists()


def test_seeds_are_summarised_from_their_scores(tmp_path, device):
    for seed, slope in ((0, 1.0), (1, -0.2)):
        evaluate(tmp_path, device, seed=seed, slope=slope)
    entry = read_results(tmp_path / "results.json")["validation"]["resnet18"]
    assert entry["seed"] == [0, 1]
    values = [entry["seeds"][seed]["auc"] for seed in "01"]
    assert entry["auc"]["value"] == pytest.approx((values[0]["value"] + values[1]["value"]) / 2) == pytest.approx(0.5)
    # The two seeds rank the images in opposite ways, so their mean does not vary: no mean of bounds could tell.
    assert entry["auc"]["high"] - entry["auc"]["low"] < 1e-6 < values[0]["high"] - values[0]["low"]


def test_a_seed_whose_results_lack_a_metric_is_in_no_summary(tmp_path, device):
    evaluate(tmp_path, device)
    path = tmp_path / "results.json"
    results = json.loads(path.read_text())
    del results["validation"]["resnet18"]["seeds"]["0"]["sensitivity_at_90_specificity"]
    path.write_text(json.dumps(results))
    evaluate(tmp_path, device, seed=1, slope=-1.0)
    entry = read_results(path)["validation"]["resnet18"]
    assert list(entry["seeds"]) == ["1"] and entry["auc"] == entry["seeds"]["1"]["auc"]


def test_a_lost_table_falls_back_on_the_mean_of_the_bounds(tmp_path, device):
    evaluate(tmp_path, device)
    (tmp_path / "validation_seed0.csv").unlink()
    evaluate(tmp_path, device, seed=1, slope=-1.0)
    entry = read_results(tmp_path / "results.json")["validation"]["resnet18"]
    bounds = [entry["seeds"][seed]["auc"]["high"] for seed in "01"]
    assert entry["auc"]["high"] == pytest.approx(sum(bounds) / 2)


def test_predictions_alone(tmp_path, device):
    evaluate(tmp_path, device, results=False)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".outputs.jsonl", "validation_seed0.csv"]


def test_probabilities_survive_the_file(tmp_path):
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], 11).astype(np.float32)
    keys = [f"{i:02d}" for i in range(11)]
    write_predictions(tmp_path / "a.csv", keys=keys, patients=[""] * 11, labels=[0] * 11, probabilities=probabilities)
    assert (read_predictions(tmp_path / "a.csv")["probabilities"].astype(np.float32) == probabilities).all()


def test_unknown_patients_have_no_name_in_a_table(tmp_path):
    patients, p = [None, "P1", float("nan"), "n/a"], np.full((4, 2), 0.5)
    write_predictions(tmp_path / "a.csv", keys=["a", "a", "b", "b"], patients=patients, labels=[0] * 4, probabilities=p)
    assert read_predictions(tmp_path / "a.csv")["patients"].tolist() == ["", "P1", "", ""]


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match=r"predictions_path: expected a file name with {seed} in it"):
        EvaluationSaver(tmp_path / "a.csv", split="test", model="m", data="d", seed=0)
    (tmp_path / "a.csv").write_text("key,label\na,1\n")
    with pytest.raises(ValueError, match=r"a.csv: expected the columns .*\['patient'\] is missing"):
        read_predictions(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("key,patient,label,probability_0\n")
    with pytest.raises(ValueError, match="path: expected a row an image in .*a.csv, got none"):
        read_predictions(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("key,patient,label,probability_0\na,,0,high\n")
    with pytest.raises(ValueError, match="a.csv, line 2: expected a number in 'probability_0', got 'high'"):
        read_predictions(tmp_path / "a.csv")

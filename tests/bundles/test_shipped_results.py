"""Every bundle reports the metrics for unbalanced classes, as scikit-learn has them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk

from monai_diffclf.handlers import read_results
from monai_diffclf.handlers.evaluation_saver import read_predictions
from tools.recompute_results import entries, table_of

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
SHIPPED = sorted(path.parents[1].name for path in BUNDLES.glob("*/docs/results.json"))
METRICS = ("auc", "average_precision", "sensitivity_at_90_specificity", "balanced_accuracy")


def sensitivity_at_90(truth: np.ndarray, score: np.ndarray) -> float:
    false, true, _ = sk.roc_curve(truth, score, drop_intermediate=False)
    return float(true[1 - false >= 0.9 - 1e-12].max())


@pytest.mark.parametrize("bundle", SHIPPED)
def test_results_are_those_of_the_predictions(bundle: str) -> None:
    docs = BUNDLES / bundle / "docs"
    for split, model, entry in entries(read_results(docs / "results.json")):
        table = read_predictions(table_of(docs, split, model, entry["seed"], entry.get("classes", ())))
        labels, p = table["labels"], table["probabilities"]
        classes = [1] if p.shape[1] == 2 else range(p.shape[1])
        called = p[:, 1] >= entry["threshold"] if p.shape[1] == 2 else p.argmax(1)
        ranking = (sk.roc_auc_score, sk.average_precision_score, sensitivity_at_90)
        expected = [float(np.mean([f(labels == k, p[:, k]) for k in classes])) for f in ranking]
        expected.append(sk.balanced_accuracy_score(labels, called))
        assert [entry[name]["value"] for name in METRICS] == pytest.approx(expected), (split, model)


@pytest.mark.parametrize("bundle", SHIPPED)
def test_metadata_has_the_test_results_of_one_model(bundle: str) -> None:
    stated = json.loads((BUNDLES / bundle / "configs" / "metadata.json").read_text())["eval_metrics"]
    assert set(METRICS) <= set(stated)
    models = read_results(BUNDLES / bundle / "docs" / "results.json")["test"].values()
    rounded = [{name: round(entry[name]["value"], 3) for name in stated} for entry in models]
    assert stated in rounded

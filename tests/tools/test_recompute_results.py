"""The tool that computes the metrics of a bundle anew from its tables of predictions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from monai_diffclf.handlers import EvaluationSaver, read_results
from tools.recompute_results import recompute_metrics

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
SHIPPED = sorted(path.parents[1].name for path in BUNDLES.glob("*/docs/results.json"))
NEW = "sensitivity_at_90_specificity"


def evaluate(docs, model, name):
    rng = np.random.default_rng(len(model))
    labels = np.arange(40) % 2
    for seed in (1, 2, 0):
        scores = 1 / (1 + np.exp(-(labels + rng.normal(size=40))))
        saver = EvaluationSaver(
            docs / "evaluation" / name,
            docs / "results.json",
            split="test",
            model=model,
            data="simulated",
            seed=seed,
            threshold=0.4,
            num_draws=5,
            network_evaluations=10 + seed,
            commit=f"{seed}abc",
            num_resamples=50,
        )
        patients = [f"P{i // 2}" for i in range(40)] if model == "vote" else [""] * 40
        saver.save([f"{i:02d}" for i in range(40)], patients, labels, np.stack([1 - scores, scores], axis=1))


@pytest.fixture
def docs(tmp_path):
    evaluate(tmp_path, "vote", "test_vote_seed_{seed}.csv")
    evaluate(tmp_path, "resnet18", "test_seed_{seed}.csv")
    return tmp_path


def test_a_metric_that_is_missing_is_added_and_nothing_else_changes(docs):
    complete = (docs / "results.json").read_text()
    results = json.loads(complete)
    for entry in results["test"].values():
        for part in (entry, *entry["seeds"].values()):
            del part[NEW]
    (docs / "results.json").write_text(json.dumps(results))
    _, changed, added = recompute_metrics(docs, num_resamples=50)
    assert changed == []
    models = ("vote", "resnet18")
    expected = [f"/test/{m}/{at}{NEW}" for m in models for at in ("", "seeds/0/", "seeds/1/", "seeds/2/")]
    assert sorted(added) == sorted(expected)
    after = read_results(docs / "results.json")
    for model in models:
        found, original = after["test"][model], json.loads(complete)["test"][model]
        assert found.pop(NEW) == pytest.approx(original.pop(NEW))
        assert found == original


def test_a_number_that_changes_is_named(docs):
    results = json.loads((docs / "results.json").read_text())
    results["test"]["vote"]["seeds"]["1"]["auc"]["low"] += 1e-6
    (docs / "results.json").write_text(json.dumps(results))
    assert recompute_metrics(docs, num_resamples=50)[1:] == (["/test/vote/seeds/1/auc/low"], [])


def test_without_table_or_results_nothing_is_written(docs, tmp_path):
    before = (docs / "results.json").read_text()
    (docs / "evaluation" / "test_seed_2.csv").unlink()
    with pytest.raises(ValueError, match=r"expected test_resnet18_seed_2.csv or test_seed_2.csv in a folder of"):
        recompute_metrics(docs, num_resamples=50)
    assert (docs / "results.json").read_text() == before
    with pytest.raises(ValueError, match=r"expected results in .*, found none; run the evaluation"):
        recompute_metrics(tmp_path / "empty")
    assert not (tmp_path / "empty").exists()


@pytest.mark.slow
@pytest.mark.parametrize("bundle", SHIPPED)
def test_shipped_results_are_those_of_the_shipped_predictions(bundle, tmp_path):
    docs = shutil.copytree(BUNDLES / bundle / "docs", tmp_path / "docs")
    assert recompute_metrics(docs)[1:] == ([], [])

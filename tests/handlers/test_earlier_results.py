"""What an earlier evaluation left never stands beside the results of a later one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from monai_diffclf.handlers import EvaluationSaver, read_results
from monai_diffclf.handlers.earlier_results import begin_evaluation, remove_stale
from monai_diffclf.storage import ErrorsJournal
from monai_diffclf.storage.outputs import Outputs


def evaluate(
    run: Path, *, split="test", weights="1", data="d", draws=9, classes=("a", "b"), seed=0, model="m", end=True
):
    """An evaluation by its files; without ``end`` it is stopped before it writes."""
    facts = {"weights_hash": weights, "data_hash": data, "classes": dict.fromkeys(classes, 4)}
    saver = EvaluationSaver(
        run / "evaluation" / f"{split}_{model}_seed_{{seed}}.csv",
        run / "results.json",
        split=split,
        model=model,
        data="made up",
        seed=seed,
        num_draws=draws,
        num_resamples=5,
        commit="0",
        classes=list(classes),
        facts=facts,
    )
    saver.begin(None)
    if end:
        labels = np.arange(8) % len(classes)
        (run / split).mkdir(exist_ok=True)
        (run / split / "metrics.csv").write_text("auc\t1")
        saver.save([f"{i}" for i in range(8)], [""] * 8, labels, np.eye(len(classes))[labels] * 0.8 + 0.1)


def files(run: Path) -> set[str]:
    return {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file() and not p.name.startswith(".")}


@pytest.fixture
def run(tmp_path):
    for split in ("validation", "test"):
        evaluate(tmp_path, split=split)
    (tmp_path / "evaluation" / "mine.csv").write_text("mine")
    return tmp_path


@pytest.mark.parametrize("changed", [{"weights": "2"}, {"classes": ("b", "a")}, {"draws": 5}])
def test_other_weights_classes_or_draws_leave_nothing_of_the_former(run, changed):
    evaluate(run, split="validation", **changed, end=False)
    assert files(run) == {"evaluation/mine.csv"}


def test_other_images_leave_the_other_split(run):
    evaluate(run, split="test", data="other", end=False)
    assert "evaluation/validation_m_seed_0.csv" in files(run)
    assert not any("test" in name for name in files(run))
    assert set(read_results(run / "results.json")) == {"about", "validation"}


def test_other_validation_images_or_labels_end_what_was_fitted_to_the_former(run, caplog):
    fits = {"uncertainty.json", "decision.json", "deferral.json", "findings/finding_0.json"}
    (run / "findings").mkdir()
    for name in fits:
        (run / name).write_text(json.dumps({"mean": {"provenance": {"network": "1"}}}))
    evaluate(run, split="validation", end=False)
    evaluate(run, split="test", data="other", end=False)
    assert fits <= files(run)
    evaluate(run, split="validation", data="other", end=False)
    assert not fits & files(run)
    assert "removed what was fitted to other validation images or labels; fit again" in caplog.text


def test_the_same_again_leaves_all(run):
    before = files(run)
    evaluate(run, split="validation", end=False)
    assert files(run) == before


def test_another_seed_and_another_model_stay(run):
    evaluate(run, seed=1, weights="2")
    evaluate(run, model="n")
    assert {"evaluation/test_m_seed_0.csv", "evaluation/test_n_seed_0.csv", "evaluation/test_m_seed_1.csv"} <= files(
        run
    )
    evaluate(run, weights="3", end=False)
    assert not {"evaluation/test_m_seed_0.csv", "evaluation/test_n_seed_0.csv"} & files(run)
    results = read_results(run / "results.json")
    assert set(results["test"]) == {"m"}
    assert set(results["test"]["m"]["seeds"]) == {"1"}
    assert results["test"]["m"]["seed"] == 1


def test_results_of_a_version_that_kept_no_list_go_by_their_weights(run):
    (run / "evaluation" / ".outputs.jsonl").unlink()
    evaluate(run, split="validation", weights="2")
    results = read_results(run / "results.json")
    assert "test" not in results
    assert results["validation"]["m"]["weights_hash"] == "2"


def test_other_weights_of_a_training_end_what_is_about_the_former(run):
    (run / "uncertainty.json").write_text(json.dumps({"mean": {"provenance": {"network": "1"}}}))
    (run / "decision.json").write_text(json.dumps({"mean": {"network": "1"}}))
    (run / "findings").mkdir()
    (run / "findings" / "finding_0.json").write_text(json.dumps({"vote": {"provenance": {"network": "1"}}}))
    (run / "floor.json").write_text("{}")
    settings = {"provenance": {"network": "1"}, "num_classes": 2, "num_draws": 3}
    ErrorsJournal(run / "journal" / "test_seed_0", **settings).close()
    before = files(run)
    remove_stale(run, "1")
    assert files(run) == before
    Outputs(run, "report").add(["report.html"])
    (run / "report.html").write_text("...")
    remove_stale(run, "2")
    assert files(run) == {"evaluation/mine.csv", "floor.json"}
    assert not (run / "journal").exists() and not (run / "findings").exists()


def test_what_is_not_ours_is_left(run):
    (run / "uncertainty.json").write_text("notes of mine")
    (run / "decision.json").write_text("[1, 2]")
    remove_stale(run, "2")
    assert {"uncertainty.json", "decision.json", "evaluation/mine.csv"} <= files(run)


def test_results_that_were_moved_away_are_no_error(run):
    (run / "results.json").unlink()
    evaluate(run, weights="2", end=False)
    assert files(run) == {"evaluation/mine.csv"}


def test_models_of_the_same_errors_are_kept_together(tmp_path):
    common = {
        "kind": "errors",
        "split": "test",
        "seed": 0,
        "results_path": None,
        "facts": {},
        "made_by": {"network": "1"},
    }
    begin_evaluation(tmp_path, ["a"], models=["vote"], **common)
    begin_evaluation(tmp_path, ["b"], models=["weighted"], **common)
    assert Outputs.steps(tmp_path)[0].made_by["models"] == ["vote", "weighted"]
    assert Outputs.steps(tmp_path)[0].names() == ["a", "b"]


def test_the_report_of_former_results_goes_when_an_evaluation_begins(tmp_path):
    """So does the floor beside them; a report that the user keeps under a name of his own stays."""
    Outputs(tmp_path, "floor").add(["floor.json"])
    (tmp_path / "floor.json").write_text("{}")
    Outputs(tmp_path, "report").add(["report.html"])
    for name in ("report.html", "kept.html"):
        (tmp_path / name).write_text("")
    options = {"kind": "errors", "split": "test", "seed": 0, "models": ["vote"], "facts": {}, "made_by": {}}
    begin_evaluation(tmp_path / "evaluation", ["a"], results_path=tmp_path / "results.json", **options)
    assert not (tmp_path / "floor.json").exists()
    assert not (tmp_path / "report.html").exists() and (tmp_path / "kept.html").exists()

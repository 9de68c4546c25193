"""The tool that makes a run's figures a bundle's own."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from monai_diffclf.handlers import EvaluationSaver, read_results
from monai_diffclf.handlers.evaluation_saver import read_predictions
from monai_diffclf.storage.folder_lock import FolderLock
from tools.publish_results import main, publish

CLASSES = ["normal", "pneumonia"]


def evaluate(run, seed=0, *, data="films, 28 px", images=40, threshold=0.4):
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % 2
    scores = 1 / (1 + np.exp(-(labels + rng.normal(size=images))))
    saver = EvaluationSaver(
        run / "evaluation" / "test_vote_seed_{seed}.csv",
        run / "results.json",
        split="test",
        model="vote",
        data=data,
        seed=seed,
        threshold=threshold,
        num_draws=5,
        network_evaluations=10,
        commit="abc",
        num_resamples=50,
        classes=CLASSES,
        facts={
            "weights": str(run / "model.pt"),
            "weights_hash": f"{seed}" * 16,
            "data_hash": f"{images}",
            "classes": CLASSES,
        },
    )
    saver.save([f"{i:02d}" for i in range(images)], [""] * images, labels, np.stack([1 - scores, scores], axis=1))
    (run / "evaluation" / f"errors_test_seed_{seed}.npz").write_bytes(b"errors")
    (run / "model.json").write_text(json.dumps({"metric": "auc"}))


def test_runs_become_seeds_of_the_bundle(tmp_path):
    bundle = tmp_path / "bundle"
    for seed in (0, 1):
        evaluate(bundle / "runs" / f"seed_{seed}", seed)
        assert publish(bundle, bundle / "runs" / f"seed_{seed}", num_resamples=50) == [
            f"test vote seed {seed}: 40 images of films, 28 px"
        ]
    found = read_results(bundle / "docs" / "results.json")["test"]["vote"]
    assert found["seed"] == [0, 1]
    for seed in (0, 1):
        run = read_results(bundle / "runs" / f"seed_{seed}" / "results.json")["test"]["vote"]["seeds"][f"{seed}"]
        published = found["seeds"][f"{seed}"]
        assert published["weights"] == f"runs/seed_{seed}/model.pt"
        assert {**run, "weights": published["weights"]} == published
        own = read_predictions(bundle / "docs" / "evaluation" / f"test_vote_seed_{seed}.csv")
        assert own["classes"].tolist() == ["normal", "pneumonia"]
        assert (bundle / "docs" / "evaluation" / f"errors_test_seed_{seed}.npz").read_bytes() == b"errors"
        assert (bundle / "docs" / "evaluation" / f"test_vote_seed_{seed}_confusion.png").is_file()
        assert (bundle / "docs" / "training" / f"seed_{seed}.json").is_file()


def test_one_process_publishes_at_a_time(tmp_path):
    evaluate(tmp_path / "run")
    with FolderLock(tmp_path / "docs"), pytest.raises(ValueError, match="docs is being written by another process"):
        publish(tmp_path, tmp_path / "run", num_resamples=50)
    assert publish(tmp_path, tmp_path / "run", num_resamples=50)
    assert not (tmp_path / "docs" / ".lock").exists()


def test_results_of_other_weights_than_the_runs_are_refused(tmp_path):
    """As after a training that went on, or began anew, and was not evaluated since."""
    bundle, run = tmp_path / "bundle", tmp_path / "run"
    bundle.mkdir()
    evaluate(run)
    (run / "model.json").write_text(json.dumps({"metric": "auc", "weights": "1" * 16}))
    with pytest.raises(ValueError, match=r"are of the weights 0{16}, but model.pt in .* are 1{16}; run the evaluation"):
        publish(bundle, run, num_resamples=50)
    assert not (bundle / "docs").exists()
    (run / "model.json").write_text(json.dumps({"metric": "auc", "weights": "0" * 16}))
    assert publish(bundle, run, num_resamples=50) == ["test vote seed 0: 40 images of films, 28 px"]


def test_a_training_of_another_bundle_is_refused(tmp_path):
    bundle, run = tmp_path / "bundle", tmp_path / "run"
    evaluate(run)
    (bundle / "configs").mkdir(parents=True)
    (bundle / "configs" / "train.json").write_text(json.dumps({"model_description": {"bundle": "mine"}}))
    (run / "model.json").write_text(json.dumps({"model": {"bundle": "other"}}))
    with pytest.raises(ValueError, match="expected a training of the bundle mine, got one of other"):
        publish(bundle, run, num_resamples=50)
    assert not (bundle / "docs").exists()
    for what, own, other in (("classes", ["a", "b"], ["b", "a"]), ("channels", 1, 3)):
        train = {"model_description": {"bundle": "mine"}, what: own}
        (bundle / "configs" / "train.json").write_text(json.dumps(train))
        (run / "model.json").write_text(json.dumps({"model": {"bundle": "mine", what: other}}))
        with pytest.raises(ValueError, match=f"training of the bundle mine with {what} .*, got one with .*; name its"):
            publish(bundle, run, num_resamples=50)
        assert not (bundle / "docs").exists()
    (run / "model.json").write_text(json.dumps({"model": {"bundle": "mine", "channels": 1}}))
    assert publish(bundle, run, num_resamples=50)


@pytest.mark.parametrize("other", [{"data": "own images in x"}, {"images": 30}])
def test_other_images_do_not_take_the_place_of_the_evidence(tmp_path, other):
    bundle = tmp_path / "bundle"
    evaluate(bundle / "runs" / "seed_0")
    publish(bundle, bundle / "runs" / "seed_0", num_resamples=50)
    before = {path: path.read_bytes() for path in (bundle / "docs").rglob("*") if path.is_file()}
    evaluate(tmp_path / "own", 1, **other)
    with pytest.raises(ValueError, match="results of vote are of .* those of seed 0 in .* give --replace"):
        publish(bundle, tmp_path / "own", num_resamples=50)
    assert before == {path: path.read_bytes() for path in (bundle / "docs").rglob("*") if path.is_file()}
    publish(bundle, tmp_path / "own", replace=True, num_resamples=50)
    found = read_results(bundle / "docs" / "results.json")["test"]["vote"]
    assert found["seed"] == 1 and found["weights"] == "model.pt"


def test_a_run_without_results(tmp_path):
    with pytest.raises(ValueError, match="run: expected results in .*results.json, found none; run the evaluation"):
        publish(tmp_path, tmp_path / "runs")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("bundle", "run", "line"),
    [
        ("b", "nowhere", "error: run: expected results in "),
        ("bb", "r", "error: bundle: expected the folder of a bundle"),
    ],
)
def test_a_mistyped_path_ends_in_one_line(tmp_path, monkeypatch, capsys, bundle, run, line):
    (tmp_path / "b").mkdir()
    evaluate(tmp_path / "r")
    monkeypatch.setattr(sys, "argv", ["publish_results", str(tmp_path / bundle), "--run", str(tmp_path / run)])
    with pytest.raises(SystemExit) as stop:
        main()
    told = capsys.readouterr().err
    assert stop.value.code == 2 and told.startswith(line) and told.count("\n") == 1
    assert not (tmp_path / "bb").exists()

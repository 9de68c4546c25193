"""Errors, tables and results of an evaluation, and the end of its journal."""

from __future__ import annotations

import os

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.classification import CurtailedVote, LevelWeights, PredictiveCurtailment
from monai_diffclf.engines import DiffusionClassifierEvaluator
from monai_diffclf.handlers import ErrorsSaver, errors_saver, read_results
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.storage import load_errors
from tests.closed_form import ExactDenoiser, make_classes, make_images

FILES = ["errors_test_seed_0.npz", "results.json", "test_diffusion_mean_seed_0.csv", "test_diffusion_vote_seed_0.csv"]


def evaluate(folder, device="cpu", *, journal=True, keep_journal=False, **settings) -> DiffusionClassifierEvaluator:
    inferer = DiffusionClassifierInferer(DDPMScheduler(1000), num_draws=9, **settings)
    classes = make_classes("gaussian")
    items = [
        {"image": image, "label": i % 2, "key": f"{i}", "patient": f"P{i // 2}"}
        for i, image in enumerate(make_images(classes, 4))
    ]
    saver = ErrorsSaver(
        folder / "results",
        inferer,
        folder / "results" / "results.json",
        split="test",
        data="simulated",
        num_resamples=20,
        commit_root=folder,
        keep_journal=keep_journal,
    )
    evaluator = DiffusionClassifierEvaluator(
        torch.device(device),
        DataLoader(Dataset(items), batch_size=3),
        ExactDenoiser(inferer.process, classes),
        inferer=inferer,
        explain=False,
        journal_dir=folder / "journal" if journal else None,
        val_handlers=[saver],
    )
    evaluator.run()
    return evaluator


def test_files_say_what_made_them_and_the_journal_is_gone(tmp_path, device):
    evaluator = evaluate(tmp_path, device)
    assert sorted(os.listdir(tmp_path / "results")) == [".outputs.jsonl", *FILES]
    assert os.listdir(tmp_path) == ["results"]
    stored = load_errors(tmp_path / "results" / FILES[0], provenance=evaluator.provenance())
    images = make_images(make_classes("gaussian"), 4)
    assert (stored.keys, stored.errors.num_elements) == ([str(i) for i in range(8)], images[0].numel())
    entry = read_results(tmp_path / "results" / "results.json")["test"]["diffusion_vote"]
    assert (entry["num_images"], entry["network_evaluations"], entry["resampled"]) == (8, 18, "patients")
    with pytest.raises(ValueError, match="seed: expected 1, found 0"):
        load_errors(tmp_path / "results" / FILES[0], provenance={"seed": 1})


def test_the_journal_stays_where_asked(tmp_path):
    evaluate(tmp_path, keep_journal=True)
    assert len((tmp_path / "journal" / "rows_rank_0.csv").read_text().splitlines()) == 9
    again = evaluate(tmp_path, keep_journal=True)
    assert again.network.calls == []


def test_the_journal_outlives_a_failure_to_write(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(errors_saver, "save_errors", fail)
        evaluate(tmp_path)
    assert evaluate(tmp_path).network.calls == []
    assert os.listdir(tmp_path) == ["results"]


def test_files_depend_on_neither_journal_nor_chunks(tmp_path, monkeypatch):
    written = []
    for name, options in {"a": {"journal": False}, "b": {}, "c": {}}.items():
        (tmp_path / name).mkdir()
        monkeypatch.setattr(errors_saver, "_CHUNK", 3 if name == "c" else 256)
        evaluate(tmp_path / name, **options)
        written.append({file: (tmp_path / name / "results" / file).read_bytes() for file in FILES})
    assert written[0] == written[1] == written[2]


def test_evaluations_saved_by_a_stopping_rule_are_reported(tmp_path):
    evaluate(tmp_path, stopping=CurtailedVote())
    spent = load_errors(tmp_path / "results" / FILES[0]).errors.network_evaluations.double().mean()
    entry = read_results(tmp_path / "results" / "results.json")["test"]["diffusion_vote"]
    assert entry["network_evaluations"] == pytest.approx(float(spent)) and spent < 18


@pytest.mark.parametrize(
    ("settings", "models"),
    [
        ({"rule": "mean", "stopping": PredictiveCurtailment(0.1)}, {"diffusion_mean"}),
        (
            {"rule": "mean", "weighting": LevelWeights((0.0,), (1.0, 2.0))},
            {"diffusion_vote", "diffusion_weighted_mean"},
        ),
        (
            {"rule": "weighted_vote", "weighting": LevelWeights((0.0,), (1.0, 2.0))},
            {"diffusion_vote", "diffusion_weighted_mean", "diffusion_weighted_vote"},
        ),
    ],
    ids=["stopping rule", "weighted mean", "weighted vote"],
)
def test_other_classifiers_have_other_names(tmp_path, settings, models):
    evaluate(tmp_path, **settings)
    assert set(read_results(tmp_path / "results" / "results.json")["test"]) == models

"""Likelihoods, tables and results of a score classifier's evaluation, its output, and the end of its journal."""

from __future__ import annotations

import csv
import json
import os
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset, DistributedSampler
from sklearn.metrics import roc_auc_score

from monai_diffclf.classification import UniformDequantization, bits_per_dimension, marginal_log_likelihood
from monai_diffclf.engines import DiffusionClassifierEvaluator
from monai_diffclf.handlers import CaseReport, ClassificationWriter, LikelihoodSaver, processes, read_results
from monai_diffclf.handlers.evaluation_saver import read_predictions
from monai_diffclf.inferers import ScoreClassifierInferer, provenance
from monai_diffclf.networks.schedulers import VPSDE
from monai_diffclf.storage import StoredLikelihoods, load_likelihoods
from tests.closed_form import ExactDenoiser, make_classes, make_images

FILES = ["likelihoods_test_seed_0.npz", "results.json", "test_score_likelihood_seed_0.csv"]
CLASSES = make_classes("gaussian")
IMAGES = make_images(CLASSES, 6)


def evaluate(folder, device="cpu", *, journal=True, seed=0, keep_journal=False, explain=False, count=12, **settings):
    """The evaluator and its outputs."""
    settings = {"solver": "multistep", "num_steps": 8, "num_probes": 2, **settings}
    inferer = ScoreClassifierInferer(VPSDE(), **settings)
    items = [
        {"image": image, "label": i // 6, "key": f"{i:02d}", "patient": f"P{i // 2}"}
        for i, image in enumerate(IMAGES[:count])
    ]
    saver = LikelihoodSaver(
        folder / "results",
        inferer,
        folder / "results" / "results.json",
        split="test",
        data="simulated",
        seed=seed,
        num_resamples=50,
        commit_root=folder,
        keep_journal=keep_journal,
    )
    evaluator = DiffusionClassifierEvaluator(
        torch.device(device),
        DataLoader(Dataset(items), batch_size=5),
        ExactDenoiser(inferer.process, CLASSES),
        inferer=inferer,
        explain=explain,
        journal_dir=folder / "journal" if journal else None,
        val_handlers=[saver] if count == 12 else [],
    )
    outputs: list[dict] = []
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.extend(engine.state.output))
    evaluator.run()
    return evaluator, outputs


def test_evaluations_are_those_of_each_image_once(tmp_path, monkeypatch):
    """Of three images for two processes the second gets one that the first had, and tells what it spent on its own."""
    saver = LikelihoodSaver(tmp_path, ScoreClassifierInferer(VPSDE()), split="test", data="simulated")
    spent, told = [10, 20, 60], []
    for rank in range(2):
        sampler = DistributedSampler(range(3), even_divisible=True, num_replicas=2, rank=rank, shuffle=False)
        output = [
            {"probe_log_likelihood": torch.zeros(2), "image": torch.zeros(1, 2, 2), "network_evaluations": spent[i]}
            for i in sampler
        ]
        state = SimpleNamespace(dataloader=SimpleNamespace(sampler=sampler), output=output, batch=[{"label": 0}] * 2)
        saver._items, saver._seen, saver._evaluations = [], 0, []
        saver._collect(SimpleNamespace(state=state))
        told.append(saver._evaluations)
    assert told == [[10, 60], [20]]
    both = SimpleNamespace(get_world_size=lambda: 2, all_gather=lambda items: told if items == told[1] else [items] * 2)
    monkeypatch.setattr(processes, "idist", both)
    monkeypatch.setattr(saver, "write", lambda engine, collected: None)
    saver._finish(SimpleNamespace(state=state))
    assert saver._evaluations == [10, 60, 20]


def test_files_and_results(tmp_path, device):
    evaluator, _ = evaluate(tmp_path, device)
    assert sorted(os.listdir(tmp_path / "results")) == [".outputs.jsonl", *FILES]
    assert os.listdir(tmp_path) == ["results"], "the journal has done its work"
    stored = load_likelihoods(tmp_path / "results" / FILES[0])
    assert stored.values.shape == (12, 2, 2)
    assert stored.values.dtype == torch.float64
    assert stored.provenance == evaluator.provenance() == provenance(evaluator.inferer, evaluator.network)
    expected = evaluator.inferer.log_likelihood(IMAGES.to(device), evaluator.network).cpu()
    torch.testing.assert_close(stored.log_likelihood, expected, rtol=1e-6, atol=0)
    entry = read_results(tmp_path / "results" / "results.json")["test"]["score_likelihood"]
    # A step and the start with two probes each, and the end with none, under two classes.
    assert entry["network_evaluations"] == 2 * (9 * 2 + 1)
    margin = expected[:, 1] - expected[:, 0]
    assert entry["auc"]["value"] == pytest.approx(roc_auc_score(stored.labels, margin))
    assert "bits_per_dimension" not in entry, "a density has no bits"


def test_bits_per_dimension_of_one_seed_and_of_two(tmp_path):
    settings = {"dequantization": UniformDequantization(), "prior": [0.3, 0.7], "journal": False}
    values = []
    for seed in (0, 1):
        evaluate(tmp_path, seed=seed, **settings)
        stored = load_likelihoods(tmp_path / "results" / f"likelihoods_test_seed_{seed}.npz")
        marginal = marginal_log_likelihood(stored.log_likelihood, [0.3, 0.7])
        values.append(bits_per_dimension(marginal, IMAGES[0].numel()).mean().item())
    entry = read_results(tmp_path / "results" / "results.json")["test"]["score_likelihood"]
    assert [entry["seeds"][str(seed)]["bits_per_dimension"]["value"] for seed in (0, 1)] == pytest.approx(values)
    assert entry["bits_per_dimension"]["value"] == pytest.approx(np.mean(values))
    assert (
        entry["bits_per_dimension"]["low"] < entry["bits_per_dimension"]["value"] < entry["bits_per_dimension"]["high"]
    )


def test_an_evaluation_goes_on_where_it_was(tmp_path):
    _, expected = evaluate(tmp_path / "whole", journal=False)
    evaluate(tmp_path / "part", count=7, keep_journal=True)
    assert (tmp_path / "part" / "journal" / "errors_rank_0.f64").stat().st_size == 7 * 2 * 2 * 8
    again, outputs = evaluate(tmp_path / "part", keep_journal=True)
    assert [bool(item["recorded"]) for item in outputs] == [True] * 7 + [False] * 5
    assert sum(again.network.calls) == 5 * 38
    table = "test_score_likelihood_seed_0.csv"
    tables = [read_predictions(tmp_path / name / "results" / table) for name in ("whole", "part")]
    np.testing.assert_allclose(tables[0]["probabilities"], tables[1]["probabilities"], rtol=1e-6)
    before = (tmp_path / "part" / "results" / FILES[0]).read_bytes()
    evaluate(tmp_path / "part", keep_journal=True)
    assert (tmp_path / "part" / "results" / FILES[0]).read_bytes() == before
    assert [int(item["network_evaluations"]) for item in outputs] == [
        int(item["network_evaluations"]) for item in expected
    ]


def test_the_journal_of_other_settings_is_refused(tmp_path):
    evaluate(tmp_path, keep_journal=True)
    with pytest.raises(ValueError, match="holds the record of another evaluation: solver: expected 'rk4, 8 steps', fo"):
        evaluate(tmp_path, solver="rk4")


@pytest.mark.parametrize("explain", [False, True])
def test_output(tmp_path, device, explain):
    evaluator, outputs = evaluate(tmp_path, device, journal=False, explain=explain, map_draws=5)
    assert len(outputs) == 12
    assert all("errors" not in item for item in outputs)
    assert all(("error_maps" in item) == explain for item in outputs)
    result = evaluator.inferer.classify(IMAGES.to(device), evaluator.network, error_maps=explain)
    for i, item in enumerate(outputs):
        torch.testing.assert_close(item["pred"], result.probabilities[i], rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(item["log_likelihood"], result.log_likelihood[i], rtol=1e-6, atol=0)
        assert item["probe_log_likelihood"].shape == (2, 2)
        assert set(item["uncertainty"]) >= {
            "probe_variance",
            "probe_entropy",
            "probability_margin",
            "probability_entropy",
            "log_ratio_error",
        }
        assert int(item["network_evaluations"]) == 38 + (5 * 2 if explain else 0)
        if explain:
            torch.testing.assert_close(item["error_maps"], result.error_maps[i], rtol=1e-4, atol=1e-6)


def test_stored_likelihoods_refuse_what_does_not_fit(tmp_path):
    stored = StoredLikelihoods(torch.zeros(2, 2, 1).double(), 4, torch.tensor([0, 1]), ["a", "b"], ["", ""])
    with pytest.raises(ValueError, match=r"path: expected a name ending in .npz, got 'x.txt'"):
        stored.save(tmp_path / "x.txt")
    with pytest.raises(ValueError, match=r"values: expected shape \[image, class, probe\], got \[2, 2\]"):
        StoredLikelihoods(torch.zeros(2, 2), 4, torch.tensor([0, 1]), ["a", "b"], ["", ""])
    with pytest.raises(
        ValueError, match="values: expected as many labels, keys and patients as images, 2; got 1, 2, 2"
    ):
        StoredLikelihoods(torch.zeros(2, 2, 1), 4, torch.tensor([0]), ["a", "b"], ["", ""])
    (tmp_path / "damaged.npz").write_bytes(b"PK")
    for name in ("damaged.npz", "absent.npz"):
        with pytest.raises(ValueError, match=r"path: expected a file written by StoredLikelihoods.save, got .*\.npz"):
            load_likelihoods(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["damaged.npz"]


@pytest.mark.parametrize("probes", [1, 2])
def test_table_of_an_inference(tmp_path, probes):
    inferer = ScoreClassifierInferer(VPSDE(), solver="multistep", num_steps=8, num_probes=probes, map_draws=3)
    evaluator = DiffusionClassifierEvaluator(
        torch.device("cpu"),
        DataLoader(Dataset([{"image": image, "label": 0, "key": f"{i}"} for i, image in enumerate(IMAGES[:3])])),
        ExactDenoiser(inferer.process, CLASSES),
        inferer=inferer,
        val_handlers=[ClassificationWriter(tmp_path, ["a", "b"])],
    )
    evaluator.run()
    with open(tmp_path / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    shares = ["probability_a", "probability_b", "log_likelihood_a", "log_likelihood_b"]
    spread = ["log_ratio_error"] if probes > 1 else []
    end = ["network_evaluations", "decided", "map", "warnings", "error"]
    assert list(rows[0]) == ["key", "predicted", *shares, "probability_margin", "probability_entropy", *spread, *end]
    expected = inferer.log_likelihood(IMAGES[:3], evaluator.network)
    got = [[float(row[f"log_likelihood_{name}"]) for name in "ab"] for row in rows]
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-5)
    assert all((tmp_path / row["map"]).is_file() for row in rows)


def test_the_report_calls_numbers_what_they_are(tmp_path):
    """The margin of a likelihood's probabilities was shown as a margin of votes, which were those of its probes."""
    inferer = ScoreClassifierInferer(VPSDE(), solver="multistep", num_steps=8, num_probes=3, probe="gaussian")
    evaluator = DiffusionClassifierEvaluator(
        torch.device("cpu"),
        DataLoader(Dataset([{"image": 0.1 * image, "key": f"{i}"} for i, image in enumerate(IMAGES)]), batch_size=4),
        ExactDenoiser(inferer.process, CLASSES),
        inferer=inferer,
        explain=False,
        val_handlers=[CaseReport(tmp_path / "cases.html", ["a", "b"])],
    )
    evaluator.run()
    html = (tmp_path / "cases.html").read_text(encoding="utf-8")
    found = dict(re.findall(r'<script type="application/json" id="([\w-]+)">(.*?)</script>', html))
    about = json.loads(found["about"])
    result = inferer.classify(0.1 * IMAGES, evaluator.network)
    top = result.probabilities.sort(1, descending=True).values
    votes = result.probe_share.sort(1, descending=True).values
    expected = {
        "Probability margin": (top[:, 0] - top[:, 1], "the largest probability less the second"),
        "Probe margin": (votes[:, 0] - votes[:, 1], "share of the probes for one class less that for the next"),
    }
    assert (expected["Probability margin"][0] - expected["Probe margin"][0]).abs().max() > 0.01, "two numbers"
    shown = {measure["title"]: measure for measure in about["uncertainties"]}
    for title, (values, words) in expected.items():
        assert shown[title]["words"] == words and shown[title]["surer"]
        numbers = [row["uncertainty"][shown[title]["name"]] for row in about["cases"]]
        np.testing.assert_allclose(numbers, values, rtol=1e-4, atol=1e-6)
    # Nothing is said of votes or draws, of which there are none.
    for measure in about["uncertainties"]:
        assert not re.search(r"\bvotes?\b|\bdraws?\b", f"{measure['title']} {measure['words']}".lower()), measure
    assert all(json.loads(found[f"case-{i}"])["voteShare"] is None for i in range(12))
    assert about["orderBy"] == "probability_entropy", "without votes, by the probabilities"


@pytest.mark.parametrize(("order_by", "meant"), [("entropy", "probability_entropy"), ("margin", "probability_margin")])
def test_configurations_may_rank_by_the_former_names(tmp_path, order_by, meant):
    inferer = ScoreClassifierInferer(VPSDE(), solver="multistep", num_steps=8)
    evaluator = DiffusionClassifierEvaluator(
        torch.device("cpu"),
        DataLoader(Dataset([{"image": image, "key": f"{i}"} for i, image in enumerate(IMAGES[:2])])),
        ExactDenoiser(inferer.process, CLASSES),
        inferer=inferer,
        explain=False,
        val_handlers=[CaseReport(tmp_path / "cases.html", ["a", "b"], order_by=order_by)],
    )
    with pytest.warns(DeprecationWarning, match=f"'{order_by}' is now '{meant}'"):
        evaluator.run()
    assert f'"orderBy":"{meant}"' in (tmp_path / "cases.html").read_text(encoding="utf-8")


def test_likelihoods_stored_under_the_former_name_are_read(tmp_path):
    values = torch.randn(2, 2, 3, dtype=torch.float64)
    stored = StoredLikelihoods(values, 4, torch.tensor([0, 1]), ["a", "b"], ["", ""], {"seed": 1})
    stored.save(tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as archive:
        arrays = dict(archive)
    arrays["log_likelihood"] = arrays.pop("probe_log_likelihood")
    np.savez_compressed(tmp_path / "old.npz", **arrays)
    for name in ("new.npz", "old.npz"):
        again = load_likelihoods(tmp_path / name)
        assert torch.equal(again.values, values) and again.provenance == {"seed": 1}

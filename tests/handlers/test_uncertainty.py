"""Metrics of uncertainty, the shift warning and the subgroup report of an evaluation."""

from __future__ import annotations

import csv
import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, DistributedSampler
from monai.engines import SupervisedEvaluator
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.classification import CurtailedVote
from monai_diffclf.engines import DiffusionClassifierEvaluator
from monai_diffclf.handlers import ShiftWarning, SubgroupReport, uncertainty_metrics, write_subgroups
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.metrics import accuracy_at_coverage, aurc, brier_score, expected_calibration_error
from monai_diffclf.uncertainty import fit_typicality
from tests.closed_form import ExactDenoiser, make_classes, make_images

DRAWS = 5


def evaluate(images, labels, device="cpu", handlers=(), metrics=None, draws=None, **more) -> tuple:
    """Run the exact classifier of two Gaussian classes; the evaluator, and what it put out for each image."""
    inferer = DiffusionClassifierInferer(DDPMScheduler(1000), **{"num_draws": DRAWS, **(draws or {})})
    items = [
        {"image": x, "label": int(y), "key": f"{i:02d}"} for i, (x, y) in enumerate(zip(images, labels, strict=True))
    ]
    kept: list = []
    evaluator = DiffusionClassifierEvaluator(
        torch.device(device),
        DataLoader(Dataset(items), batch_size=7),
        ExactDenoiser(inferer.process, make_classes("gaussian")),
        inferer=inferer,
        explain=False,
        key_val_metric=dict(list((metrics or {}).items())[:1]) or None,
        additional_metrics=dict(list((metrics or {}).items())[1:]) or None,
        postprocessing=lambda item: (kept.append(item), item)[1],
        val_handlers=list(handlers),
        **more,
    )
    evaluator.run()
    return evaluator, kept


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.stack(list(make_images(make_classes("gaussian"), 15)))


def test_metrics_are_those_of_all_images(images, device):
    labels = [i % 2 for i in range(30)]
    metrics = uncertainty_metrics(ranking="vote_entropy", coverage=0.9)
    evaluator, kept = evaluate(images, labels, device, metrics=metrics)
    p = torch.stack([item["pred"] for item in kept]).double().cpu().numpy()
    right = p.argmax(1) == labels
    entropy = [float(item["uncertainty"]["vote_entropy"]) for item in kept]
    found = evaluator.state.metrics
    assert found["brier_score"] == pytest.approx(float(brier_score(labels, p)))
    assert found["calibration_error"] == pytest.approx(float(expected_calibration_error(labels, p)))
    assert found["aurc"] == pytest.approx(float(aurc(right, entropy)))
    assert found["accuracy_at_90"] == pytest.approx(float(accuracy_at_coverage(right, entropy, coverage=0.9)))
    assert set(found) == set(metrics)


def test_images_are_ranked_by_either_margin(images):
    """Two trainings of thought: how the votes split, and how far the probabilities are apart."""
    labels = [i % 2 for i in range(30)]
    for ranking in ("vote_margin", "probability_margin"):
        metrics = uncertainty_metrics(ranking=ranking)
        evaluator, kept = evaluate(images, labels, metrics=metrics)
        right = torch.stack([item["pred"] for item in kept]).argmax(1).numpy() == labels
        doubt = [-float(item["uncertainty"][ranking]) for item in kept]
        assert evaluator.state.metrics["aurc"] == pytest.approx(float(aurc(right, doubt)))
    with pytest.warns(DeprecationWarning, match="'margin' is now 'vote_margin'"):
        former, _ = evaluate(images, labels, metrics=uncertainty_metrics(ranking="margin"))
    by_votes, _ = evaluate(images, labels, metrics=uncertainty_metrics(ranking="vote_margin"))
    assert former.state.metrics == by_votes.state.metrics


def test_margin_is_large_where_sure_and_unknown_rankings_are_refused():
    items = [
        {"pred": torch.tensor([0.9, 0.1]), "label": 0, "uncertainty": {"margin": 0.8}},
        {"pred": torch.tensor([0.6, 0.4]), "label": torch.tensor([0.0, 1.0]), "uncertainty": {"margin": 0.1}},
    ]
    for item in items:
        item["uncertainty"]["vote_share_low"] = item["uncertainty"]["margin"] - 0.05
    for ranking in ("margin", "vote_share_low"):
        handler = uncertainty_metrics(ranking=ranking)["excess_aurc"]
        handler.update(handler._output_transform(items))
        assert handler.compute() == pytest.approx(0)
    with pytest.raises(ValueError, match=r"ranking: expected one of the evaluator's uncertainties, \['margin', '.*got"):
        uncertainty_metrics(ranking="spread")["aurc"]._output_transform(items)


def validation() -> tuple:
    """Errors that the exact classifier makes on other images of the same classes."""
    inferer = DiffusionClassifierInferer(DDPMScheduler(1000), num_draws=DRAWS)
    classes = make_classes("gaussian")
    pictures = torch.stack(list(make_images(classes, 40, seed=9)))
    return inferer.compute_errors(pictures, ExactDenoiser(inferer.process, classes)), pictures


@pytest.fixture(scope="module")
def fitted():
    return fit_typicality(validation()[0], num_bands=2)


def test_shift_is_warned_of_and_nothing_else_is(images, fitted, device):
    handler = ShiftWarning(fitted)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The denoising errors")
        evaluate(images, [0] * 30, device, [handler])
    assert (handler.result.detected, handler.result.num_images) == (False, 30)
    with pytest.warns(UserWarning, match="The denoising errors of these 30 images differ.*fit them anew on labelled"):
        evaluate(images + 3 * torch.randn_like(images), [0] * 30, device, [handler])
    assert handler.result.detected


def test_shift_test_of_one_order_is_that_of_another(images, fitted):
    results = []
    for order in (range(30), reversed(range(30))):
        handler = ShiftWarning(fitted)
        evaluate(images[list(order)], [0] * 30, handlers=[handler])
        results.append(handler.result.p_value)
    assert results[0] == results[1]


class Errors(torch.nn.Module):
    """Gives back the errors that the image holds."""

    def forward(self, x):
        return x[:, 0]


def run_plain(items, handler, sampler=None):
    loader = DataLoader(Dataset(items), batch_size=4, sampler=sampler)
    SupervisedEvaluator(torch.device("cpu"), loader, Errors(), val_handlers=[handler]).run()


def test_patients_are_permuted_whole_and_padding_counts_once(fitted):
    """Eleven images of two patients are worth less than those of eleven."""
    values = 1.1 * validation()[0].values[30:41]
    items = [{"image": v[None], "label": torch.zeros(1), "patient": f"P{i % 2}"} for i, v in enumerate(values)]
    alone, named = ShiftWarning(fitted, output="pred"), ShiftWarning(fitted, output="pred")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_plain([{k: v for k, v in item.items() if k != "patient"} for item in items], alone)
        run_plain(items, named)
        assert alone.result.statistic == pytest.approx(named.result.statistic)
        assert alone.result.p_value < named.result.p_value
        counts = []
        for rank in range(2):
            sampler = DistributedSampler(Dataset(items), even_divisible=True, num_replicas=2, rank=rank, shuffle=False)
            run_plain(items, named, sampler)
            counts.append(named.result.num_images)
    assert sum(counts) == 11


@pytest.mark.parametrize(("count", "processes"), [(5, 2), (7, 3), (1, 2)])
def test_metrics_count_padding_once(count, processes):
    """What the processes would gather is each image once; a process with padding alone takes part all the same."""
    items = [{"image": torch.tensor([[i / 8]]), "label": i % 2} for i in range(count)]
    seen = []
    for rank in range(processes):
        sampler = DistributedSampler(
            Dataset(items), even_divisible=True, num_replicas=processes, rank=rank, shuffle=False
        )
        metrics = uncertainty_metrics()
        handler = metrics["aurc"]
        evaluator = SupervisedEvaluator(
            torch.device("cpu"),
            DataLoader(Dataset(items), batch_size=2, sampler=sampler),
            torch.nn.Flatten(),
            postprocessing=lambda item: {**item, "pred": torch.cat([item["pred"], 1 - item["pred"]])},
        )
        handler.completed = lambda engine, name: None  # it needs the images of the other processes
        handler.attach(evaluator, "aurc")
        evaluator.run()
        predictions, labels = handler.metric_fn.get_buffer()
        assert len(predictions) == -(-count // processes)
        seen += (8 * predictions[labels >= 0][:, 0]).round().int().tolist()
    assert sorted(seen) == list(range(count))


@pytest.mark.filterwarnings("ignore:The denoising errors")
def test_images_of_unknown_patients_are_permuted_singly(fitted):
    values, results = 1.1 * validation()[0].values[30:41], []
    for unknown in ("", None, float("nan")):
        handler = ShiftWarning(fitted, output="pred")
        state = SimpleNamespace(
            dataloader=None, batch=[{"patient": unknown}] * 11, output=[{"pred": v} for v in values]
        )
        handler._collect(SimpleNamespace(state=state))
        handler.test()
        results.append((handler.result.statistic, handler.result.p_value))
    assert results[0] == results[1] == results[2]


def test_stopped_draws_are_refused(fitted):
    item = {"image": torch.full((1, 2, DRAWS), torch.nan), "label": torch.zeros(1)}
    with pytest.raises(ValueError, match="expected all draws of all classes.*without a stopping rule"):
        run_plain([item], ShiftWarning(fitted, output="pred"))


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        (
            {"noise_levels": "uniform"},
            "errors: expected the noise levels of the fit, got log-SNRs that differ by up to",
        ),
        ({"num_draws": 7}, "expected the shape .*, the 5 draws of the fit"),
        ({"stopping": CurtailedVote()}, "inferer: expected one without a stopping rule, got CurtailedVote"),
    ],
)
def test_other_draws_are_refused_before_any_is_made(fitted, images, draws, message):
    with pytest.raises(ValueError, match=message):
        evaluate(images, [0] * 30, handlers=[ShiftWarning(fitted)], draws=draws)


def write_table(path, rows) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([["key", "sex", "age"], *rows])


def test_report_by_columns_of_a_table(tmp_path, images):
    write_table(tmp_path / "table.csv", [[f"{i:02d}", "fm"[i // 15], f"0{30 + i}Y"] for i in range(29)])
    report = SubgroupReport(
        tmp_path / "subgroups.json", tmp_path / "table.csv", ["sex"], age_column="age", min_images=10, num_resamples=20
    )
    labels = [i % 2 for i in range(30)]
    _, kept = evaluate(images, labels, handlers=[report])
    rows = json.loads((tmp_path / "subgroups.json").read_text())
    found = [(row["column"], row["subgroup"], row["num_images"]) for row in rows]
    assert found == [
        ("all", "all", 30),
        ("sex", "f", 15),
        ("sex", "m", 14),
        ("sex", "unknown", 1),
        ("age", "18-39", 10),
        ("age", "40-59", 19),
        ("age", "unknown", 1),
    ]
    right = [int(item["pred"].argmax()) == y for item, y in zip(kept, labels, strict=True)]
    assert rows[1]["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(right[:15]))
    assert rows[3]["metrics"]["accuracy"] is None
    write_subgroups(tmp_path / "subgroups.csv", rows)
    table = list(csv.DictReader((tmp_path / "subgroups.csv").read_text().splitlines()))
    assert float(table[1]["accuracy_low"]) == rows[1]["metrics"]["accuracy"]["low"]
    assert (table[3]["accuracy"], table[3]["num_patients"], table[1]["num_class_0"]) == ("", "", "8")


def test_report_refuses(tmp_path, images):
    table = tmp_path / "table.csv"
    with pytest.raises(ValueError, match="table: expected a CSV table, but .* does not exist"):
        SubgroupReport(tmp_path / "s.csv", table, ["sex"])
    write_table(table, [["other", "f", "3"]])
    with pytest.raises(ValueError, match=r"table.csv: expected the columns .* but \['site'\] is missing"):
        SubgroupReport(tmp_path / "s.csv", table, ["site"])
    with pytest.raises(ValueError, match="columns: expected at least one column, or an age_column, got none"):
        SubgroupReport(tmp_path / "s.csv", table)
    with pytest.raises(ValueError, match="path: expected a name ending in .csv or .json, got 's.txt'"):
        SubgroupReport(tmp_path / "s.txt", table, ["sex"])
    twice = tmp_path / "twice.csv"
    write_table(twice, [["00", "f", "3"], ["00", "m", "3"]])
    with pytest.raises(ValueError, match=r"twice\.csv, line 3: expected one row an image, got a second one with the"):
        SubgroupReport(tmp_path / "s.csv", twice, ["sex"])
    with pytest.raises(ValueError, match="none of their keys, such as '00', is in"):
        evaluate(images[:4], [0, 1, 0, 1], handlers=[SubgroupReport(tmp_path / "s.csv", table, ["sex"])])
    with pytest.raises(ValueError, match="rows: expected those of subgroup_metrics, got none"):
        write_subgroups(tmp_path / "s.csv", [])

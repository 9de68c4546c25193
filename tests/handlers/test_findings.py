"""Handlers, tables and fits of several findings: each is seen as a question of two classes."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, DistributedSampler
from monai.engines import SupervisedEvaluator
from monai.handlers import from_engine
from monai.networks.schedulers import DDPMScheduler
from sklearn.metrics import roc_auc_score

from monai_diffclf.engines import DiffusionClassifierEvaluator
from monai_diffclf.explain import overlay
from monai_diffclf.handlers import CaseReport, ClassificationWriter, FindingsROCAUC, FindingsSaver, read_results
from monai_diffclf.handlers.classification_writer import map_of_class, map_pictures
from monai_diffclf.handlers.finding_view import of_finding
from monai_diffclf.handlers.prediction_table import prediction_row
from monai_diffclf.inferers import MultiLabelClassifierInferer
from monai_diffclf.keys import OutputKeys
from monai_diffclf.metrics import FindingsROCAUCMetric
from monai_diffclf.storage import FittedUncertainty, load_errors, save_uncertainty
from monai_diffclf.transforms import CalibrateFindingsd, ErrorMapd
from monai_diffclf.uncertainty import Calibration, ConformalSets

FINDINGS = ["nodule", "=effusion"]
SCHEDULER = DDPMScheduler(100, prediction_type="sample", schedule="cosine_log_snr", log_snr_min=-6, log_snr_max=6)


class Halves(torch.nn.Module):
    """Knows that finding 0 whitens the upper half of an image and finding 1 the lower half."""

    def forward(self, x, timesteps, states):
        values = torch.tensor([0.0, 1.0, 0.5], device=x.device)[states]
        rows = values.repeat_interleave(x.shape[2] // 2, 1)
        return rows[:, None, :, None].expand_as(x)


def make_items(count: int = 24, unknown: bool = True) -> list[dict]:
    rng = np.random.default_rng(0)
    items = []
    for index in range(count):
        truth = rng.integers(0, 2, 2)
        image = np.repeat(truth, 4)[None, :, None] + rng.normal(0, 1.2, (1, 8, 8))
        label = truth.copy()
        if unknown and index % 6 == 0:
            label[index // 6 % 2] = 2
        items.append({"image": image.astype(np.float32), "label": label, "key": f"film_{index:02d}"})
    return items


def test_auc_counts_padding_once():
    truth = torch.tensor([[0, 1], [1, 0], [0, 1], [1, 2], [0, 0]])
    scores = torch.rand(5, 2, generator=torch.Generator().manual_seed(0))
    items = [{"image": score, "label": label} for score, label in zip(scores, truth, strict=True)]
    seen: list[list] = []
    for rank in range(2):
        sampler = DistributedSampler(Dataset(items), even_divisible=True, num_replicas=2, rank=rank, shuffle=False)
        loader = DataLoader(Dataset(items), batch_size=2, sampler=sampler)
        handler = FindingsROCAUC(from_engine(["pred", "label"]))
        handler.completed = lambda engine, name: None  # it needs the images of the other process
        evaluator = SupervisedEvaluator(torch.device("cpu"), loader, torch.nn.Identity())
        handler.attach(evaluator, "auc")
        evaluator.run()
        seen.append(handler.metric_fn.get_buffer())
    predictions, labels = (torch.cat(parts) for parts in zip(*seen, strict=True))
    whole, padded = FindingsROCAUCMetric(), FindingsROCAUCMetric()
    whole(scores, truth)
    padded(predictions, labels)
    assert len(labels) == 6 and (labels == 2).all(1).sum() == 1 and padded.aggregate() == whole.aggregate()


def make_evaluator(items, handlers=(), device="cpu", **settings) -> DiffusionClassifierEvaluator:
    inferer = MultiLabelClassifierInferer(
        SCHEDULER, 2, num_draws=7, rule="mean", conditioning=lambda states: {"states": states}
    )
    return DiffusionClassifierEvaluator(
        device=torch.device(device),
        val_data_loader=DataLoader(Dataset(items), batch_size=5),
        network=Halves().eval(),
        inferer=inferer,
        val_handlers=list(handlers),
        **settings,
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    items = make_items()
    evaluator = make_evaluator(items, explain=False)
    results = folder / "results.json"
    FindingsSaver(
        folder,
        evaluator.inferer,
        results,
        findings=FINDINGS,
        split="validation",
        data="halves",
        num_resamples=50,
        facts={"classes": FINDINGS},
    ).attach(evaluator)
    evaluator.run()
    return folder, items


def test_each_finding_has_an_evaluation_of_two_classes_without_unknown_labels(saved):
    folder, items = saved
    labels = np.stack([item["label"] for item in items])
    results = read_results(folder / "results.json")["validation"]
    for number, name in enumerate(FINDINGS):
        stored = load_errors(folder / f"finding_{number}" / "errors_validation_seed_0.npz")
        known = labels[:, number] != 2
        assert stored.errors.values.shape == (known.sum(), 2, 7)
        assert stored.keys == [item["key"] for item, use in zip(items, known, strict=True) if use]
        assert stored.labels.tolist() == labels[known, number].tolist()
        assert stored.provenance["finding"] == number and stored.provenance["num_classes"] == 2
        entry = results[f"diffusion_mean, {name}"]
        rows = list(csv.reader((folder / f"finding_{number}" / "validation_diffusion_mean_seed_0.csv").open()))
        scores = [float(row[-1]) for row in rows[1:]]
        assert entry["auc"]["value"] == pytest.approx(roc_auc_score(labels[known, number], scores), abs=1e-9)
        assert entry["num_images"] == known.sum()


def test_findings_are_in_folders_by_number_as_their_names_are_text(saved):
    folder, _ = saved
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["finding_0", "finding_1"]


def test_a_finding_called_as_the_absence_of_all_is_refused(device):
    evaluator = make_evaluator(make_items(2), [], device)
    with pytest.raises(ValueError, match="classes: expected findings by another name than 'none'"):
        FindingsSaver("unused", evaluator.inferer, findings=["nodule", "None"], split="test", data="none")
    result = {"pred": torch.tensor([0.9, 0.2]), OutputKeys.MULTI_LABEL: True}
    with pytest.raises(ValueError, match="classes: expected findings by another name than 'none'"):
        prediction_row({"key": "a"}, result, ["nodule", "None"])


def test_the_table_has_a_column_a_finding(tmp_path, device):
    items = make_items(6, unknown=False)
    evaluator = make_evaluator(items, [ClassificationWriter(tmp_path, FINDINGS)], device)
    evaluator.run()
    rows = list(csv.DictReader((tmp_path / "predictions.csv").open()))
    assert {"probability_nodule", "vote_share_nodule", "vote_entropy_=effusion"} <= set(rows[0])
    assert sum("=effusion" in name for name in rows[0]) == 5
    images = torch.stack([torch.as_tensor(item["image"]) for item in items]).to(device)
    expected = evaluator.inferer.classify(images, evaluator.network)
    for row, probabilities, predicted in zip(rows, expected.probabilities, expected.predicted, strict=True):
        assert float(row["probability_nodule"]) == pytest.approx(float(probabilities[0]), abs=1e-5)
        names = [name for name, state in zip(FINDINGS, predicted.tolist(), strict=True) if state]
        written = row["predicted"].lstrip("'")
        assert written == (";".join(names) or "none")
        assert row["network_evaluations"] == "28" and row["decided"] == "true"
        assert [row["map_nodule"][-13:], row["map_=effusion"][-13:]] == ["finding_0.png", "finding_1.png"]
        assert all((tmp_path / row[f"map_{name}"]).is_file() for name in FINDINGS)


def test_pictures_of_the_findings_of_an_image_are_on_one_scale():
    evaluator = make_evaluator(make_items(3))
    evaluator.run()
    for item in evaluator.state.output:
        maps, grey = map_of_class(item), (np.asarray(item["image"]) + 1) / 2
        limit = float(maps.abs().max())
        for painted, each in zip(map_pictures(item), maps.numpy(), strict=True):
            np.testing.assert_array_equal(painted, overlay(grey, each, limit=limit))
        faint = int(maps.abs().amax((1, 2)).argmin())
        unpainted = overlay(grey, np.zeros((8, 8)))
        alone = np.abs(overlay(grey, maps[faint].numpy()) - unpainted).max()
        assert np.abs(map_pictures(item)[faint] - unpainted).max() < alone


def test_cases_are_an_image_and_a_finding(tmp_path):
    items = make_items(4)
    report = CaseReport(tmp_path / "cases.html", ["absent", "present"], findings=["nodule", "<effusion>"])
    make_evaluator(items, [report]).run()
    page = (tmp_path / "cases.html").read_text(encoding="utf-8")
    assert "film_00: nodule" in page and "<effusion>" not in page
    about = json.loads(page.split('id="about">')[1].split("</script>")[0])
    assert about["findings"] == ["nodule", "<effusion>"]
    assert [(row["image"], row["finding"]) for row in about["cases"][:2]] == [
        ("film_00", "nodule"),
        ("film_00", "<effusion>"),
    ]
    assert ">Images</dt><dd>4<" in page and ">8</dd>" in page
    with pytest.raises(ValueError, match="findings: expected the names of the findings where images have several"):
        make_evaluator(items, [CaseReport(tmp_path / "c.html", FINDINGS)]).run()
    with pytest.raises(ValueError, match="classes: expected what absent and present are called"):
        CaseReport(tmp_path / "c.html", ["absent", "present", "unknown"], findings=FINDINGS)


def test_one_finding_of_an_item_is_an_item_of_two_classes():
    evaluator = make_evaluator(make_items(3))
    evaluator.run()
    item = evaluator.state.output[0]
    seen = of_finding(item, 1)
    assert seen["pred"].tolist() == [1 - float(item["pred"][1]), float(item["pred"][1])]
    assert torch.equal(seen["errors"], item["errors"][2:4])
    assert torch.equal(seen["error_maps"], item["error_maps"][1])
    assert float(seen["uncertainty"]["vote_entropy"]) == float(item["uncertainty"]["vote_entropy"][1])


def test_maps_of_findings_as_a_post_transform():
    evaluator = make_evaluator(make_items(3), postprocessing=ErrorMapd())
    evaluator.run()
    for item in evaluator.state.output:
        absent, present = item["error_maps"].unbind(1)
        torch.testing.assert_close(torch.as_tensor(item["decision_map"]), absent - present)
    with pytest.raises(ValueError, match="kind: expected 'signed' or 'unit' for several findings"):
        ErrorMapd(kind="overlay")(evaluator.state.output[0])


def test_a_journal_resumes(tmp_path):
    items = make_items(6)
    first = make_evaluator(items, explain=False, journal_dir=tmp_path / "journal")
    first.run()
    again = make_evaluator(items, explain=False, journal_dir=tmp_path / "journal")
    again.run()
    for before, after in zip(first.state.output, again.state.output, strict=True):
        assert bool(after["recorded"]) and torch.equal(before["pred"], after["pred"])
        assert after["decided"].shape == (2,)


def test_auc_of_findings_leaves_unknown_ones_out(device):
    items = make_items()
    evaluator = make_evaluator(
        items,
        device=device,
        explain=False,
        key_val_metric={"auc": FindingsROCAUC(lambda out: ([i["pred"] for i in out], [i["label"] for i in out]))},
    )
    evaluator.run()
    labels = np.stack([item["label"] for item in items])
    images = torch.stack([torch.as_tensor(item["image"]) for item in items]).to(device)
    scores = evaluator.inferer(images, evaluator.network).cpu().numpy()
    each = [roc_auc_score(y[y != 2], s[y != 2]) for y, s in zip(labels.T, scores.T, strict=True)]
    assert evaluator.state.metrics["auc"] == pytest.approx(np.mean(each), abs=1e-6)


def test_auc_of_a_finding_without_any_positive_is_refused():
    metric = FindingsROCAUCMetric()
    metric(torch.rand(4, 2), torch.tensor([[0, 0], [0, 1], [2, 0], [0, 1]]))
    with pytest.raises(ValueError, match="images with and without finding 0, got 0 with, 3 without; leave the finding"):
        metric.aggregate()


@pytest.fixture
def fitted(tmp_path):
    for number, temperature in enumerate((2.0, 0.5)):
        each = FittedUncertainty(
            "mean",
            Calibration("temperature", {"temperature": temperature}, (0.5, 0.5), 100),
            ConformalSets(([0.05] * 19, [0.1] * 19)),
            provenance={"network": "n", "finding": number},
        )
        save_uncertainty(tmp_path / f"finding_{number}.json", {"mean": each})
    return tmp_path


def test_each_finding_is_calibrated_by_its_own_fit(fitted):
    calibrate = CalibrateFindingsd("pred", fitted, num_findings=2, rule="mean", provenance={"network": "n"})
    out = calibrate({"pred": torch.tensor([0.9, 0.75])})
    assert out["pred"].tolist() == pytest.approx([0.75, 0.9])  # odds 9 to the power 1/2, odds 3 to the power 2
    assert out["pred_uncalibrated"].tolist() == pytest.approx([0.9, 0.75])
    assert out["prediction_set"].shape == (2, 2)
    moved = CalibrateFindingsd("pred", fitted, num_findings=2, rule="mean", prior=[0.1, 0.5])
    odds = moved({"pred": torch.tensor([0.9, 0.75])})["pred"].logit() - out["pred"].logit()
    assert odds.tolist() == pytest.approx([torch.tensor(0.1).logit().item(), 0], abs=1e-4)


def test_calibration_refuses_what_does_not_fit(fitted):
    with pytest.raises(ValueError, match="prior: expected one number a finding"):
        CalibrateFindingsd("pred", fitted, num_findings=2, rule="mean", prior=[0.5])
    with pytest.raises(ValueError, match="pred: expected a probability for each of 2 findings"):
        CalibrateFindingsd("pred", fitted, num_findings=2, rule="mean")({"pred": torch.rand(3)})
    (fitted / "finding_1.json").write_text((fitted / "finding_0.json").read_text())
    with pytest.raises(ValueError, match="fitted for another model: finding: expected 1, found 0"):
        CalibrateFindingsd("pred", fitted, num_findings=2, rule="mean", provenance={"network": "n"})
    content = json.loads((fitted / "finding_0.json").read_text())
    assert content["mean"]["provenance"]["finding"] == 0

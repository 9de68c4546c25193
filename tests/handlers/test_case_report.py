"""A report of an evaluation, case by case."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.networks.schedulers import DDPMScheduler
from monai.transforms import AsDiscreted
from PIL import Image

from monai_diffclf.explain import CounterfactualGenerator, decision_map
from monai_diffclf.handlers import CaseReport
from monai_diffclf.transforms import CalibrateProbabilitiesd
from monai_diffclf.uncertainty import Calibration

ROOT = Path(__file__).resolve().parents[2]


def read(path) -> tuple[dict, list[dict]]:
    """The overview and the cases of a page."""
    html = path.read_text(encoding="utf-8")
    found = dict(re.findall(r'<script type="application/json" id="([\w-]+)">(.*?)</script>', html))
    about = json.loads(found["about"])
    return about, [json.loads(found[f"case-{i}"]) for i in range(len(about["cases"]))]


def pixels(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))


def test_every_image_has_a_case(evaluate, images, tmp_path):
    path = tmp_path / "cases.html"
    _, outputs = evaluate(images, [CaseReport(path, ["no", "yes"], title="Films", notes={"Model": "tiny"})])
    about, cases = read(path)
    assert [row["key"] for row in about["cases"]] == [f"film {i}" for i in range(5)]
    assert [row["label"] for row in about["cases"]] == [0, 1, 0, 1, 0]
    for i, (row, case, output) in enumerate(zip(about["cases"], cases, outputs, strict=True)):
        assert row["predicted"] == int(output["pred"].argmax())
        assert case["probabilities"] == pytest.approx(output["pred"].tolist(), rel=1e-5)
        assert case["voteShare"] == pytest.approx(output["vote_share"].tolist(), rel=1e-5)
        assert row["uncertainty"] == pytest.approx({n: float(v) for n, v in output["uncertainty"].items()}, rel=1e-5)
        assert (case["networkEvaluations"], case["decided"], len(case["draws"]["winner"])) == (18, True, 9)
        expected = (255 * (images[i, 0].numpy() + 1) / 2).round()
        np.testing.assert_array_equal(pixels(case["image"]), expected)
        predicted = torch.tensor([row["predicted"]])
        difference = decision_map(output["error_maps"][None].cpu(), predicted)[0]
        assert case["mapLimit"] == pytest.approx(difference.abs().double().quantile(0.995).item(), rel=1e-4)
    votes = [np.bincount(case["draws"]["winner"], minlength=2) / 9 for case in cases]
    np.testing.assert_allclose(votes, [output["vote_share"].tolist() for output in outputs], atol=1e-6)


def test_what_post_transforms_add(evaluate, images, tmp_path):
    path = tmp_path / "cases.html"

    def post(item):
        calibrated = torch.tensor([0.75, 0.25])
        return {
            **item,
            "pred_uncalibrated": item["pred"],
            "pred": calibrated,
            "prediction_set": torch.tensor([True, False]),
            "ood_score": torch.tensor(2.5),
            "ood_p_value": torch.tensor(0.125),
        }

    _, outputs = evaluate(images, [CaseReport(path, ["no", "yes"])], postprocessing=post)
    about, cases = read(path)
    for row, case, output in zip(about["cases"], cases, outputs, strict=True):
        assert (row["predicted"], row["probability"], row["set"], row["ood"]) == (0, 0.75, [0], 0.125)
        assert case["uncalibrated"] == pytest.approx(output["pred_uncalibrated"].tolist(), rel=1e-5)
        assert case["oodScore"] == 2.5
        assert row["uncertainty"]["probability_margin"] == 0.5, "that of the probabilities beside it"


def test_labels_names_maps_and_a_stopping_rule_are_optional(evaluate, images, tmp_path):
    path = tmp_path / "cases.html"
    evaluate(images, [CaseReport(path, ["no", "yes"])], labels=False, keys=False, stopping=True)
    about, cases = read(path)
    assert [row["key"] for row in about["cases"]] == [f"image {i}" for i in range(5)]
    assert {row["label"] for row in about["cases"]} == {None}
    assert all(case["map"] is None for case in cases)
    assert min(len(case["draws"]["winner"]) for case in cases) < 9, "draws never made are not shown"


def test_the_least_sure_are_shown(evaluate, images, tmp_path):
    path = tmp_path / "cases.html"
    _, outputs = evaluate(images, [CaseReport(path, ["no", "yes"], max_cases=2, order_by="probability")])
    about, _ = read(path)
    doubt = [1 - float(output["pred"].max()) for output in outputs]
    expected = sorted(sorted(range(5), key=lambda i: (-doubt[i], i))[:2])
    assert [row["key"] for row in about["cases"]] == [f"film {i}" for i in expected]
    assert "the 2 least sure of 5 images" in path.read_text(encoding="utf-8")


def test_unknown_order_is_refused(evaluate, images, tmp_path):
    with pytest.raises(ValueError, match=r"order_by: expected one of \['entropy_.* or 'probability', got 'entropy'"):
        evaluate(images, [CaseReport(tmp_path / "cases.html", ["no", "yes"], order_by="entropy")])


def test_images_of_one_name_are_numbered(evaluate, images, tmp_path):
    path = tmp_path / "cases.html"
    handler = CaseReport(path, ["no", "yes"])
    evaluator, _ = evaluate(images, [handler], run=False)
    evaluator.data_loader.dataset.data[0]["key"] = evaluator.data_loader.dataset.data[1]["key"] = "film"
    evaluator.run()
    about, _ = read(path)
    assert [row["key"] for row in about["cases"]] == ["film (1)", "film (2)", "film 2", "film 3", "film 4"]


def test_every_run_starts_anew(evaluate, images, tmp_path):
    handler = CaseReport(tmp_path / "cases.html", ["no", "yes"])
    evaluate(images, [handler])
    evaluate(images[:2], [handler])
    assert len(read(tmp_path / "cases.html")[0]["cases"]) == 2


def test_of_volumes_the_slice_that_speaks_most(evaluate, images, tmp_path):
    path = tmp_path / "cases.html"
    volumes = images[..., None].repeat(1, 1, 1, 1, 4)
    volumes[..., 2] = volumes[..., 2] * 1.5 + 0.2
    _, outputs = evaluate(volumes.clamp(-1, 1), [CaseReport(path, ["no", "yes"])])
    about, cases = read(path)
    for row, case, output in zip(about["cases"], cases, outputs, strict=True):
        difference = decision_map(output["error_maps"][None].cpu(), torch.tensor([row["predicted"]]))[0]
        index = int(difference.abs().amax((0, 1)).argmax())
        assert case["note"] == f"slice {index + 1} of 4"
        # The first axis points to the right and the second to the front, as MONAI has it.
        upright = output["image"].cpu()[0, ..., index].numpy().T[::-1, ::-1]
        np.testing.assert_array_equal(pixels(case["image"]), (255 * (upright + 1) / 2).round())
        assert case["volume"]["size"] == [*upright.shape, 4] and case["volume"]["at"][2] == index


def test_counterfactuals_of_the_images_shown(evaluate, images, tmp_path):
    path, calls = tmp_path / "cases.html", []

    def paint(given, network, *, source, target, inferer):
        assert not network.training
        calls.append((len(given), source.tolist(), target.tolist(), type(inferer).__name__))
        return SimpleNamespace(
            factual=given,
            counterfactual=-given,
            target=target,
            drift=torch.full((len(given),), 0.25),
            drifted=torch.tensor([True, False, False])[: len(given)],
            flipped=torch.tensor([True, False, True])[: len(given)],
        )

    evaluate(images, [CaseReport(path, ["no", "yes"], counterfactuals=paint, max_cases=3)])
    about, cases = read(path)
    predicted = [row["predicted"] for row in about["cases"]]
    assert calls == [(3, predicted, [1 - k for k in predicted], "DiffusionClassifierInferer")]
    pairs = [case["counterfactual"] for case in cases]
    assert [pair["flipped"] for pair in pairs] == [True, False, True]
    assert [pair["flippedBaseline"] for pair in pairs] == [None] * 3
    assert [bool(pair["warning"]) for pair in pairs] == [True, False, False]
    assert [pair["drift"] for pair in pairs] == [0.125] * 3
    for case in cases:
        shown, other = pixels(case["image"]).astype(int), pixels(case["counterfactual"]["counterfactual"]).astype(int)
        assert np.abs(shown + other - 255).max() <= 1


def test_our_own_generator(evaluate, images, tmp_path):
    path = tmp_path / "cases.html"
    generator = CounterfactualGenerator(DDPMScheduler(100, prediction_type="sample"), guidance=0, num_steps=4)
    evaluate(images[:2], [CaseReport(path, ["no", "yes"], counterfactuals=generator)])
    about, cases = read(path)
    for row, case in zip(about["cases"], cases, strict=True):
        assert case["counterfactual"]["target"] == 1 - row["predicted"]
        assert case["counterfactual"]["flipped"] in (True, False)
        assert case["counterfactual"]["drift"] >= 0


def test_what_does_not_fit_is_refused_at_once(evaluate, images, tmp_path):
    path = tmp_path / "cases.html"
    with pytest.raises(ValueError, match="classes: expected 2 names, one for each probability of pred, got 3"):
        evaluate(images, [CaseReport(path, ["a", "b", "c"])])
    with pytest.raises(ValueError, match=r"pred: expected class probabilities \[K\], got shape \[1\]; where metrics"):
        evaluate(images, [CaseReport(path, ["no", "yes"])], postprocessing=AsDiscreted("pred", argmax=True))
    for name in ("counterfactuals", "nearest"):
        with pytest.raises(TypeError, match=f"{name}: expected None or what can be called with images, got 'null'"):
            CaseReport(path, ["no", "yes"], **{name: "null"})
    with pytest.raises(ValueError, match="max_cases: expected a positive number, got 0"):
        CaseReport(path, ["no", "yes"], max_cases=0)
    assert not path.exists()


@pytest.mark.slow
def test_two_processes_write_what_one_does(tmp_path):
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("report_in_processes.py"), tmp_path],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert (tmp_path / "two.html").read_text() == (tmp_path / "one.html").read_text()
    assert [row["key"] for row in read(tmp_path / "one.html")[0]["cases"]] == ["film 1", "film 2", "film 3"]


def test_uncertainty_is_of_the_probabilities_shown(evaluate, images, tmp_path):
    """Calibration changes the probabilities; their margin and entropy beside them must be theirs."""
    path = tmp_path / "cases.html"
    calibration = Calibration("temperature", {"temperature": 3.0}, (0.5, 0.5), 100)
    post = CalibrateProbabilitiesd("pred", calibration)
    _, outputs = evaluate(images, [CaseReport(path, ["no", "yes"])], postprocessing=post)
    about, cases = read(path)
    titles = {measure["name"]: measure["title"] for measure in about["uncertainties"]}
    assert (titles["vote_margin"], titles["probability_margin"]) == ("Vote margin", "Probability margin")
    for row, case, output in zip(about["cases"], cases, outputs, strict=True):
        assert case["uncalibrated"] != pytest.approx(case["probabilities"], rel=0.01)
        shown, shares = row["uncertainty"], sorted(case["voteShare"])
        assert shown["probability_margin"] == pytest.approx(abs(np.subtract(*case["probabilities"])), abs=1e-5)
        assert shown["vote_margin"] == pytest.approx(shares[-1] - shares[0], abs=1e-5)
        assert output["uncertainty"]["probability_margin"] == pytest.approx(shown["probability_margin"], abs=1e-5)


@pytest.mark.parametrize(("order_by", "meant"), [(None, "vote_entropy"), ("margin", "vote_margin")])
def test_order_by_default_and_by_a_former_name(evaluate, images, tmp_path, order_by, meant):
    path = tmp_path / "cases.html"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        evaluate(images, [CaseReport(path, ["no", "yes"], order_by=order_by)])
    assert any("'margin' is now" in str(warning.message) for warning in caught) == (order_by == "margin")
    assert read(path)[0]["orderBy"] == meant


def test_a_report_of_an_earlier_run_does_not_stay(evaluate, images, tmp_path):
    evaluate(images, [CaseReport(tmp_path / "cases.html", ["no", "yes"])])
    (tmp_path / "mine.html").write_text("...")

    def fail(item):
        raise RuntimeError("power cut")

    with pytest.raises(Exception, match="power cut|fail"):
        evaluate(images[:2], [CaseReport(tmp_path / "cases.html", ["no", "yes"])], postprocessing=fail)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".outputs.jsonl", "mine.html"]

"""A report of an evaluated run says what its folder says, for any number of classes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_diffclf.handlers import read_results
from monai_diffclf.report import write_report
from monai_diffclf.report.curves import classify, metric_table
from monai_diffclf.report.gallery import choose_images
from monai_diffclf.report.run_figures import reliability
from monai_diffclf.report.run_folder import check_weights, read_run
from monai_diffclf.report.run_report import report_of_run
from monai_diffclf.storage import FittedUncertainty, load_errors, save_errors, save_uncertainty
from monai_diffclf.uncertainty import fit_calibration, fit_conformal
from tests.report.run_folders import NETWORK, make_run
from tests.report.test_html import read

SIX = ["disc", "ring", "a <b>long</b> name of a class & more", "$import os", "cross", "stripes"]


def page_of(run: Path, tmp_path: Path, **changes):
    data = report_of_run(read_run(run), temperature=0.3)
    return read(write_report(tmp_path / "report.html", replace(data, **changes)))


@pytest.mark.parametrize("count", [2, 6, 20])
def test_every_class_has_a_row_and_nothing_is_fetched(tmp_path, count):
    classes = (SIX + [f"class {k}" for k in range(6, 20)])[:count]
    text, checker = page_of(make_run(tmp_path / "run", classes), tmp_path)
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in checker.addresses)
    assert not {"script", "link", "iframe", "b>long"} & set(checker.tags)
    table = text[text.index("numbers classes") : text.index("</table>", text.index("numbers classes"))]
    assert table.count("<tr>") == 2 + count
    matrix = re.findall(r'<table class="confusion.*?</table>', text, re.DOTALL)
    assert [m.count("<td") for m in matrix] == [count**2] * 2
    for name in classes:
        assert name in checker.text
    assert "<b>long</b>" not in text
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    assert used <= set(re.findall(r"(--[\w-]+):", text))


def test_numbers_are_those_of_the_evaluation(tmp_path):
    run = make_run(tmp_path / "run", SIX)
    text, checker = page_of(run, tmp_path)
    results = read_results(run / "results.json")["test"]
    table = metric_table(report_of_run(read_run(run)))
    for rule in ("vote", "mean"):
        for metric in ("auc", "accuracy", "balanced_accuracy"):
            value = results[f"diffusion_{rule}"][metric]["value"]
            assert table[rule][metric]["value"] == value
            assert f"{value:.3f}" in checker.text
    matrix = re.findall(r'<table class="confusion.*?</table>', text, re.DOTALL)[1]
    stored = np.loadtxt(
        run / "evaluation" / "test_diffusion_mean_seed_0_confusion.csv", delimiter=",", skiprows=1, usecols=range(1, 7)
    )
    shown = [int(n) if n.isdigit() else 0 for n in re.findall(r">([\d·]+)</td>", matrix)]
    assert shown == stored.astype(int).flatten().tolist()


@pytest.mark.parametrize(
    ("floor", "said"),
    [
        (0.6, "The diffusion classifier is better than what pixels alone tell"),
        (1.0, "The simple classifier is better"),
        (None, "was not measured for this run"),
    ],
)
def test_a_plain_sentence_says_which_is_better(tmp_path, floor, said):
    strength = 0.005 if floor == 1 else 0.06
    _, checker = page_of(make_run(tmp_path / "run", SIX[:2], floor=floor, strength=strength), tmp_path)
    assert said in checker.text
    assert ("Logistic regression on 16 x 16 pixels" in checker.text) == (floor is not None)


def test_a_floor_within_the_range_is_no_worse(tmp_path):
    run = make_run(tmp_path / "run", SIX[:2])
    auc = metric_table(report_of_run(read_run(run)))
    best = max((entry["auc"] for entry in auc.values()), key=lambda entry: entry["value"])
    of = {"macro_auc": best["value"], "accuracy": 0.5, "balanced_accuracy": 0.5}
    (run / "floor.json").write_text(json.dumps({"test": {"extra_trees": of}}))
    assert "is no better than a simple one as far as these images tell" in page_of(run, tmp_path)[1].text


def test_what_is_missing_is_said(tmp_path):
    run = make_run(tmp_path / "run", SIX[:3], audit=False, floor=None)
    _, checker = page_of(run, tmp_path)
    for words in ("not calibrated for this run", "floor.json", "were not audited", "no TensorBoard events"):
        assert words in checker.text
    assert "The images were not at hand" in checker.text


def test_findings_of_the_audit_stand_out(tmp_path):
    text, checker = page_of(make_run(tmp_path / "run", SIX[:3]), tmp_path)
    assert '<td class="wrong">train and test: 3</td>' in text
    assert "Some of this may make the results look better" in checker.text


def test_audit_is_that_of_the_images_judged(tmp_path):
    run = make_run(tmp_path / "run", SIX[:3])
    of_training = json.loads((run / "audit.json").read_text())
    # Evaluated on images in which more was found than in those that the training knew.
    worse = of_training | {"shared_patients": {"train and test": [f"P{i}" for i in range(17)]}}
    (run / "audit_evaluation.json").write_text(json.dumps(worse))
    assert '<td class="wrong">train and test: 17</td>' in page_of(run, tmp_path)[0]
    (run / "audit_evaluation.json").unlink()
    for other in ({"data_hash": {"test": "012345"}}, {"data_hash": {}}):
        (run / "audit.json").write_text(json.dumps(of_training | other))
        text, checker = page_of(run, tmp_path)
        assert "train and test: 3" not in text and "were not audited with these test images" in checker.text


def test_audit_of_an_evaluation_that_did_not_end_is_not_taken(tmp_path):
    """Of images of the same names: it was written before the evaluation was refused, or stopped."""
    run = make_run(tmp_path / "run", SIX[:3])
    results = json.loads((run / "results.json").read_text())
    for model in results["test"].values():
        for entry in (model, *model["seeds"].values()):
            entry["audit"] = "of these"
    (run / "results.json").write_text(json.dumps(results))
    audit = json.loads((run / "audit.json").read_text())
    for fingerprint, taken in (("of others", False), ("of these", True)):
        (run / "audit_evaluation.json").write_text(json.dumps(audit | {"fingerprint": fingerprint}))
        assert ("train and test: 3" in page_of(run, tmp_path)[0]) == taken


def test_pictures_of_the_images_shown_alone(tmp_path):
    run = make_run(tmp_path / "run", SIX[:3])
    rng = np.random.default_rng(0)
    images, maps = rng.uniform(size=(2, 1, 8, 8)), rng.uniform(size=(2, 3, 8, 8))
    data = report_of_run(read_run(run))

    shown = choose_images(data.labels, classify(data.errors, "vote", "uniform"))["sure"][:2]
    text, _ = page_of(run, tmp_path, images=images, error_maps=maps, shown=shown)
    assert text.count("data:image/png") == 4  # each with its map
    with pytest.raises(ValueError, match=r"shown: expected shape \[2\] to fit the images, got \[3\]"):
        replace(data, images=images, shown=[0, 1, 2])


def test_calibration_is_shown_where_it_is_the_runs(tmp_path):
    run = make_run(tmp_path / "run", SIX[:2])
    found = read_run(run)
    labels = found.stored.labels
    fitted = {
        rule: FittedUncertainty(
            rule,
            fit_calibration(torch.from_numpy(values), labels, method="temperature"),
            fit_conformal(torch.from_numpy(values), labels, confidence=0.8),
            None,
            {"network": NETWORK},
        )
        for rule, values in found.probabilities.items()
    }
    save_uncertainty(run / "uncertainty.json", fitted)
    _, checker = page_of(run, tmp_path)
    assert "Calibrated on the validation images: temperature (vote), temperature (mean)." in checker.text
    content = (run / "uncertainty.json").read_text()
    (run / "uncertainty.json").write_text(content.replace(f'"{NETWORK}"', f'"{NETWORK}", "num_draws": 3'))
    assert "is of another number of draws: fit it again" in page_of(run, tmp_path)[1].text
    content = content.replace(NETWORK, "another")
    (run / "uncertainty.json").write_text(content)
    _, checker = page_of(run, tmp_path)
    assert "is of other weights than the errors: fit it again" in checker.text


def test_runs_that_were_not_evaluated_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--run: expected the folder of a run, got .*nowhere, which does not exist"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"holds no results on test images; type this"):
        read_run(tmp_path, command="type this")
    run = make_run(tmp_path / "run", SIX[:2])
    (run / "evaluation" / "errors_test_seed_0.npz").unlink()
    with pytest.raises(ValueError, match="has results, but their errors .* are gone"):
        read_run(run)


def test_other_weights_are_refused(tmp_path):
    run = read_run(make_run(tmp_path / "run", SIX[:2]))
    check_weights(run, NETWORK, "model.pt", command="type this")
    with pytest.raises(ValueError, match=rf"are of the weights {NETWORK}, but model.pt holds 77; type this"):
        check_weights(run, "77", "model.pt", command="type this")


def test_parts_of_different_evaluations_are_refused(tmp_path):
    run = make_run(tmp_path / "run", SIX[:2])
    path = run / "evaluation" / "errors_test_seed_0.npz"
    stored = load_errors(path)
    changed = replace(stored.errors, values=stored.errors.values.flip(1))
    kept = {"labels": stored.labels, "keys": stored.keys, "patients": stored.patients, "provenance": stored.provenance}
    save_errors(path, changed, **kept)
    with pytest.raises(ValueError, match="are of different evaluations"):
        report_of_run(read_run(run))
    save_errors(path, stored.errors.first(5), **kept)
    with pytest.raises(ValueError, match="are of different evaluations"):
        read_run(run)


@pytest.mark.parametrize(
    "name",
    [
        "Screenshot 9.41\u202fAM",
        "Pr\u00e9nom\u00a0Nom",
        "\u0645\u06cc\u200c\u062e",
        "so\u00adft",
        "\u202edeppilf",
        "a\x1bb",
        "=1+1",
    ],
)
def test_any_name_of_an_image_is_reported(tmp_path, name):
    """Of what a table writes as an escape, evaluating again gave the same table: there was no way to a report."""
    run = make_run(tmp_path / "run", SIX[:2], name=name)
    found = read_run(run)
    assert all(name in key for key in found.stored.keys)
    assert report_of_run(found)


def test_a_resnets_run_is_refused_in_words(tmp_path):
    run = make_run(tmp_path / "run", SIX[:2])
    text = (run / "results.json").read_text().replace("diffusion_vote", "resnet18").replace("diffusion_mean", "other")
    (run / "results.json").write_text(text)
    with pytest.raises(
        ValueError, match="expected results of a diffusion classifier in .*, found those of other, resnet18"
    ):
        read_run(run)


def test_a_damaged_file_is_named(tmp_path):
    run = make_run(tmp_path / "run", SIX[:2])
    (run / "floor.json").write_text("{")
    with pytest.raises(ValueError, match=r"--run: .*floor.json cannot be read: .*; move it away"):
        read_run(run)


def test_reliability_counts_every_image():
    values = np.random.default_rng(0).dirichlet(np.ones(4), 200)
    labels = values.argmax(1)
    mean, right, count = reliability(labels, values)
    assert count.sum() == 200
    assert (right == 1).all()
    assert (np.diff(mean) > 0).all()

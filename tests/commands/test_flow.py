"""From a training to what it may be trusted with, by commands alone, on a bundle for six classes of small images."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_diffclf.bundle import BundleSettings, find_bundle, open_bundle, write_bundle
from monai_diffclf.commands import main
from monai_diffclf.commands.runs import (
    Started,
    check_data,
    check_decides_by_errors,
    check_settings,
    decides_by_errors,
    decision_of,
    keep_decision,
    open_run,
    run_folder,
    run_seed,
    run_settings,
)
from monai_diffclf.data.example_scans import write_example_scans
from monai_diffclf.data.phantoms import make_phantoms

TINY = {
    "max_epochs": 1,
    "batch_size": 32,
    "val_draws": 1,
    "num_draws": 3,
    "denoiser#channels": [16, 16],
    "denoiser#attention_levels": [False, False],
    "denoiser#num_res_blocks": 1,
    "denoiser#num_head_channels": 16,
    "denoiser#precondition": True,
}


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("some scans")
    write_example_scans(folder / "images", images=400, size=16, seed=0)
    return folder / "images"


@pytest.fixture(scope="module")
def bundle(scans: Path) -> Path:
    classes = sorted(path.name for path in scans.iterdir() if path.is_dir())
    settings = BundleSettings(
        name="scans",
        classes=classes,
        channels=1,
        image_size=16,
        values={**TINY, "dataset_dir": str(scans), "patient_pattern": r"(P\d+)_"},
    )
    return write_bundle(scans.parent / "a bundle", settings)


def ended(capsys, *words) -> tuple[int, dict]:
    """Exit code and result of a command."""
    capsys.readouterr()
    code = main([*map(str, words), "--json", "--no-progress"])
    (line,) = capsys.readouterr().out.splitlines()
    return code, json.loads(line)


def test_what_has_no_denoising_errors_is_neither_fitted_nor_reported(scans, tmp_path, capsys):
    """It was sent from evaluate to fit, and from there back."""
    classes = sorted(path.name for path in scans.iterdir() if path.is_dir())
    values = {"max_epochs": 1, "batch_size": 32, "dataset_dir": str(scans), "patient_pattern": r"(P\d+)_"}
    settings = BundleSettings(
        name="other", classes=classes, channels=1, image_size=16, method="resnet18", values=values
    )
    bundle = write_bundle(tmp_path / "other", settings)
    assert ended(capsys, "train", bundle)[0] == 0
    code, found = ended(capsys, "evaluate", bundle)
    assert code == 0 and "next" not in found, found
    code, found = ended(capsys, "fit", bundle)
    assert code == 2
    assert "expected one that classifies by denoising errors, which fit works on, got other" in str(found)


def test_what_decides_by_likelihood_has_no_denoising_errors():
    opened = open_bundle("pneumonia_xray_score", "train.json", "evaluate.json")
    assert not decides_by_errors(opened)
    with pytest.raises(
        ValueError, match="which report works on, got pneumonia_xray_score, which does not; what its eva"
    ):
        check_decides_by_errors(opened, "report")
    assert decides_by_errors(open_bundle("pneumonia_xray_diffusion", "train.json", "evaluate.json"))
    assert not decides_by_errors(open_bundle("pneumonia_xray_diffusion", "train.json"))


@pytest.mark.parametrize("named", [True, False])
def test_no_run_among_the_images(bundle, scans, capsys, named):
    inside = scans / "run"
    code, refused = ended(capsys, "train", bundle, "--output", inside, *(("--data", scans) if named else ()))
    assert code == 2 and "--output: expected a folder outside the images" in refused["error"]
    assert not inside.exists()


@pytest.mark.slow
def test_train_evaluate_fit_publish(bundle, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # any working folder
    run = bundle / "runs" / "seed_3"
    code, trained = ended(capsys, "train", bundle, "--seed", 3, "--device", "cpu", "--set", "batch_size=40")
    assert code == 0 and trained["path"] == str(run) and trained["epoch"] == 1
    assert trained["next"].endswith(f"--run {run}") or f"'{run}'" in trained["next"]
    assert Started.of(run) == Started(None, {"batch_size": "40"}) and run_seed(run) == 3
    again = ended(capsys, "train", bundle, "--seed", 3, "--device", "cpu", "--set", "learning_rate=0.5")
    assert again[0] == 2 and "was started with other settings" in again[1]["error"]

    code, measured = ended(capsys, "evaluate", bundle, "--run", run, "--draws", 2, "--device", "cpu")
    assert code == 0 and measured["path"] == str(run)
    for split in ("validation", "test"):
        assert set(measured[split]) == {"diffusion_vote", "diffusion_mean"}
        assert measured[split]["diffusion_mean"]["num_draws"] == 2
        assert measured["floor"][split]["logistic_regression"]["macro_auc"] > 0.9
    assert json.loads((run / "floor.json").read_text()) == measured["floor"]

    code, fit = ended(capsys, "fit", bundle, "--run", run)
    assert code == 0 and fit["path"] == str(run / "uncertainty.json") and set(fit["methods"]) == {"mean", "vote"}
    before = (run / "uncertainty.json").read_bytes()
    write_example_scans(tmp_path / "other", images=400, size=16, seed=5)
    code, refused = ended(capsys, "fit", bundle, "--run", run, "--data", tmp_path / "other")
    assert code == 2 and "--data: expected the validation images that the errors in" in refused["error"]
    assert (run / "uncertainty.json").read_bytes() == before
    shutil.rmtree(tmp_path / "other")
    assert open_bundle(bundle, run=run, device="cpu").calibrated
    code, refused = ended(capsys, "fit", bundle, "--run", run, "--decision")
    assert code == 2 and "at least 50 draws" in refused["error"]

    code, published = ended(capsys, "publish", bundle, "--run", run)
    assert code == 0 and len(published["published"]) == 4
    assert (bundle / "docs" / "results.json").is_file()
    shutil.rmtree(bundle / "docs" / "evaluation")
    (bundle / "docs" / "results.json").unlink()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_labels_that_were_corrected_since_the_evaluation_are_told(bundle, scans, capsys, tmp_path):
    table, run = tmp_path / "labels.csv", tmp_path / "run"
    names = [path.name for path in sorted(scans.iterdir()) if path.is_dir()]
    rows = []
    for name in names:
        files = sorted((scans / name).glob("*.png"))
        patients = sorted({file.name.partition("_")[0] for file in files})
        split = {patient: ("train", "validation", "test")[i % 3] for i, patient in enumerate(patients)}
        rows += [[str(file), name, split[file.name.partition("_")[0]]] for file in files]

    def write() -> None:
        lines = [["image", "label", "split"], *rows]
        table.write_text("".join(",".join(f'"{field}"' for field in line) + "\n" for line in lines), encoding="utf-8")

    write()
    more = ("--run", run, "--data", table)
    code, said = ended(capsys, "train", bundle, "--data", table, "--output", run, "--device", "cpu")
    assert code == 0, said
    assert ended(capsys, "evaluate", bundle, *more, "--draws", 2, "--device", "cpu")[0] == 0
    assert ended(capsys, "fit", bundle, *more)[0] == 0
    for split, command in (("validation", "fit"), ("test", "report")):
        row = next(row for row in rows if row[2] == split)
        row[1] = names[-1]
        write()
        code, refused = ended(capsys, command, bundle, *more)
        assert code == 2 and "--data: expected the labels that were evaluated, got 5 in place of 0" in refused["error"]
    assert ended(capsys, "evaluate", bundle, *more, "--draws", 2, "--device", "cpu")[0] == 0
    assert not (run / "uncertainty.json").exists()  # of the labels as they were


@pytest.mark.slow
def test_shipped_weights_are_measured_where_nothing_was_trained(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shipped = shutil.copytree(
        find_bundle("phantom_xray_diffusion"), tmp_path / "phantoms", ignore=shutil.ignore_patterns("runs")
    )
    few = [word for split in ("train", "validation", "test") for word in ("--set", f"num_images#{split}=40")]
    few += ["--set", "weighting=elbo"]
    code, result = ended(capsys, "evaluate", shipped, "--draws", 5, "--device", "cpu", *few)
    assert code == 0 and result["path"] == str(shipped / "runs" / "seed_0")
    assert result["test"]["diffusion_mean"]["auc"]["value"] > 0.8
    assert not (shipped / "docs" / "evaluation" / "x").exists()
    code, fit = ended(capsys, "fit", shipped)
    assert code == 0 and fit["images"] == 40
    assert main(["fit", str(shipped), "--no-progress"]) == 0
    told = capsys.readouterr().out
    assert "none can be marked as unusual, which needs 100 validation images" in told
    # The fit lies in the folder of no training: what to type is said, and works.
    (line,) = [line for line in told.splitlines() if "classify takes this fit where it is named: " in line]
    words = shlex.split(line.split("named: ")[1])
    assert words[-2:] == ["--set", "weighting=elbo"]  # that of the evaluation, which the fit goes by
    films = tmp_path / "films"
    films.mkdir()
    for number, film in enumerate(make_phantoms(2, seed=77)):
        values = np.rint(255 * np.asarray(film["image"])[0]).astype(np.uint8)
        Image.fromarray(values).save(films / f"{number}.png")
    words = [str(films) if word == "IMAGES" else word for word in words[1:]]
    code, _ = ended(capsys, *words, "--no-report", "--maps", "none", "--output", tmp_path / "out")
    assert code == 0 and "prediction_set" in (tmp_path / "out" / "predictions.csv").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["train", "{bundle}", "--data", "/no/such"], "--data: expected a folder or file of images, but there is no"),
        (["train", "phantom_xray_diffusion", "--data", "{bundle}"], "--data: expected none, as the bundle phantom"),
        (["train", "{bundle}", "--set", "max_epochs=3"], "--set max_epochs: expected an id that has no option of its"),
        (["train", "{bundle}", "--set", "bach_size=3"], "--set bach_size: no such setting; did you mean --set batch_s"),
        (["train", "phantom_xray_difusion"], "did you mean phantom_xray_diffusion?"),
        (["train", "{bundle}", "--output", "{bundle}/models"], "shipped with"),
        (["evaluate", "{bundle}"], "--run: expected the folder of a training, which holds model.pt"),
        (["evaluate", "{bundle}", "--run", "/no/such"], "train first: monai-diffclf train"),
        (["fit", "{bundle}"], "--run: expected the folder of a run that was evaluated"),
        (["fit", "{bundle}", "--confidence", "2"], "--confidence: expected a number between 0 and 1"),
        (["publish", "{bundle}", "--run", "/no/such"], "run: expected results in /no/such/results.json, found none"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(bundle, capsys, words, text):
    code, result = ended(capsys, *(word.format(bundle=bundle) for word in words))
    assert code == 2 and text in result["error"] and result["exit_code"] == 2
    assert not (bundle / "runs").exists() or list((bundle / "runs").iterdir()) != []


def test_runs_of_an_installed_bundle_go_to_the_working_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    installed = tmp_path / "site" / "_shipped" / "name"
    monkeypatch.setattr("monai_diffclf.commands.runs._PACKAGE", tmp_path / "site")
    assert run_folder(installed, seed=2) == tmp_path / "runs" / "name" / "seed_2"
    assert run_folder(installed, tmp_path / "x") == tmp_path / "x"
    own = tmp_path / "own"
    own.mkdir()
    assert run_folder(own) == own / "runs" / "seed_0"


def test_how_an_evaluation_decided_is_kept_with_the_run(bundle, tmp_path):
    """Over what the training was started with; settings of other kinds are not."""
    assert decision_of(bundle, ("train.json", "evaluate.json"), tmp_path) == {}
    Started(None, {"weighting": "learned", "rule": "vote", "resize": "yes"}).save(tmp_path)
    keep_decision(tmp_path, {"weighting": "min_snr", "temperature": "0.5", "batch_size": "3"})
    found = decision_of(bundle, ("train.json", "evaluate.json"), tmp_path)
    assert found == {"weighting": "min_snr", "rule": "vote", "temperature": 0.5}
    opened = open_run(bundle, ("train.json", "evaluate.json"), tmp_path)
    assert [opened.get(name) for name in ("weighting", "rule", "temperature")] == ["min_snr", "vote", 0.5]
    keep_decision(tmp_path, {"weighting": "$'elbo'"})
    assert decision_of(bundle, ("train.json", "evaluate.json"), tmp_path)["weighting"] == "learned"
    (tmp_path / "evaluated.json").write_text(json.dumps({"rule": "$print('run')"}))
    with pytest.raises(ValueError, match="expected names or numbers for some of rule, weighting, temperature"):
        decision_of(bundle, ("train.json", "evaluate.json"), tmp_path)


def test_what_a_training_was_started_with_is_kept(tmp_path):
    started = Started("/a b", {"resize": "yes"})
    started.save(tmp_path)
    assert Started.of(tmp_path) == started and Started.of(tmp_path / "other") == Started()
    (tmp_path / "started.json").write_text('{"data": 3, "settings": {}}')
    with pytest.raises(ValueError, match="--run: cannot read .* give --data and --set"):
        Started.of(tmp_path)


def test_a_run_says_what_its_weights_are_of(bundle, tmp_path):
    (tmp_path / "model.pt").write_bytes(b"")
    size = [24, 24]
    note = {"model": {"classes": ["x", "y"], "channels": 1, "image_size": size}, "training": {"seed": 7}}
    (tmp_path / "model.json").write_text(json.dumps(note))
    found = run_settings(bundle, tmp_path, "train.json", "evaluate.json")
    assert (found["classes"], found["image_size"]) == (["x", "y"], size) and run_seed(tmp_path) == 7
    assert found["checkpoint"] == str(tmp_path / "model.pt") and "channels" not in found


def test_options_have_one_way_to_be_given(bundle):
    check_settings({"batch_size": "3"}, {"max_epochs": "--epochs"})
    with pytest.raises(ValueError, match="write --epochs 3"):
        check_settings({"max_epochs": "3"}, {"max_epochs": "--epochs"})
    assert check_data(bundle, ["train.json"], None) is None


@pytest.mark.slow
def test_a_training_with_the_contrastive_term(bundle, scans, capsys, tmp_path):
    """From scratch, then on from those weights; evaluation, fit, report and inference take what was learned."""
    classes = list(open_bundle(bundle, "train.json").classes)
    values = {**TINY, "dataset_dir": str(scans), "patient_pattern": r"(P\d+)_", "contrastive_weight": 2.0}
    values |= {"rule": "mean", "weighting": "learned", "contrastive_range": [-2.0, 6.0], "num_draws": 8, "val_draws": 4}
    settings = BundleSettings(name="told", classes=classes, channels=1, image_size=16, values=values)
    made = write_bundle(tmp_path / "told", settings)
    first, second = made / "runs" / "seed_0", made / "runs" / "on"
    code, done = ended(capsys, "train", made, "--device", "cpu")
    assert code == 0, done
    note = json.loads((first / "model.json").read_text())
    assert note["learned"]["log_snr"] == [-2.0, 6.0] and note["training"]["initial_weights"] is None
    more = ("--epochs", 2, "--device", "cpu")  # a stopped training goes on, with the loss's parameters
    code, done = ended(capsys, "train", made, *more)
    assert code == 0, done
    code, done = ended(capsys, "train", made, "--from", first, "--output", second, "--device", "cpu")
    assert code == 0, done
    again = json.loads((second / "model.json").read_text())
    assert again["training"]["initial_weights"] == json.loads((first / "model.json").read_text())["weights"]
    assert again["learned"]["level_weights"] != note["learned"]["level_weights"]
    for command in ("evaluate", "fit", "report"):
        code, done = ended(capsys, command, made, "--run", second)
        assert code == 0, done
    opened = open_bundle(made, run=second, device="cpu")
    assert opened.decision["weighting"].trained
    assert opened.decision["temperature"] == pytest.approx(again["learned"]["temperature"] * opened.get("temperature"))
    fitted = json.loads((second / "uncertainty.json").read_text())
    assert str(opened.decision["weighting"]) in json.dumps(fitted)


def test_weights_to_begin_with_must_be_there(bundle, capsys, tmp_path):
    code, refused = ended(capsys, "train", bundle, "--from", tmp_path, "--output", tmp_path / "run")
    assert code == 2 and "--from: expected a file of weights, or a folder with model.pt" in refused["error"]

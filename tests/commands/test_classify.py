"""``monai-diffclf classify``: what it prints, how it ends, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_diffclf.bundle import open_bundle
from monai_diffclf.commands import main
from tests.archive.conftest import BUNDLE, write_pictures


@pytest.fixture
def classify(tmp_path, monkeypatch, capsys, device):
    """Function that runs the command in a folder with two pictures; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    write_pictures(Path("images"), 2)

    def run(*words: str, bundle: str = BUNDLE) -> tuple[int, str, str]:
        where = () if "--device" in words else ("--device", device)
        code = main(["classify", *words, "--bundle", bundle, *where])
        return code, *capsys.readouterr()

    return run


def test_ends_with_what_it_wrote(classify):
    code, said, _ = classify("images", "--draws", "2", "--no-progress")
    lines = said.splitlines()
    assert code == 0 and lines[0].startswith("2 of 2 images classified: ")
    names = ["predictions.csv", "predictions.json", "maps", "cases.html"]
    assert lines[1].startswith("by the weights ") and Path(lines[1].removeprefix("by the weights ")).is_file()
    assert lines[2:] == [f"classified/{name}" for name in names]
    assert all(Path(line).exists() for line in lines[2:])
    assert "an earlier run had done it" in classify("images", "--draws", "2")[1]


def test_json_is_one_object(classify):
    Path("images/broken.png").write_bytes(b"")
    code, said, progress = classify("images", "--draws", "2", "--json", "--no-report", "--maps", "none")
    found = json.loads(said)
    assert code == 1 and said.count("\n") == 1
    assert (found["images"], found["classified"], found["report"], found["maps"]) == (3, 2, None, None)
    assert found["not_read"][0]["key"] == "broken.png" and sum(found["classes"].values()) == 2
    assert "images/s" in progress


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "images: expected files and folders, but nothing does not exist"),
        (["images", "--set", "num_drawz=2"], "num_drawz: no such setting; did you mean"),
        (["images", "--set", "num_draws=many"], "num_draws"),
        (["images", "--set", "maps=no"], "--set maps: expected --maps instead"),
        (["images", "--set", "classes=['$import os', 'b']"], "begins with $"),
        (["images", "--ray", "--num-processes", "2"], "--num-processes: expected it without --ray"),
        (["images", "--workers", "2"], "--workers: expected it with --ray"),
        (["images", "--maps", "gif"], "--maps"),
        (["images", "--run", "nowhere"], "run: expected the folder of a training"),
        (["images", "--device", "tpu:9"], "device: expected a device of this machine"),
        (["images", "--drows", "2"], "--drows: no such option; did you mean --draws?"),
        (["images", "--output", __file__], f"--output: expected a folder, but {__file__} is none; name another"),
        (["images", "--output", " "], "--output: expected the path of a file or folder, got ' '"),
        (["images", "--dicom-out", __file__], f"--dicom-out: expected a folder, but {__file__} is none"),
        (["images", "--output", "images"], "images: expected some outside images, where results go, got none"),
    ],
)
def test_refuses_in_one_line(classify, words, message):
    code, said, error = classify(*words)
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert code == 2 and not said and len(lines) == 1 and message in lines[0]
    assert not list(Path("classified").glob("*"))


@pytest.mark.parametrize("words", [(), pytest.param(("--num-processes", "2"), marks=pytest.mark.slow)])
def test_strict_run_that_is_refused_leaves_no_results(classify, words):
    """An image that the bundle does not take, here one of three dimensions after enough others for a block."""
    write_pictures(Path("images"), 20)
    nibabel = pytest.importorskip("nibabel", reason="nibabel, which writes a volume, is not installed")
    nibabel.save(nibabel.Nifti1Image(np.zeros((8, 8, 8), np.float32), np.eye(4)), "images/volume.nii.gz")
    code, said, error = classify("images", "--draws", "1", "--strict", "--no-progress", *words)
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert code == 2 and not said and len(lines) == 1
    assert "volume.nii.gz cannot be read, and --strict was given: " in lines[0]
    assert not [path for path in Path("classified").iterdir() if not path.name.startswith(".classify_")]
    assert not list(Path("classified").rglob("*.csv"))
    Path("images/volume.nii.gz").unlink()  # the mended folder is not refused for what the first call began
    assert classify("images", "--draws", "1", "--strict", "--no-progress", "--maps", "none")[0] == 0
    assert not list(Path("classified").rglob(".classify_*"))


def test_folder_of_other_results_is_refused(classify):
    assert classify("images", "--draws", "2")[0] == 0
    code, _, error = classify("images", "--draws", "3")
    assert code == 2 and "results of another run (other settings); name another --output, or add --replace" in error
    assert classify("images", "--draws", "3", "--replace")[0] == 0


def test_what_was_fitted_for_other_draws_is_refused_with_the_remedy(classify):
    code, _, error = classify("images", "--draws", "5", bundle="pneumonia_xray_diffusion")
    assert code == 2 and "num_draws: expected 5, found 51" in error and "--set calibrated=False" in error
    words = ("--draws", "5", "--set", "calibrated=False", "--no-report")
    assert classify("images", *words, bundle="pneumonia_xray_diffusion")[0] == 0


def test_shares_of_classes_that_nothing_is_done_with_are_refused(classify):
    words = ("images", "--set", "calibrated=False", "--set", "prior=[0.1,0.9]", "--no-report")
    code, _, error = classify(*words, bundle="pneumonia_xray_diffusion")
    assert code == 2 and "prior: expected None where probabilities are not calibrated" in error
    assert not Path("classified").exists()


def rows(folder: str = "classified") -> list[dict[str, str]]:
    with open(f"{folder}/predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_likelihoods(classify):
    words = ("images", "--set", "num_steps=4", "--set", "map_draws=2")
    assert classify(*words, bundle="pneumonia_xray_score")[0] == 0
    assert all(row["log_likelihood_normal"] and row["map"] for row in rows())
    code, _, error = classify("images", "--draws", "2", bundle="pneumonia_xray_score")
    assert code == 2 and "error: --draws: no such" in error


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_network_without_votes_and_maps(classify):
    torch.manual_seed(0)
    Path("run").mkdir()
    torch.save(open_bundle("pneumonia_xray_resnet18").get("network_def").state_dict(), "run/model.pt")
    Path("images/broken.png").write_bytes(b"")
    code, said, error = classify("images", "--run", "run", bundle="pneumonia_xray_resnet18")
    assert code == 1 and "there are no votes and no maps" in error and "maps" not in said
    broken, *others = rows()
    assert broken["error"] and all(float(row["probability_margin"]) >= 0 and not row["map"] for row in others)
    assert "vote_share_normal" not in broken and Path("classified/cases.html").exists()

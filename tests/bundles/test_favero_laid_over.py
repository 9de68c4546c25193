"""Stable Diffusion, LoRA and DiT laid over the bundles of Favero et al., by MONAI's command and by ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from monai_diffclf.bundle import open_bundle
from monai_diffclf.commands import main
from monai_diffclf.commands.runs import Started, laid_over
from tests.bundles.conftest import bundle
from tests.bundles.test_command_line import environment
from tests.bundles.test_favero import NAMES, SMALL
from tests.data import favero_trees
from tests.pipelines.tiny_pipelines import write_pipeline

SETTINGS = {"num_workers": "0", "image_size": "[32, 32]", "batch_size": "8", "val_draws": "2", "audit": "False"}
SETTINGS["val_interval"] = "1"
PIPELINE = {"pad_multiple": "4", "steps": "1", "accumulation_steps": "1"}
FILES = {
    "dit": ["dit.json"],
    "stable_diffusion": ["stable_diffusion.json"],
    "lora": ["stable_diffusion.json", "lora.json"],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return dict(zip(NAMES, favero_trees.trees(tmp_path_factory.mktemp("data")), strict=True))


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("diffusers", "transformers", "safetensors", "peft"):
        pytest.importorskip(package, reason=f"the extra diffusers is not installed: no package {package}")
    return write_pipeline(tmp_path_factory.mktemp("pipelines") / "sd", "sd1")


def of_network(network: str, pipeline: Path | None) -> dict[str, str]:
    """What is set for a small network of a kind."""
    if network == "dit":
        return {name: str(value) for name, value in SMALL["dit"].items()}
    return {**PIPELINE, "pipeline_dir": str(pipeline)}


def ended(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main([*map(str, words), "--json", "--no-progress"])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize(
    ("name", "network"),
    [
        (NAMES[0], "dit"),
        pytest.param(NAMES[0], "stable_diffusion", marks=pytest.mark.slow),
        pytest.param(NAMES[1], "lora", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_by_our_commands(
    name: str,
    network: str,
    data: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    folder = None if network == "dit" else request.getfixturevalue("pipeline")
    run, settings = tmp_path / "run", {**SETTINGS, **of_network(network, folder)}
    words = ["--device", "cpu", *(word for pair in settings.items() for word in ("--set", "=".join(pair)))]
    configs = [word for file in FILES[network] for word in ("--config", file)]
    code, trained = ended(
        capsys, "train", bundle(name), "--data", data[name], "--output", run, "--epochs", 1, *configs, *words
    )
    assert code == 0, trained
    assert Started.of(run).configs == tuple(FILES[network])
    described = json.loads((run / "model.json").read_text())["model"]
    assert described["network"]["class"].endswith({"dit": "WaveletNetwork"}.get(network, "TextUNet"))
    assert ("latent_space" in described) == (network != "dit")

    # Nothing of what the training was told is told again.
    code, measured = ended(capsys, "evaluate", bundle(name), "--run", run, "--draws", 3, "--device", "cpu")
    assert code == 0, measured
    assert 0 <= measured["test"]["diffusion_vote"]["auc"]["value"] <= 1

    images = tmp_path / "images"
    images.mkdir()
    for n, path in enumerate(sorted(data[name].rglob("*.jpg"))[:2]):
        (images / f"{n}.jpg").write_bytes(path.read_bytes())
    words = ["--bundle", bundle(name), "--run", run, "--draws", 2, "--device", "cpu", "--output", tmp_path / "out"]
    code, classified = ended(capsys, "classify", images, *words)
    assert code == 0, classified
    assert classified["classified"] == 2 and len(list((tmp_path / "out" / "maps").iterdir())) == 2
    if network == "lora":
        names = torch.load(run / "model.pt", weights_only=True)
        assert any("lora_B" in key for key in names)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "network"), [(NAMES[1], "stable_diffusion"), (NAMES[0], "lora")])
def test_by_the_command_of_monai(
    name: str, network: str, data: dict[str, Path], tmp_path: Path, pipeline: Path
) -> None:
    run, configs = tmp_path / "run", bundle(name) / "configs"

    def monai(*files: str, **more: object) -> None:
        settings: dict[str, object] = {**SETTINGS, **of_network(network, pipeline), **more}
        settings |= {"dataset_dir": data[name], "output_dir": run, "progress": False, "bundle_root": bundle(name)}
        paths = [str(configs / file) for file in (*files, *FILES[network])]
        words = [f"--{key}={value}" for key, value in settings.items()]
        command = [sys.executable, "-m", "monai.bundle", "run", f"--config_file={paths}", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=1800, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]

    monai("train.json", max_epochs=1)
    monai("train.json", "evaluate.json", num_draws=2)
    assert "diffusion_vote" in json.loads((run / "results.json").read_text())["test"]


@pytest.mark.parametrize("name", NAMES)
def test_recipe_is_that_of_favero_et_al(name: str, pipeline: Path) -> None:
    opened = open_bundle(
        bundle(name), "train.json", *FILES["stable_diffusion"], pipeline_dir=str(pipeline), device="cpu"
    )
    batch = opened.get("batch_size") * opened.get("accumulation_steps")
    assert (batch, opened.get("steps"), opened.get("learning_rate")) == (128, 25_000, 1e-5)
    optimizer = opened.get("optimizer")
    assert type(optimizer) is torch.optim.AdamW and optimizer.defaults["weight_decay"] == 0.01
    rates = opened.get("lr_scheduler")
    optimizer.step()
    rates.step()
    assert rates.get_last_lr()[0] == 1e-5, "constant"
    assert opened.get("loss").weighting == "epsilon" and opened.get("label_dropout") == 0
    assert list(opened.get("prompts")) == opened.classes
    assert opened.get("space") is opened.get("pipeline").latent_space


def test_files_to_lay_over_are_those_of_the_bundle(
    tmp_path: Path, pipeline: Path, capsys: pytest.CaptureFixture[str], data: dict[str, Path]
) -> None:
    root = bundle(NAMES[0])
    assert laid_over(root, ["dit.json"]) == ("dit.json",)
    for wrong in ("../dit.json", "train.json", "metadata.json", "dit"):
        code, refused = ended(capsys, "train", root, "--output", tmp_path / "run", "--config", wrong)
        assert code == 2 and f"got {wrong}" in refused["error"] and "such as " in refused["error"]
    words = ["--config", "stable_diffusion.json", "--output", tmp_path / "run", "--data", data[NAMES[0]]]
    code, refused = ended(capsys, "train", root, *words)
    assert code == 2 and "pipeline_dir" in refused["error"]
    prompts = "prompts={'no_effusion': 'none', 'effusion': 'fluid'}"
    words += ["--set", f"pipeline_dir={pipeline}", "--set", prompts, "--device", "cpu"]
    code, refused = ended(capsys, "train", root, *words)
    assert code == 2 and "prompts: expected those of the classes" in refused["error"]
    assert not (tmp_path / "run" / "model.pt").exists()

"""The code and the commands of docs/stable-diffusion.md run, on a tiny pipeline under the name that the page uses."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from monai_diffclf.commands import main
from monai_diffclf.pipelines import add_lora, open_diffusers_pipeline, save_pipeline_weights
from tests.archive.conftest import write_pictures
from tests.networks.test_autoencoder_space import monai_kl

PAGE = Path(__file__).resolve().parents[2] / "docs" / "stable-diffusion.md"


def test_the_code_of_the_page_runs(pipeline_folder, tmp_path, monkeypatch, device):
    pytest.importorskip("peft", reason="the extra diffusers is not installed: no package peft")
    shutil.copytree(pipeline_folder("sd1"), tmp_path / "stable-diffusion-v1-5")
    shutil.copytree(pipeline_folder("sd1") / "vae", tmp_path / "FOLDER")
    monkeypatch.chdir(tmp_path)
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)).to(device) * 2 - 1
    items = [{"image": image, "label": label} for label, image in enumerate(images.cpu())]
    names = {
        "torch": torch,
        "images": images,
        "loader": DataLoader(items, batch_size=2),
        "autoencoder": monai_kl(),
        "batches": [images.cpu()],
    }
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(block.replace('"cuda"', repr(device)).replace("num_draws=51", "num_draws=2"), names)  # noqa: S102
    assert names["result"].probabilities.shape == (2, 2)
    assert names["scaling"] > 0
    assert (tmp_path / "lora.safetensors").stat().st_size < 50_000


def test_the_commands_of_the_page_run(pipeline_folder, tmp_path, monkeypatch, device):
    pytest.importorskip("peft", reason="the extra diffusers is not installed: no package peft")
    shutil.copytree(pipeline_folder("sd1"), tmp_path / "stable-diffusion-v1-5")
    monkeypatch.chdir(tmp_path)
    write_pictures(Path("films"), 1)
    section = PAGE.read_text(encoding="utf-8").split("## By one command")[1].split("\n## ")[0]
    (conditions,) = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    Path("prompts.yaml").write_text(conditions)
    network = open_diffusers_pipeline("stable-diffusion-v1-5", {"a": "x", "b": "y"}).network
    save_pipeline_weights(add_lora(network, rank=2), "lora.safetensors")
    (commands,) = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    for command in commands.replace("\\\n", " ").replace("=256", "=16").splitlines():
        assert main([*shlex.split(command)[1:], "--draws", "2", "--device", device]) == 0
    for folder in ("out", "tuned"):
        assert "probability_normal,probability_effusion" in (Path(folder) / "predictions.csv").read_text()

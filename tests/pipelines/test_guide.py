"""The code of docs/stable-diffusion.md runs, on a tiny pipeline under the name that the page uses."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

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

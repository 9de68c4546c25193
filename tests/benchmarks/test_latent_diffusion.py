"""The comparison of latents with pixels, from files to results, on pictures of noise and a random autoencoder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.accuracy import latent_diffusion
from monai_diffclf.networks import AutoencoderSpace
from monai_diffclf.networks.nets import TinyAutoencoder
from tests.data import kermany_trees


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments that name X-rays in the layout of `load_kermany_cxr`, an autoencoder and a folder to work in."""
    monkeypatch.setattr(latent_diffusion, "PICTURE", tmp_path / "picture.png")
    data, weights = tmp_path / "data", tmp_path / "weights"
    kermany_trees.tree(data, side=32, splits=("train", "train", "test"), each=4)
    weights.mkdir()
    torch.manual_seed(0)
    autoencoder = TinyAutoencoder(32, features=8)
    for part in ("encoder", "decoder"):
        torch.save(getattr(autoencoder, part).state_dict(), weights / f"tiny_{part}.pth")
    words = {"data": data, "autoencoder": weights, "work": tmp_path / "work", "output": tmp_path / "result.json"}
    return [text for name, path in words.items() for text in (f"--{name}", str(path))]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_from_files_to_results(
    folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["latent_diffusion", *folders, "--seconds", "0.5", "--images", "6"])
    latent_diffusion.main()
    found = json.loads((tmp_path / "result.json").read_text())
    assert json.loads(capsys.readouterr().out) == found
    assert (found["training_images"], found["test_images"]) == (6, 4)
    for name in ("latent", "pixels"):
        assert found["training"][name]["steps"] >= 1 and found["training"][name]["seconds"] >= 0.5
        assert 0 <= found[name]["auc"]["low"] <= found[name]["auc"]["value"] <= found[name]["auc"]["high"] <= 1
    gap = found["latent"]["auc"]["value"] - found["pixels"]["auc"]["value"]
    assert found["latent_less_pixels"]["value"] == pytest.approx(gap)
    # Image, decoded, map and counterfactual of two test images of each class.
    assert Image.open(tmp_path / "picture.png").size == (4 * 128 * 3 // 2, 4 * 128 * 3 // 2)
    with pytest.raises(ValueError, match="the test images were read for it"):
        latent_diffusion.main()


def test_both_networks_see_a_grid_of_16_and_pixels_are_what_the_wavelets_hold() -> None:
    latents, pixels = latent_diffusion.make_network(32), latent_diffusion.make_network(1)
    assert latents.out[2].conv.out_channels == 32
    labels, steps = torch.zeros(1, dtype=torch.int64), torch.zeros(1)
    with torch.no_grad():
        assert latents(torch.zeros(1, 32, 16, 16), steps, class_labels=labels).shape == (1, 32, 16, 16)
        assert pixels(torch.zeros(1, 1, 128, 128), steps, class_labels=labels).shape == (1, 1, 128, 128)


def test_code_of_the_guide_runs() -> None:
    guide = Path(__file__).resolve().parents[2] / "docs" / "latent-diffusion.md"
    (code,) = re.findall(r"```python\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(code, names)  # noqa: S102
    assert names["maps"].shape == (4, 2, 64, 64)
    assert names["pair"].counterfactual.shape == (4, 1, 64, 64)
    assert 1 / names["scaling"] == pytest.approx(
        float(AutoencoderSpace(names["autoencoder"], channels=1).encode(names["images"]).std(correction=0)), rel=1e-4
    )

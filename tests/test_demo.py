"""The demo, with a tiny untrained bundle in place of the shipped ones."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from monai_diffclf import demo

ROOT = Path(__file__).resolve().parents[1]

CONFIG = {
    "classes": ["clear", "lesion"],
    "scheduler": {
        "_target_": "monai.networks.schedulers.DDPMScheduler",
        "num_train_timesteps": 50,
        "prediction_type": "v_prediction",
        "clip_sample": False,
    },
    "denoiser": {
        "_target_": "monai_diffclf.networks.nets.WaveletDiffusionUNet",
        "spatial_dims": 2,
        "in_channels": 1,
        "channels": [8, 8],
        "attention_levels": [False, False],
        "num_res_blocks": 1,
        "norm_num_groups": 4,
        "num_head_channels": 8,
        "num_class_embeds": 3,
    },
    "validate": {
        "preprocessing": {
            "_target_": "monai.transforms.Compose",
            "transforms": [
                {
                    "_target_": "monai.transforms.ScaleIntensityRanged",
                    "keys": "image",
                    "a_min": 0.0,
                    "a_max": 1.0,
                    "b_min": -1.0,
                    "b_max": 1.0,
                }
            ],
        }
    },
}


@pytest.fixture
def bundles(tmp_path, monkeypatch) -> Path:
    root = tmp_path / "bundles" / "phantom_xray_diffusion"
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    (root / "configs" / "train.json").write_text(json.dumps(CONFIG))
    parser = ConfigParser(CONFIG)
    torch.manual_seed(0)
    torch.save(parser.get_parsed_content("denoiser").state_dict(), root / "models" / "model.pt")
    monkeypatch.setattr(demo, "BUNDLES", root.parent)
    return root.parent


def test_demo_ends_with_the_path_of_its_report(bundles, tmp_path, capsys):
    path = tmp_path / "report.html"
    assert demo.main(["--output", str(path), "--images", "20", "--draws", "2"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[-1] == str(path)
    assert [line.split("  ")[0] for line in lines[1:5]] == ["auc", "balanced accuracy", "sensitivity", "specificity"]
    assert "20/20" in printed.err
    page = path.read_text(encoding="utf-8")
    assert "phantom-2027-" in page
    assert "80, or 4 per image" in page
    assert 'class="outline"' in page


def test_demo_says_what_is_missing(bundles, tmp_path, capsys):
    (bundles / "phantom_xray_diffusion" / "models" / "model.pt").unlink()
    assert demo.main(["--output", str(tmp_path / "report.html")]) == 2
    assert "model.pt not found: the demo needs the project's folder bundles, with weights" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_other_images_are_not_taken_for_those_of_the_report(bundles, tmp_path, capsys):
    for name in ("normal", "pneumonia"):  # a layout that the bundles read
        (tmp_path / "own" / "test" / name).mkdir(parents=True)
    for folder in (tmp_path / "own", tmp_path / "nowhere"):
        assert demo.main(["--data", str(folder), "--output", str(tmp_path / "report.html")]) == 2
        told = capsys.readouterr().err
        assert told == f"demo: error: --data: expected a folder with pneumoniamnist.npz, got {folder}, which has none\n"
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "5"], "--images: expected 20 or more, so that both classes occur; got 5"),
        (["--draws", "0"], "--draws: expected 1 or more, got 0"),
    ],
)
def test_demo_refuses_bad_numbers(arguments, message, capsys):
    with pytest.raises(SystemExit):
        demo.main(arguments)
    assert message in capsys.readouterr().err


def test_script_explains_itself():
    done = subprocess.run([ROOT / "demo.sh", "--help"], capture_output=True, text=True, check=True)
    assert "./demo.sh [--data FOLDER] [--output report.html] [--images N] [--draws N]" in done.stdout

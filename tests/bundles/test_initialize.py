"""What the configurations call first of all is about options that they have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from monai_diffclf.run.default_kinds import find_default
from monai_diffclf.run.options import read_config

ROOT = Path(__file__).resolve().parents[2] / "bundles"
ALONE = sorted(path for name in ("train", "inference") for path in ROOT.glob(f"*/configs/{name}.json"))
TOGETHER = sorted(path for what in ("train", "evaluate") for path in ROOT.glob(f"*/configs/multi_gpu_{what}.json"))
RUNS = [
    *([path] for path in ALONE),
    *([path.with_name("train.json"), path] for path in sorted(ROOT.glob("*/configs/evaluate.json"))),
    *(
        [path.with_name("train.json"), *([path.with_name("evaluate.json")] * ("evaluate" in path.name)), path]
        for path in TOGETHER
    ),
]


@pytest.mark.parametrize("files", RUNS, ids=lambda files: f"{files[0].parts[-3]}, {files[-1].name}")
def test_what_is_held_and_checked_exists(files: list[Path]):
    config = read_config(files)
    calls = [call for call in config["initialize"] if "monai_diffclf.run." in call]
    assert any("run.hold(@output_dir" in call for call in calls)
    for name in re.findall(r"@(\w+)", " ".join(calls)):
        find_default(config, name)
    for name in ("ckpt_dir", "evaluation_dir", "predictions_dir", "results_path"):
        # What is written beside the output folder may be elsewhere by an option of its own.
        if name in config and (name != "ckpt_dir" or "train" in files[-1].name):
            assert any(f"@{name}" in call for call in calls), name

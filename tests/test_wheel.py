"""What travels in the wheel, and that it works alone."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FEATURES = {
    name
    for name in (
        *("breast_ultrasound_features", "chest_xray_features", "skin_lesion_features"),
        "chest_xray_latent_diffusion",
    )
    if (ROOT / "bundles" / name / "models" / "model.pt").is_file()
}
SHIPPED = {
    *(
        "phantom_findings_diffusion",
        "phantom_volume_diffusion",
        "phantom_xray_diffusion",
        "pneumonia_xray_diffusion",
        "pneumonia_xray_score",
        "skin_lesion_diffusion",
    ),
    *FEATURES,
}


def build_step():
    spec = importlib.util.spec_from_file_location("setup_of_the_project", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_bundles_with_weights_travel():
    files = build_step().shipped_files(ROOT)
    assert {place.parts[2] for place in files} == SHIPPED
    for name in SHIPPED:
        folder = Path("monai_diffclf/_shipped") / name
        for needed in ("LICENSE", "configs/metadata.json", "configs/train.json", "configs/evaluate.json"):
            assert folder / needed in files
        assert {folder / "configs/inference.json", folder / "models/model.pt", folder / "models/model.json"} <= set(
            files
        )
    assert Path("monai_diffclf/_shipped/pneumonia_xray_diffusion/configs/patients.csv") in files
    for name in FEATURES:  # the space that the weights are of; the encoder's own weights stay in their package
        assert Path(f"monai_diffclf/_shipped/{name}/models/representation.pt") in files
    assert not [place for place in files if {"evaluation", "training", "runs"} & set(place.parts)]
    assert sum(path.stat().st_size for path in files.values()) < 50e6


def test_an_editable_installation_copies_nothing(tmp_path):
    (tmp_path / "bundles" / "untrained" / "configs").mkdir(parents=True)
    (tmp_path / "bundles" / "untrained" / "configs" / "metadata.json").write_text("{}")
    assert build_step().shipped_files(tmp_path) == {}


def test_the_console_script_is_the_module():
    assert 'monai-diffclf = "monai_diffclf.__main__:main"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_wheel_works_alone(tmp_path):
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("needs setuptools to build")
    source = tmp_path / "source"
    leave = shutil.ignore_patterns(
        ".git", ".venv", "runs", "__pycache__", "docs", "notebooks", "tests", "benchmarks", "build"
    )
    shutil.copytree(ROOT, source, ignore=leave)
    quiet = {"check": True, "capture_output": True, "text": True}
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, source], **quiet)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    subprocess.run([*pip, "--python", python, "install", "-q", "--no-deps", wheel], **quiet)
    # The dependencies of this environment, after its own packages.
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    empty = tmp_path / "empty folder"
    empty.mkdir()
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [tmp_path / "env" / "bin" / "monai-diffclf", "demo", "--images", "20", "--draws", "3"]
    done = subprocess.run(command, cwd=empty, env=own, **quiet)
    assert Path(done.stdout.splitlines()[-1]) == empty / "report.html"
    assert re.search(r"^auc +0\.\d", done.stdout, flags=re.M)
    assert [path.name for path in empty.iterdir()] == ["report.html"]
    where = "import monai_diffclf.bundle as b; print(b.shipped_bundles()['skin_lesion_diffusion'])"
    done = subprocess.run([python, "-c", where], cwd=empty, env=own, **quiet)
    assert Path(done.stdout.strip()).is_relative_to(site)

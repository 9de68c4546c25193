"""What the packager of MONAI Deploy is given: an application that runs by itself, beside the packages it asks for."""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys

import pydicom
import pytest

from monai_diffclf import __version__
from monai_diffclf.bundle import find_bundle
from monai_diffclf.deploy.package import main, package_command, write_package

NAME = "phantom_xray_diffusion"
HAS_SDK = importlib.util.find_spec("monai.deploy") is not None


def container(folder, *words):
    """Run what a container would, with the folder's own copy of this package."""
    own = {**os.environ, "OMP_NUM_THREADS": "1"}
    own.pop("PYTHONPATH", None)
    return subprocess.run(
        [sys.executable, *words], env=own, capture_output=True, text=True, timeout=500, cwd=folder / "app"
    )


def test_folder_holds_the_whole_application(tmp_path, capsys):
    folder = tmp_path / "package"
    assert main([str(folder), "--bundle", NAME, "--no-gpu"]) == 0
    assert shlex.split(capsys.readouterr().out) == shlex.split(package_command(folder))
    wanted = {"app/__main__.py", "app/requirements.txt", "app.yaml", f"models/{NAME}/models/model.pt"}
    assert all((folder / name).is_file() for name in wanted)
    source = find_bundle(NAME)
    for part in ("configs/inference.json", "models/model.json"):
        assert (folder / "models" / NAME / part).read_bytes() == (source / part).read_bytes()
    needed = (folder / "app" / "requirements.txt").read_text().splitlines()
    assert any(line.startswith("torch>") for line in needed) and any(line.startswith("highdicom") for line in needed)
    assert not any("extra" in line or line.startswith("monai-d") for line in needed)
    assert not list(folder.rglob("__pycache__"))
    config = (folder / "app.yaml").read_text()
    assert f"version: {__version__}" in config and "gpu: 0" in config
    done = container(folder, "-c", "import monai_diffclf; print(monai_diffclf.__file__)")
    assert done.stdout.strip() == str(folder / "app" / "monai_diffclf" / "__init__.py"), done.stderr


def test_the_configuration_has_what_the_packager_asks_for(tmp_path):
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    config = yaml.safe_load((write_package(tmp_path / "a", NAME) / "app.yaml").read_text())
    assert set(config) == {"application", "resources"} and config["application"]["title"].startswith(NAME)
    assert config["application"]["version"] == __version__ and config["resources"]["gpu"] == 1


def test_what_is_refused(tmp_path, capsys):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    with pytest.raises(ValueError, match="folder: expected a new or an empty folder"):
        write_package(tmp_path / "there", NAME)
    assert main([str(tmp_path / "new"), "--bundle", "isic_melanoma_diffusion"]) == 1
    assert "bundle: expected one with weights" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
@pytest.mark.skipif(not HAS_SDK, reason="the MONAI Deploy App SDK is not installed (extra: deploy)")
def test_application_runs_from_the_folder(tmp_path):
    from tools import dicom_sources

    folder = write_package(tmp_path / "package", NAME, gpu=False)
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    pydicom.dcmwrite(tmp_path / "in" / "a.dcm", dicom_sources.cr(), enforce_file_format=True)
    words = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-m", str(folder / "models")]
    done = container(folder, str(folder / "app"), *words)
    assert done.returncode == 0, done.stderr[-3000:]
    kinds = sorted(path.stem.rpartition("_")[2] for path in (tmp_path / "out" / "dicom").glob("*.dcm"))
    assert kinds == ["map", "overlay", "report"]

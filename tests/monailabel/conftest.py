"""Fixtures for the MONAI Label app: a bundle, an image in several formats, and MONAI Label's server in process."""

from __future__ import annotations

import functools
import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from monai_diffclf.monailabel.bundle_model import BundleModel
from tests.monailabel.example_images import make_bundle, make_picture, write_dicom, write_nifti, write_png

ORIGINAL = Path(__file__).resolve().parents[2] / "bundles" / "pneumonia_xray_diffusion"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pneumonia bundle with three draws."""
    return make_bundle(ORIGINAL, tmp_path_factory.mktemp("bundles") / "pneumonia")


@pytest.fixture
def changed_bundle(tmp_path: Path) -> Callable[..., Path]:
    """The pneumonia bundle with changes to its configuration."""
    return lambda **changes: make_bundle(ORIGINAL, tmp_path / "changed", **changes)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same picture as PNG, NIfTI and DICOM."""
    folder, picture = tmp_path_factory.mktemp("images"), make_picture()
    return {
        "png": write_png(folder / "picture.png", picture),
        "nifti": write_nifti(folder / "picture.nii.gz", picture),
        "dicom": write_dicom(folder / "picture.dcm", picture),
    }


@pytest.fixture(scope="session")
def monailabel() -> None:
    """MONAI Label; the test is skipped where it is not installed."""
    for module in ("monailabel", "httpx"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed, see docs/monailabel.md")
    import monai_diffclf.monailabel  # noqa: F401  puts a stand-in for pydicom_seg in place


@pytest.fixture
def settings(monailabel: None) -> Iterator[Any]:
    """MONAI Label's settings, without what runs beside the server; put back afterwards."""
    from monailabel.config import settings

    before = settings.model_dump()
    settings.MONAI_LABEL_AUTO_UPDATE_SCORING = settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD = False
    settings.MONAI_LABEL_SESSIONS = False
    yield settings
    for name, value in before.items():
        setattr(settings, name, value)


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """A folder of three PNGs and a DICOM file."""
    folder = tmp_path / "studies"
    folder.mkdir()
    for index in range(3):
        write_png(folder / f"image{index}.png", make_picture(index, (40, 50)))
    write_dicom(folder / "scan.dcm", make_picture(3))
    return folder


# The same bundle for every test's app.
load_once = functools.cache(BundleModel)


@pytest.fixture
def client(
    settings: Any, studies: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """MONAI Label's server in process, with the app as it is shipped, its studies and the bundle."""
    from fastapi.testclient import TestClient
    from monailabel.interfaces.utils.app import clear_cache

    from monai_diffclf.monailabel import main
    from monai_diffclf.monailabel.server import app

    monkeypatch.setattr("monai_diffclf.monailabel.served_models.BundleModel", load_once)
    settings.MONAI_LABEL_APP_DIR, settings.MONAI_LABEL_STUDIES = str(Path(main.__file__).parent), str(studies)
    settings.MONAI_LABEL_APP_CONF = {"bundle": str(bundle)}
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    Path(tempfile.gettempdir()).mkdir()
    clear_cache()
    with TestClient(app, base_url="http://127.0.0.1:8000") as test_client:
        yield test_client
    clear_cache()

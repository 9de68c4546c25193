"""Fixtures for all tests: the device, and the real images where they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the folder of real images."""
    parser.addoption(
        "--data-root",
        type=Path,
        default=ROOT.parent / "shared" / "data",
        help="folder with the real images (default: ../shared/data from the project's root)",
    )


@pytest.fixture(scope="session", autouse=True)
def _float32_convolutions() -> None:
    """On a GPU convolutions are rounded to 10 bits by default (TF32), which is no float32 to compare with."""
    torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(scope="session")
def device() -> str:
    """The device to test on: the GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="session")
def data_root(request: pytest.FixtureRequest) -> Path:
    """The folder of real images; the test is skipped where it is absent."""
    folder = Path(request.config.getoption("--data-root")).resolve()
    if not folder.is_dir():
        pytest.skip(f"real images not found in {folder}: name their folder with --data-root")
    return folder


@pytest.fixture
def dataset(data_root: Path):
    """Function from a data set's folder name to its path; the test is skipped where that one is absent."""

    def find(name: str) -> Path:
        folder = data_root / name
        if not folder.is_dir():
            pytest.skip(f"data set {name!r} not found in {data_root}")
        return folder

    return find

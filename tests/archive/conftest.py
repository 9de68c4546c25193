"""A small archive, and the settings of a bundle that classifies it in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_diffclf.archive import ClassifierSettings, processes
from monai_diffclf.bundle import find_bundle
from tests.image_fixtures import write_dicom

__all__ = ["write_dicom"]

BUNDLE = "phantom_xray_diffusion"


def write_pictures(folder: Path, count: int, *, seed: int = 0, name: str = "scan {}.png") -> list[Path]:
    """Grey pictures of noise, 36 x 40."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for n in range(count):
        pixels = np.random.default_rng([seed, n]).integers(0, 256, (36, 40), dtype=np.uint8)
        paths.append(folder / name.format(n))
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder of 20 pictures: two blocks."""
    write_pictures(tmp_path / "images", 20)
    return tmp_path / "images"


@pytest.fixture
def settings(device) -> ClassifierSettings:
    """Few draws, so that an image takes a moment."""
    return ClassifierSettings(str(find_bundle(BUNDLE)), values={"num_draws": 2}, device=device)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its path in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def stop_after_one(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Interrupt when a second block would be written; the numbers of the blocks written before."""
    written: list[int] = []
    write = processes.write_block

    def write_one(folder, number, content):
        if written:
            raise KeyboardInterrupt
        written.append(number)
        return write(folder, number, content)

    monkeypatch.setattr(processes, "write_block", write_one)
    return written

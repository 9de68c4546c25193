"""What is odd about an image stands in the reply and beside its score."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from monai.data import MetaTensor
from monai.transforms import MapTransform

from tests.monailabel.example_images import make_picture, write_png


class Unknown(MapTransform):
    """Says that the image is unlike those of the fit."""

    def __init__(self) -> None:
        super().__init__(keys="pred")

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Add the p-value."""
        return {**data, "ood_p_value": 0.002}


@pytest.fixture(autouse=True)
def _needs(monailabel: None) -> None:
    """MONAI Label."""


def test_they_reach_the_client_and_the_store(
    client: Any, studies: Path, images: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from monai_diffclf.monailabel.bundle_model import BundleModel

    read = BundleModel.read

    def read_with_warning(self: BundleModel, path: Any) -> MetaTensor:
        image = read(self, path)
        image.meta["warnings"] = "all pixels are equal"
        return image

    monkeypatch.setattr(BundleModel, "read", read_with_warning)
    reply = client.post("/infer/pneumonia", params={"image": "image0", "output": "json"}).json()
    assert reply["warnings"] == ["all pixels are equal"]
    client.post("/scoring/uncertainty", params={"run_sync": True})
    info = client.get("/datastore/image/info", params={"image": "image0"}).json()
    assert info["diffusion_classifier"]["warnings"] == ["all pixels are equal"]


def test_unlike_the_known_images(settings: Any, changed_bundle: Callable[..., Path], images: dict[str, Path]) -> None:
    from monai_diffclf.monailabel.bundle_model import BundleModel
    from monai_diffclf.monailabel.infer_task import DiffusionClassifierTask

    transforms = [{"_target_": "tests.monailabel.test_warnings.Unknown"}]
    changed = {"_target_": "monai.transforms.Compose", "transforms": transforms}
    task = DiffusionClassifierTask(BundleModel(changed_bundle(postprocessing=changed)))
    _, reply = task({"image": str(images["png"])}, want_file=False)
    assert reply["warnings"] == ["untypical: p-value 0.002 among the images that the model knows"]


def test_black_image(client: Any, tmp_path: Path) -> None:
    black = write_png(tmp_path / "black.png", 0 * make_picture())
    with open(black, "rb") as file:
        reply = client.post("/infer/pneumonia", params={"output": "json"}, files={"file": ("black.png", file)}).json()
    assert reply["label"]
    assert "every pixel has the same value, 0" in reply["warnings"]

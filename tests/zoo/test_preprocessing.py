"""Images as generative bundles take them: volumes by the axes that MONAI's own transforms give them."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirst, LoadImage, Orientation, ScaleIntensity

from monai_diffclf.zoo import zoo_preprocessing

AFFINES = {
    "RAS": np.diag([1.0, 1.0, 1.0, 1.0]) + np.eye(4, k=3) * -5,
    "LPS": np.diag([-1.0, -1.0, 1.0, 1.0]),
    "PIR": np.array([[0, 0, 1.0, 0], [-1.0, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1]]),
}


@pytest.mark.parametrize("axes", AFFINES)
def test_volumes_are_those_of_monai_by_ras_axes(tmp_path, axes):
    shape = {"RAS": (4, 6, 8), "LPS": (4, 6, 8), "PIR": (6, 8, 4)}[axes]
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    path = tmp_path / "volume.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, AFFINES[axes]), path)
    theirs = Compose(
        [LoadImage(image_only=True), EnsureChannelFirst(), Orientation("RAS", labels=None), ScaleIntensity(-1.0, 1.0)]
    )(path)
    item = zoo_preprocessing([4, 6, 8], 1, (-1.0, 1.0), resize=False)({"image": str(path)})
    assert item["image"].shape == (1, 4, 6, 8)
    torch.testing.assert_close(item["image"].as_tensor(), theirs.as_tensor(), rtol=1e-5, atol=1e-5)


def test_a_volume_of_another_size_is_refused_where_none_is_to_be_resized(tmp_path):
    path = tmp_path / "volume.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.float32), AFFINES["LPS"]), path)
    with pytest.raises(RuntimeError) as caught:
        zoo_preprocessing([4, 6, 8], 1, resize=False)({"image": str(path)})
    assert "expected an image of size" in str(caught.value.__cause__)

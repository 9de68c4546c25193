"""The Haar wavelet against an independent matrix, by its properties, and inside MONAI's machinery."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Flipd, Invertd

from monai_diffclf.transforms import (
    HaarTransform,
    HaarTransformD,
    HaarTransformd,
    HaarTransformDict,
    InverseHaarTransform,
    InverseHaarTransformd,
    haar_forward,
    haar_inverse,
)

CASES = [(2, 1, (6, 8)), (2, 2, (8, 12)), (2, 3, (8, 16)), (3, 1, (4, 6, 2)), (3, 2, (4, 8, 4))]


def reference(image: np.ndarray, levels: int) -> np.ndarray:
    """The wavelet packet of ``[C, *spatial]`` by explicit orthogonal matrices, channels and bands in nested loops."""
    for _ in range(levels):
        spatial_dims = image.ndim - 1
        channels = []
        for channel in image:
            for band in range(2**spatial_dims):
                out = channel
                for axis in range(spatial_dims):
                    size = channel.shape[axis]
                    matrix = np.zeros((size // 2, size))
                    for row in range(size // 2):
                        matrix[row, 2 * row] = np.sqrt(0.5)
                        matrix[row, 2 * row + 1] = -np.sqrt(0.5) if band >> axis & 1 else np.sqrt(0.5)
                    out = np.moveaxis(np.tensordot(matrix, out, axes=(1, axis)), 0, axis)
                channels.append(out)
        image = np.stack(channels)
    return image


def noise(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize(("spatial_dims", "levels", "size"), CASES)
def test_equals_reference_matrix(spatial_dims, levels, size, device):
    images = noise(2, 3, *size, dtype=torch.float64)
    got = haar_forward(images.to(device), levels, spatial_dims=spatial_dims).cpu().numpy()
    expected = np.stack([reference(image, levels) for image in images.numpy()])
    assert got.shape == (2, 3 * 2 ** (spatial_dims * levels), *(s // 2**levels for s in size))
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_two_dimensional_bands_are_approximation_horizontal_vertical_diagonal():
    rows = torch.tensor([[[1.0, 1.0], [-1.0, -1.0]]])  # changes from row to row: an edge along the horizontal
    columns = rows.transpose(1, 2)
    assert haar_forward(rows).flatten().tolist() == [0, 2, 0, 0]
    assert haar_forward(columns).flatten().tolist() == [0, 0, 2, 0]
    assert haar_forward(torch.ones(1, 2, 2)).flatten().tolist() == [2, 0, 0, 0]


@pytest.mark.parametrize(("spatial_dims", "levels", "size"), CASES)
def test_round_trip_and_norm(spatial_dims, levels, size, device):
    images = noise(4, 2, *size).to(device)
    coefficients = haar_forward(images, levels, spatial_dims=spatial_dims)
    torch.testing.assert_close(haar_inverse(coefficients, levels, spatial_dims=spatial_dims), images, atol=1e-6, rtol=0)
    torch.testing.assert_close(coefficients.norm(), images.norm(), atol=0, rtol=1e-6)
    back = haar_forward(
        haar_inverse(coefficients, levels, spatial_dims=spatial_dims), levels, spatial_dims=spatial_dims
    )
    torch.testing.assert_close(back, coefficients, atol=1e-6, rtol=0)


def test_white_noise_stays_white(device):
    coefficients = haar_forward(noise(20_000, 1, 4, 4).to(device), 2).flatten(1)
    covariance = torch.cov(coefficients.T).cpu()
    # 5 standard errors: sqrt(2 / n) = 0.01 on the diagonal.
    torch.testing.assert_close(covariance, torch.eye(16), atol=0.05, rtol=0)


def test_any_batch_axes_give_the_same():
    images = noise(2, 3, 1, 4, 4)
    together = haar_forward(images)
    for i in range(2):
        torch.testing.assert_close(together[i], haar_forward(images[i]), atol=0, rtol=0)
        torch.testing.assert_close(together[i, 1], haar_forward(images[i, 1]), atol=0, rtol=0)


def test_gradient_is_the_transpose():
    x = noise(1, 2, 4, 4, dtype=torch.float64).requires_grad_()
    weights = noise(1, 8, 2, 2, dtype=torch.float64, seed=1)
    (haar_forward(x) * weights).sum().backward()
    torch.testing.assert_close(x.grad, haar_inverse(weights))


class _Both(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return haar_inverse(2 * haar_forward(x, 2), 2)


def test_traces_and_exports_for_other_batch_sizes():
    small, large = noise(2, 1, 8, 8), noise(5, 1, 8, 8)
    traced = torch.jit.trace(_Both(), (small,))
    torch.testing.assert_close(traced(large), 2 * large)
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(_Both(), (small,), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(exported.module()(large), 2 * large)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_keeps_floating_dtype(dtype):
    assert haar_forward(torch.ones(1, 4, 4, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("function", [haar_forward, haar_inverse])
def test_bad_arguments_of_the_functions(function):
    with pytest.raises(ValueError, match="`levels` must be an integer of at least 1, but got 0"):
        function(torch.ones(4, 4, 4), 0)
    with pytest.raises(ValueError, match="`spatial_dims` must be 2 or 3, but got 1"):
        function(torch.ones(4, 4, 4), spatial_dims=1)
    with pytest.raises(TypeError, match=r"floating-point tensor, but got torch.uint8; convert it with `x.float\(\)`"):
        function(torch.ones(4, 4, 4, dtype=torch.uint8))
    with pytest.raises(TypeError, match="floating-point tensor, but got ndarray"):
        function(np.ones((4, 4, 4)))
    with pytest.raises(ValueError, match=r"channel axis and 2 spatial axes.*\(4, 4\)"):
        function(torch.ones(4, 4))


def test_odd_size_says_what_to_pad_to():
    with pytest.raises(
        ValueError, match=r"2\*\*levels = 4, but got \(27, 28\); pad to \(28, 28\).*DivisiblePad\(k=4\)"
    ):
        haar_forward(torch.ones(1, 27, 28), 2)
    with pytest.raises(ValueError, match=r"pad to \(4, 2, 6\)"):
        HaarTransform()(torch.ones(1, 3, 2, 5))


def test_wrong_number_of_channels():
    with pytest.raises(ValueError, match=r"divisible by 2\*\*\(spatial_dims \* levels\) = 16 for 2 level\(s\).*got 12"):
        haar_inverse(torch.ones(12, 4, 4), 2)


@pytest.mark.parametrize("shape", [(4, 4), (2, 1, 4, 4, 4)])
def test_transform_wants_one_image(shape):
    with pytest.raises(ValueError, match=r"one channel-first image, .* for batches use haar_forward"):
        HaarTransform()(torch.ones(shape))


@pytest.mark.parametrize(("spatial_dims", "levels", "size"), CASES)
def test_transform_keeps_metadata_and_inverts(spatial_dims, levels, size):
    affine = torch.diag(torch.tensor([0.5, 0.7, 2.0, 1.0], dtype=torch.float64))
    affine[:3, 3] = torch.tensor([3.0, -2.0, 1.0])
    image = MetaTensor(noise(2, *size), affine=affine, meta={"patient": "p1"})
    transform = HaarTransform(levels)
    out = transform(image)
    assert isinstance(out, MetaTensor)
    assert out.meta["patient"] == "p1"
    assert [op["class"] for op in out.applied_operations] == ["HaarTransform"]
    torch.testing.assert_close(out.as_tensor(), haar_forward(image.as_tensor(), levels, spatial_dims=spatial_dims))
    torch.testing.assert_close(image.affine, affine)

    for back in (transform.inverse(out.clone()), InverseHaarTransform(levels)(out)):
        torch.testing.assert_close(back.as_tensor(), image.as_tensor(), atol=1e-6, rtol=0)
        torch.testing.assert_close(back.affine, affine)
        assert back.meta["patient"] == "p1"
    assert transform.inverse(out.clone()).applied_operations == []


def test_affine_keeps_the_image_where_it_is():
    image = MetaTensor(torch.ones(1, 8, 8), affine=torch.diag(torch.tensor([0.5, 2.0, 1.0, 1.0])))
    out = HaarTransform(levels=2)(image)
    # The first voxel of the coarse grid covers voxels 0 to 3: its centre is at 1.5 of the fine one.
    centre = out.affine @ torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    assert centre.tolist() == [0.75, 3.0, 0.0, 1.0]
    assert out.pixdim.tolist()[:2] == [2.0, 8.0]


def test_transform_takes_numpy_and_integers():
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4) + 240
    out = HaarTransform()(image)
    assert out.dtype == torch.float32
    np.testing.assert_allclose(out.numpy(), reference(image.astype(float), 1), rtol=1e-6, atol=1e-6)


def test_dictionary_forms():
    image = noise(3, 8, 8)
    transform = HaarTransformd(["image", "pred"], levels=2)
    data = transform({"image": image, "pred": image + 1, "label": 1})
    assert data["image"].shape == (48, 2, 2)
    assert data["label"] == 1
    torch.testing.assert_close(transform.inverse(data)["pred"].as_tensor(), image + 1, atol=1e-6, rtol=0)
    back = InverseHaarTransformd("image", levels=2)(data)
    torch.testing.assert_close(back["image"].as_tensor(), image, atol=1e-6, rtol=0)
    assert HaarTransformD is HaarTransformDict is HaarTransformd
    with pytest.raises(KeyError, match="image"):
        transform({"label": 1})
    assert HaarTransformd("image", allow_missing_keys=True)({"label": 1}) == {"label": 1}


def test_invertd_brings_a_prediction_back():
    image = noise(1, 8, 4)
    preprocessing = Compose([Flipd("image", spatial_axis=0), HaarTransformd("image")])
    data = preprocessing({"image": image})
    data["pred"] = MetaTensor(data["image"].as_tensor() * 3)
    data = Invertd("pred", preprocessing, orig_keys="image", nearest_interp=False)(data)
    torch.testing.assert_close(data["pred"].as_tensor(), image * 3, atol=1e-5, rtol=0)


def test_inverse_of_something_else_is_refused():
    with pytest.raises(RuntimeError, match="HaarTransform"):
        HaarTransform().inverse(HaarTransform()(torch.ones(1, 4, 4)))


def test_bad_levels_are_refused_when_built():
    for build in (HaarTransform, InverseHaarTransform):
        with pytest.raises(ValueError, match="`levels` must be an integer of at least 1, but got 1.5"):
            build(1.5)


def test_pickles_for_worker_processes():
    copy = pickle.loads(pickle.dumps(HaarTransformd("image", levels=2)))  # noqa: S301 - our own bytes
    assert copy({"image": torch.ones(1, 4, 4)})["image"].shape == (16, 1, 1)

"""What all parts refuse; the inferers' and counterfactuals' tests hold most of it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from einops.layers.torch import Rearrange
from monai.data import MetaTensor

from monai_diffclf._checks import check_eval_mode, check_images, check_labels, check_probabilities, plain_tensor

NETWORK = torch.nn.Sequential(torch.nn.Dropout()).eval()


def test_plain_tensor():
    values = torch.rand(2, 3, requires_grad=True)
    wrapped = MetaTensor(values, meta={"filename_or_obj": "a.png"})
    plain = plain_tensor(wrapped)
    assert type(plain) is torch.Tensor and plain_tensor(values) is values
    torch.testing.assert_close(plain, values, rtol=0, atol=0)
    plain.sum().backward()
    assert values.grad is not None
    assert type(plain_tensor(torch.nn.Parameter(torch.zeros(2)))) is torch.Tensor


@pytest.mark.parametrize(
    ("given", "kept"),
    [(torch.float16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_images_keep_their_values_and_lose_the_rest(given, kept):
    values = torch.rand(2, 1, 4, 4).to(given)
    for images in (values, MetaTensor(values), values.clone().requires_grad_()):
        checked = check_images(images, NETWORK)
        assert type(checked) is torch.Tensor and checked.dtype == kept and not checked.requires_grad
        torch.testing.assert_close(checked, values.to(kept), rtol=0, atol=0)


def test_no_images():
    assert check_images(torch.zeros(0, 1, 4, 4), NETWORK).shape == (0, 1, 4, 4)
    with pytest.raises(ValueError, match=r"images: expected shape .* got \[0, 1, 4, 4\]"):
        check_images(torch.zeros(0, 1, 4, 4), NETWORK, min_images=1)


def test_a_copy_of_a_network_in_eval_mode_is_in_eval_mode():
    """Layers of einops forget the mode when they are copied, which changes nothing that they do."""
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), Rearrange("a b -> b a")).eval()
    copied = copy.deepcopy(network)
    check_eval_mode(copied)
    copied[0].train()
    with pytest.raises(ValueError, match="network: expected eval mode, got training mode"):
        check_eval_mode(copied)


def test_callables_have_no_mode():
    check_images(torch.zeros(1, 1, 4, 4), lambda **arguments: arguments["x"])
    with pytest.raises(ValueError, match="network: expected eval mode, got training mode; call network.eval"):
        check_images(torch.zeros(1, 1, 4, 4), torch.nn.Sequential(torch.nn.Dropout()))


@pytest.mark.parametrize(
    "labels",
    [
        [0, 2, 1],
        [0.0, 2.0, 1.0],
        [[0], [2], [1]],
        np.array([1, 2, 0], dtype=np.uint8)[::-1],
        torch.tensor([[0.0], [2.0], [1.0]]),
        MetaTensor(torch.tensor([0, 2, 1])),
        [torch.tensor(0), torch.tensor(2), torch.tensor(1)],
    ],
)
@pytest.mark.parametrize("num_images", [3, None])
def test_labels_of_any_type(labels, num_images):
    for num_classes in (3, None):
        checked = check_labels(labels, num_classes, num_images)
        assert checked.dtype == np.int64 and checked.tolist() == [0, 2, 1]


def test_no_labels():
    assert check_labels([], 2, 0).tolist() == []
    for labels, num_images in (([], None), ([], 1), ([0], 0)):
        with pytest.raises(ValueError, match="labels: expected one class an image"):
            check_labels(labels, 2, num_images)


@pytest.mark.parametrize(
    ("labels", "num_classes", "message"),
    [
        ([0, 1, 2, 5], 2, "rival: expected class numbers from 0 to 1, got 2 in 2 image.s., the first at 2$"),
        ([0, -1], 2, "got -1 in 1 image.s., the first at 1; leave images without a class out"),
        ([0.5, 1], None, "rival: expected class numbers 0, 1, ..., got 0.5 in 1 image"),
        ([0, np.nan], 2, "got nan in 1 image"),
        ([0, np.inf], None, "got inf in 1 image"),
        ([[0, 1], [1, 0]], 2, r"rival: expected one class an image, \[N\], got \[2, 2\]"),
        (0, 2, r"rival: expected one class an image, \[N\], got \[\]"),
    ],
)
def test_no_class_numbers(labels, num_classes, message):
    with pytest.raises(ValueError, match=message):
        check_labels(labels, num_classes, name="rival")


def test_names_of_classes():
    with pytest.raises(TypeError, match="labels: expected class numbers, got <U"):
        check_labels(["normal", "pneumonia"], 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_probabilities_of_any_precision(dtype):
    given = torch.rand(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    given = (given / given.sum(1, keepdim=True)).to(dtype)
    for probabilities in (given, MetaTensor(given), given.double().numpy(), given.tolist()):
        checked = check_probabilities(probabilities)
        assert checked.dtype == np.float64
        np.testing.assert_array_equal(checked, given.double().numpy())


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ([0.5, 0.5], r"pred: expected shape \[B, K\] with K >= 2, got \[2\]"),
        ([[1.0]], r"pred: expected shape \[B, K\] with K >= 2, got \[1, 1\]"),
        ([[0.5, 0.5], [2.0, -1.0]], r"sum to 1, got 1 others, the first \[2.0, -1.0\] \(logits\? apply softmax"),
        ([[0.5, 0.52], [0.1, 0.1]], "sum to 1, got 2 others"),
        ([[np.nan, 0.5]], "sum to 1, got 1 others"),
        ([[np.inf, 0.5]], "sum to 1, got 1 others"),
    ],
)
def test_no_probabilities(probabilities, message):
    with pytest.raises(ValueError, match=message):
        check_probabilities(probabilities, name="pred")


def test_rounding_below_zero_is_zero():
    assert check_probabilities([[1 + 1e-7, -1e-7]]).min() == 0

"""What all parts refuse; the inferers' and counterfactuals' tests hold most of it."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from monai_diffclf._checks import check_images, plain_tensor

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


def test_callables_have_no_mode():
    check_images(torch.zeros(1, 1, 4, 4), lambda **arguments: arguments["x"])
    with pytest.raises(ValueError, match="network: expected eval mode, got training mode; call network.eval"):
        check_images(torch.zeros(1, 1, 4, 4), torch.nn.Sequential(torch.nn.Dropout()))

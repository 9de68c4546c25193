"""A forward pass in reduced precision: what it gives, and that gradients reach weights in float32."""

from __future__ import annotations

import pytest
import torch

from monai_diffclf.inferers import AutocastInferer


class Seen(torch.nn.Module):
    """A linear layer that remembers in which precision it computed."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.dtype = torch.nn.Linear(8, 8), None

    def forward(self, x, timesteps=None):
        y = self.layer(x)
        self.dtype = y.dtype
        return y


@pytest.mark.parametrize(("given", "inside"), [(None, torch.float32), ("bfloat16", torch.bfloat16)])
def test_it_computes_in_the_precision_asked_for_and_answers_in_float32(given, inside, device):
    torch.manual_seed(0)
    network, images = Seen().to(device), torch.randn(4, 8, device=device)
    found = AutocastInferer(given)(images, network, timesteps=torch.zeros(4))
    assert network.dtype == inside and found.dtype == torch.float32
    assert torch.allclose(found, network.layer(images), rtol=2e-2, atol=2e-2)
    found.square().mean().backward()
    assert network.layer.weight.grad.dtype == torch.float32 and bool(network.layer.weight.grad.abs().sum() > 0)


@pytest.mark.parametrize("wrong", ["float16", torch.bfloat16, "half"])
def test_other_precisions_are_refused(wrong):
    with pytest.raises(ValueError, match="amp_dtype: expected None or 'bfloat16', got"):
        AutocastInferer(wrong)

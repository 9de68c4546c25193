"""A classifier trained with monai-generative classifies in this package as it did there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.networks.nets import DiffusionModelUNet
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.networks.checkpoints import load_generative_checkpoint

FILE = Path(__file__).parents[1] / "networks" / "fixtures" / "generative_checkpoint.pt"


@pytest.mark.parametrize(("name", "include_fc"), [("class_labels", False), ("crossattn", True)])
def test_errors_are_those_with_the_old_network(name, include_fc, device):
    entry = torch.load(FILE, weights_only=True)[name]
    network = DiffusionModelUNet(**entry["settings"], include_fc=include_fc)
    load_generative_checkpoint(network, entry["state_dict"])
    inferer = DiffusionClassifierInferer(DDPMScheduler(1000), num_classes=2, num_draws=5, conditioning=name)
    errors = inferer.compute_errors(entry["inputs"]["x"].to(device), network.eval().to(device)).values.cpu()
    torch.testing.assert_close(errors, entry["errors"], rtol=2e-5, atol=1e-6)
    # The classes must differ by more than the tolerance, or the test would say nothing of what decides.
    assert (errors[:, 0] - errors[:, 1]).abs().mean() > 1e-3

"""An ordinary network gives the classes and probabilities of its softmax, through the engine of the others."""

from __future__ import annotations

import pytest
import torch
from monai.data import DataLoader, Dataset
from torch import nn

from monai_diffclf.classification import LogitClassification
from monai_diffclf.engines import DiffusionClassifierEvaluator
from monai_diffclf.inferers import SoftmaxClassifierInferer, provenance
from monai_diffclf.networks import network_hash


@pytest.fixture
def network(device):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).to(device).eval()


@pytest.fixture
def images(device):
    return torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(1)).to(device)


def test_it_is_the_softmax_of_the_network(network, images):
    inferer = SoftmaxClassifierInferer(3)
    result = inferer.classify(images, network)
    expected = torch.softmax(network(images), dim=1)
    assert isinstance(result, LogitClassification)
    torch.testing.assert_close(result.probabilities, expected)
    torch.testing.assert_close(inferer(images, network), expected)
    assert torch.equal(result.predicted, expected.argmax(1))
    top = expected.topk(2).values
    torch.testing.assert_close(result.uncertainty["probability_margin"], top[:, 0] - top[:, 1], check_dtype=False)
    assert result.network_evaluations.tolist() == [1] * 5 and bool(result.decided.all())


def test_stored_logits_give_the_same(network, images):
    inferer = SoftmaxClassifierInferer(3)
    result = inferer.classify(images, network)
    again = inferer.decide(result.evidence, 16)
    assert result.evidence.shape == (5, 3, inferer.num_estimates)
    assert torch.equal(again.probabilities, result.probabilities)


def test_nothing_keeps_a_graph(network, images):
    result = SoftmaxClassifierInferer(3).classify(images, network)
    assert not result.probabilities.requires_grad and not result.logits.requires_grad


def test_what_the_network_does_not_take_is_said_in_one_line(network, images):
    with pytest.raises(ValueError, match=r"network: expected one that takes images of the shape \[1, 3, 3\].* refuses"):
        SoftmaxClassifierInferer(3).classify(images[..., :3, :3], network)
    with pytest.raises(ValueError, match=r"its weights are torch.float32, call network.to\(torch.float64\)"):
        SoftmaxClassifierInferer(3).classify(images.double(), network)


def test_no_images_give_none(network, images):
    assert len(SoftmaxClassifierInferer(3).classify(images[:0], network)) == 0


def test_the_engine_takes_it(network, images, device):
    data = [{"image": image.cpu(), "label": 0} for image in images]
    evaluator = DiffusionClassifierEvaluator(
        device=torch.device(device),
        val_data_loader=DataLoader(Dataset(data), batch_size=5),
        network=network,
        inferer=SoftmaxClassifierInferer(3),
        explain=False,
    )
    evaluator.run()
    pred = torch.stack([torch.as_tensor(item["pred"]) for item in evaluator.state.output])
    torch.testing.assert_close(pred.cpu(), torch.softmax(network(images), dim=1).detach().cpu())
    assert provenance(SoftmaxClassifierInferer(3), network) == {"network": network_hash(network), "num_classes": 3}


@pytest.mark.parametrize("wrong", [1, True, 2.0, "3"])
def test_refuses_what_is_no_number_of_classes(wrong):
    with pytest.raises(ValueError, match="num_classes: expected an integer of at least 2"):
        SoftmaxClassifierInferer(wrong)


def test_refuses_other_networks(network, images):
    with pytest.raises(ValueError, match=r"network: expected one that gives logits \[5, 2\], got \[5, 3\]"):
        SoftmaxClassifierInferer(2).classify(images, network)
    with pytest.raises(ValueError, match="error_maps: expected False"):
        SoftmaxClassifierInferer(3).classify(images, network, error_maps=True)
    with pytest.raises(ValueError, match="eval"):
        SoftmaxClassifierInferer(3).classify(images, network.train())
    with torch.no_grad():
        network.eval()[1].bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="finite logits"):
        SoftmaxClassifierInferer(3).classify(images, network)

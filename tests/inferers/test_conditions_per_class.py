"""Classes of several conditions: errors averaged over them, counted, mapped and stopped as any."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.classification import CurtailedVote, SequentialTest
from monai_diffclf.inferers import DiffusionClassifierInferer, provenance
from tests.tiny_unet import tiny_unet

SCHEDULER = DDPMScheduler(100, schedule="scaled_linear_beta", prediction_type="v_prediction")
SIZES = (1, 3, 2)


def make(**settings) -> DiffusionClassifierInferer:
    settings = {"num_draws": 9, "num_classes": 3, "conditions_per_class": SIZES, **settings}
    return DiffusionClassifierInferer(SCHEDULER, **settings)


def images(device: str, count: int = 4) -> torch.Tensor:
    return (torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1).to(device)


def network(device: str) -> torch.nn.Module:
    return tiny_unet(classes=6).to(device)


@pytest.mark.parametrize("batch_size", [1, 5, 128])
def test_errors_and_maps_are_means_over_conditions(batch_size, device):
    x, unet = images(device), network(device)
    single = DiffusionClassifierInferer(SCHEDULER, 6, num_draws=9, rule="mean")
    every, every_map = single.compute_errors(x, unet).values, single.error_maps(x, unet)
    grouped = make(batch_size=batch_size, rule="mean")
    result = grouped.classify(x, unet, error_maps=True)

    def mean(each):
        return torch.stack([part.mean(1) for part in each.split(SIZES, 1)], 1)

    torch.testing.assert_close(result.errors.values, mean(every), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(result.error_maps, mean(every_map), rtol=1e-5, atol=1e-6)
    assert result.network_evaluations.tolist() == [9 * 6] * 4
    again = grouped.classify_stored(result.errors.values, 64)
    assert torch.equal(again.predicted, result.predicted)
    assert again.network_evaluations.tolist() == [9 * 6] * 4


@pytest.mark.parametrize("stopping", [CurtailedVote(), SequentialTest(alpha=0.5)])
def test_stopping_spares_whole_classes(stopping, device):
    rule = "vote" if isinstance(stopping, CurtailedVote) else "mean"
    inferer, x, unet = make(stopping=stopping, num_draws=25, rule=rule), images(device), network(device)
    result = inferer.classify(x, unet)
    whole = make(num_draws=25, rule=rule).classify(x, unet)
    if rule == "vote":
        assert torch.equal(result.predicted, whole.predicted)
    spent = result.errors.evaluated.sum(2) @ torch.tensor(SIZES, device=device)
    assert torch.equal(result.network_evaluations, spent)
    assert int(spent.sum()) <= 4 * 25 * 6
    stored = inferer.classify_stored(result.errors.values, 64)
    assert torch.equal(stored.network_evaluations, spent)


def test_near_ties_are_counted_by_condition(device):
    result = make(amp_dtype=torch.bfloat16).classify(images(device), network(device))
    exact = make().classify(images(device), network(device))
    assert torch.equal(result.predicted, exact.predicted)
    assert bool((result.network_evaluations >= 9 * 6 + 8 * 6).all()), "eight draws in both precisions"


def test_the_sizes_are_part_of_the_provenance():
    unet = network("cpu")
    assert provenance(make(), unet)["conditions_per_class"] == "[1, 3, 2]"
    assert provenance(make(), unet) != provenance(make(conditions_per_class=(3, 1, 2)), unet)
    one = make(conditions_per_class=(1, 1, 1))
    assert provenance(one, unet) == provenance(make(conditions_per_class=None), unet)
    assert one.num_conditions == 3


@pytest.mark.parametrize("sizes", [(1, 2), (1, 2, 0), (1, 2.0, 1), "123", (True, 1, 1), 3])
def test_refuses_other_sizes(sizes):
    with pytest.raises(ValueError, match="conditions_per_class: expected None or 3 positive integers, one a class"):
        make(conditions_per_class=sizes)


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="network: expected class embeddings for labels 0 to 5, got 4"):
        make().classify(images("cpu"), tiny_unet(classes=3))

"""Loading weights, and a network's fingerprint."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_diffclf.handlers import MovingAverage
from monai_diffclf.networks import describe_model, load_weights, network_hash


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2).to(torch.bfloat16))


def test_equal_networks_have_equal_hashes(device):
    assert network_hash(network()) == network_hash(network().to(device).train())
    assert network_hash(network().to(memory_format=torch.channels_last)) == network_hash(network())


def change_weight(net):
    net[0].weight.data[0, 0, 0, 0] += 1e-6


def change_buffer(net):
    net[1].running_mean[1] = 1e-6


def change_counter(net):
    net[1].num_batches_tracked += 1


def change_dtype(net):
    net[0].half()


def change_shape(net):
    net[0].weight.data = net[0].weight.data.reshape(2, 1, 9, 1)


@pytest.mark.parametrize("change", [change_weight, change_buffer, change_counter, change_dtype, change_shape])
def test_every_value_counts(change):
    other = network()
    change(other)
    assert network_hash(other) != network_hash(network()) != network_hash(network(1))


def test_names_count():
    a, b = nn.ModuleDict({"a": nn.Linear(1, 1)}), nn.ModuleDict({"b": nn.Linear(1, 1)})
    b.load_state_dict({name.replace("a.", "b."): value for name, value in a.state_dict().items()})
    assert network_hash(a) != network_hash(b)


def test_the_wrapper_for_several_gpus_does_not_count(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        plain = nn.Linear(2, 2)
        assert network_hash(nn.parallel.DistributedDataParallel(plain)) == network_hash(plain)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, lambda net: torch.compile(nn.DataParallel(net))])
def test_neither_does_another_wrapper_nor_that_of_the_compiler(wrap, tmp_path):
    average = MovingAverage(wrap(network(1)))
    average.update()
    torch.save(average.ema_model.state_dict(), tmp_path / "model.pt")
    for loaded in (network(0), wrap(network(0))):
        assert network_hash(load_weights(loaded, tmp_path / "model.pt")) == network_hash(network(1))
    about = {"classes": ["a", "b"], "channels": 1, "image_size": [8, 8]}
    assert describe_model(wrap(network()), **about) == describe_model(network(), **about)


def test_load_weights(tmp_path):
    torch.save(network(1).state_dict(), tmp_path / "model.pt")
    loaded = load_weights(network(0), tmp_path / "model.pt")
    assert network_hash(loaded) == network_hash(network(1))
    assert not loaded.training


def test_load_weights_refuses(tmp_path):
    with pytest.raises(
        ValueError, match=r"path: expected a file of weights, but .*model.pt does not exist; train first"
    ):
        load_weights(network(), tmp_path / "model.pt")
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"path: the weights in .*model.pt do not fit Sequential"):
        load_weights(network(), tmp_path / "model.pt")

"""Batch size, memory format and number of threads, chosen by measurement."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from monai_diffclf.networks import tuning as module
from monai_diffclf.networks.fast_inference import FastNetwork
from monai_diffclf.networks.tuning import Trial, Tuning, choose, tune_batch


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock that only the networks below advance, so that no other program disturbs a test."""
    clock = SimpleNamespace(now=0.0)
    clock.perf_counter = lambda: clock.now
    monkeypatch.setattr(module, "time", clock)
    return clock


class Slow(nn.Module):
    """Takes 4 ms a call, more for large batches, and 20 ms more for each setting that it does not like."""

    def __init__(self, clock, channels_last=None, num_threads=None, best_batch=8, fails_from=10**6):
        super().__init__()
        self.convolution = nn.Conv2d(4, 4, 3)
        self.likes = channels_last, num_threads
        self.best_batch, self.fails_from = best_batch, fails_from
        self.clock = [clock]

    def __deepcopy__(self, memo):
        copied = Slow(self.clock[0], *self.likes, self.best_batch, self.fails_from).eval()
        copied.load_state_dict(self.state_dict())
        return copied

    def forward(self, x, timesteps, **condition):
        if len(x) >= self.fails_from:
            raise torch.OutOfMemoryError
        assert len(timesteps) == len(x)
        last = self.convolution.weight.is_contiguous(memory_format=torch.channels_last)
        dislikes = sum(
            like not in (None, found) for like, found in zip(self.likes, (last, torch.get_num_threads()), strict=True)
        )
        self.clock[0].now += 0.004 * max(1.0, (len(x) / self.best_batch) ** 2) + 0.02 * dislikes
        return x


@pytest.mark.parametrize(("channels_last", "num_threads"), [(False, 2), (True, 1)])
def test_finds_the_fastest_setting(channels_last, num_threads, clock):
    network = Slow(clock, channels_last, num_threads).eval()
    before = torch.get_num_threads()
    tuning = tune_batch(network, [4, 8, 8], batch_sizes=(16, 2, 8, 4), threads=[1, 2], seconds=1.0)
    assert (tuning.batch_size, tuning.channels_last, tuning.num_threads) == (8, channels_last, num_threads)
    best = [trial for trial in tuning.table if trial[:3] == (8, channels_last, num_threads)]
    assert tuning.evaluations_per_second == best[-1].evaluations_per_second
    assert tuning.evaluations_per_second == pytest.approx(2000)  # 8 in 4 ms
    assert 0.5 < clock.now < 1.2
    assert len({trial[1:3] for trial in tuning.table}) == 4
    assert torch.get_num_threads() == before
    assert network.convolution.weight.is_contiguous()


def test_apply(clock):
    network = Slow(clock).eval()
    before, values = torch.get_num_threads(), network.convolution.weight.clone()
    try:
        tuning = Tuning(8, True, before + 1, 1.0, ())
        assert tuning.apply(network) is network
        assert torch.get_num_threads() == before + 1
        assert network.convolution.weight.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(network.convolution.weight, values)
    finally:
        torch.set_num_threads(before)


def test_a_fast_network_is_measured_itself(clock):
    network = FastNetwork(Slow(clock, channels_last=False)).eval()
    tuning = tune_batch(network, [4, 8, 8], batch_sizes=(4, 8), threads=[1], seconds=0.5)
    assert {trial.channels_last for trial in tuning.table} == {True}
    assert network.network.convolution.weight.is_contiguous()
    assert tuning.batch_size == 8


def test_the_smallest_of_equally_fast_batches():
    trials = [Trial(size, True, 1, rate, 5) for size, rate in ((4, 90.0), (8, 98.0), (16, 97.0), (32, 100.0))]
    assert choose(trials) == trials[1]


def test_keeps_to_the_time(clock):
    network = Slow(clock, best_batch=1).eval()  # 64 take 16 s
    tuning = tune_batch(network, [4, 4, 4], batch_sizes=(1, 2, 4, 64), threads=[1], seconds=0.5)
    assert clock.now < 0.7
    assert {trial.batch_size for trial in tuning.table} == {1, 2, 4}


def test_without_time_the_first_comparison_counts(clock):
    tuning = tune_batch(
        Slow(clock, channels_last=True).eval(), [4, 8, 8], batch_sizes=(4, 8), threads=[1], seconds=0.01
    )
    assert [trial[:2] for trial in tuning.table] == [(8, False), (8, True), (4, True)]
    assert (tuning.batch_size, tuning.channels_last) == (8, True)


def test_threads_are_restored_after_an_error():
    class Broken(nn.Module):
        def forward(self, x, timesteps, class_labels):
            raise RuntimeError("broken")

    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="broken"):
        tune_batch(Broken().eval(), [1, 4, 4], threads=[before + 1])
    assert torch.get_num_threads() == before


def test_leaves_out_what_does_not_fit_into_memory(clock):
    network = Slow(clock, fails_from=16).eval()
    tuning = tune_batch(network, [4, 8, 8], batch_sizes=(4, 8, 16), threads=[1], seconds=0.3)
    assert {trial.batch_size for trial in tuning.table} == {4, 8}
    with pytest.raises(torch.OutOfMemoryError):
        tune_batch(network, [4, 8, 8], batch_sizes=(16,), threads=[1], seconds=0.3)


@pytest.mark.parametrize(("conditioning", "name"), [("class_labels", "class_labels"), ("crossattn", "context")])
def test_conditions_as_the_inferer_does(conditioning, name, device, clock):
    seen = []

    class Recorder(nn.Module):
        def forward(self, x, timesteps, **condition):
            clock.now += 0.01
            seen.append((x.shape, {name: value.shape for name, value in condition.items()}, x.device.type))
            return x

    tune_batch(
        Recorder().eval(), (1, 4, 4, 4), conditioning=conditioning, num_classes=3, device=device, batch_sizes=[2],
        threads=[1], seconds=0.01,
    )  # fmt: skip
    shape = (2,) if name == "class_labels" else (2, 1, 4)
    assert seen[0] == ((2, 1, 4, 4, 4), {name: shape}, device)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": [28]}, r"shape: expected that of one image, \[C, H, W\], \[C, H, W, D\] or \[C, T\], got \[28\]"),
        ({"shape": [1, 28, 0]}, r"shape: expected positive integers, got \[1, 28, 0\]"),
        ({"batch_sizes": []}, r"batch_sizes: expected at least one positive integer and nothing else, got \[\]"),
        (
            {"batch_sizes": [4, 0]},
            r"batch_sizes: expected at least one positive integer and nothing else, got \[4, 0\]",
        ),
        ({"threads": [1.5]}, r"threads: expected at least one positive integer and nothing else, got \[1.5\]"),
        ({"memory_formats": [torch.preserve_format]}, "memory_formats: expected torch.contiguous_format, torch.chan"),
        ({"seconds": 0}, "seconds: expected a positive number, got 0"),
        ({"conditioning": "film"}, "conditioning: expected 'class_labels', 'crossattn' or a callable, got 'film'"),
    ],
)
def test_refuses(arguments, message, clock):
    with pytest.raises(ValueError, match=message):
        tune_batch(Slow(clock).eval(), **{"shape": [1, 28, 28], **arguments})


def test_refuses_networks(clock):
    with pytest.raises(ValueError, match="network: expected eval mode, got training mode; call network.eval()"):
        tune_batch(Slow(clock), [1, 28, 28])
    with pytest.raises(TypeError, match="network: expected an nn.Module, got int"):
        tune_batch(3, [1, 28, 28])

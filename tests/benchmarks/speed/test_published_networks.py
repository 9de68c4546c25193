"""What the networks of Favero et al. cost, counted without computing anything."""

from __future__ import annotations

import json
import resource

import pytest
import torch

from benchmarks.speed import published_networks as benchmark

MILLIONS = {"unet": 275.8, "dit": 147.7}


@pytest.mark.parametrize("name", sorted(benchmark.FILES))
def test_counts_are_the_published_ones_and_nothing_is_allocated(name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counted = benchmark.count(name)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    # In float32 the weights alone take 4 bytes each, and the saved activations half a gigabyte or more.
    assert grown < counted["parameters"], f"{grown / 1e6:.0f} MB"
    assert round(counted["parameters"] / 1e6, 1) == MILLIONS[name]
    assert all(weight.device.type == "meta" for weight in benchmark.make(name, "meta").parameters())
    # Backward multiplies with both the weights and the activations: twice the operations of forward.
    assert counted["step_gflop"] == pytest.approx(3 * counted["forward_gflop"], rel=0.01)
    written = json.loads(benchmark.RESULTS.read_text())[name]
    assert written["counted"] == pytest.approx(counted)
    assert written["estimated"]["H100"] == pytest.approx(benchmark.estimate(counted)["H100"])


def test_steps_of_the_whole_networks_stay_below_20_gb() -> None:
    written = json.loads(benchmark.RESULTS.read_text())
    for name in benchmark.FILES:
        steps = {kind: step for kind, step in written[name].items() if kind.startswith("cpu_step")}
        assert "cpu_step" in steps
        assert all(0 < step["peak_memory_gb"] < 20 for step in steps.values())


def test_estimates_follow_from_operations_and_memory() -> None:
    counted = {"parameters": 1e9, "forward_gflop": 100.0, "step_gflop": 300.0, "activations_mb": 2000.0}
    found = benchmark.estimate(counted)["24 GB"]
    rate = 165e12 * 0.35
    assert found["epoch_hours"] == pytest.approx(16_324 * 300e9 / rate / 3600)
    assert found["test_hours"] == pytest.approx(2_040 * 501 * 2 * 100e9 / rate / 3600)
    # 20 GB for weights, gradients, both moments and the average leave 1.6 of 21.6 GB: one image of 1 GB in half
    # precision.
    assert found["largest_batch"] == 1 and found["training_memory_gb"] == pytest.approx(21.0)


def test_a_step_gives_every_weight_a_gradient_in_either_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    def small(name: str, device: str) -> torch.nn.Module:
        class Network(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv = torch.nn.Conv2d(3, 3, 1)

            def forward(self, x: torch.Tensor, timesteps: torch.Tensor, class_labels: torch.Tensor) -> torch.Tensor:
                made: torch.Tensor = self.conv(x)
                return made

        return Network()

    monkeypatch.setattr(benchmark, "make", small)
    for dtype in (None, torch.bfloat16):
        found = benchmark.step("unet", dtype)
        assert found["seconds"] > 0 and found["peak_memory_gb"] > 0 and found["processor_seconds"] >= 0

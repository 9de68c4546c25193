"""What learning to spend draws needs."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from monai.data import Dataset
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.classification import DenoisingErrors, LevelWeights
from monai_diffclf.fitting.fit_decision import check_enough, nested_gain
from monai_diffclf.networks import network_hash
from monai_diffclf.storage import LearnedDecision, StoredErrors

module = sys.modules["monai_diffclf.fitting.fit_decision"]  # the package has a function of its name


def stored(draws: int, counts=(10, 10, 10), patients: int | None = None) -> StoredErrors:
    labels = torch.cat([torch.full((count,), k) for k, count in enumerate(counts)])
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(len(labels), len(counts), draws, generator=generator) + 1
    values[torch.arange(len(labels)), labels] *= 0.9
    names = ["" if patients is None else f"P{i % patients}" for i in range(len(labels))]
    errors = DenoisingErrors(values, torch.arange(draws), torch.linspace(4, -4, draws))
    return StoredErrors(errors, labels, [str(i) for i in range(len(labels))], names)


def test_few_draws_or_patients_are_refused():
    check_enough(stored(100), "e.npz")
    with pytest.raises(ValueError, match="decision: expected errors of at least 50 draws an image in e.npz, got 49"):
        check_enough(stored(49), "e.npz")
    with pytest.raises(
        ValueError, match="at least 5 validation patients, or images, of each class .* got 4 of class 1"
    ):
        check_enough(stored(100, counts=(10, 4, 10)), "e.npz")
    with pytest.raises(ValueError, match="got 2 of class 0"):
        check_enough(stored(100, patients=2), "e.npz")


def test_gain_is_of_images_that_chose_nothing():
    gain = nested_gain(stored(20), "mean", repeats=1)
    assert gain["folds"] == 5 and all(0.5 < gain[name] <= 1 for name in ("equal", "learned"))


def test_images_that_are_harder_under_every_class_change_no_gain():
    easy = stored(20)
    harder = replace(easy, errors=replace(easy.errors, values=easy.errors.values + torch.rand(len(easy.labels), 1, 1)))
    for rule in ("mean", "vote"):
        first, second = (nested_gain(part, rule, repeats=1)["equal"] for part in (easy, harder))
        assert first == pytest.approx(second)


def test_levels_are_those_that_the_weights_learned_in_training_count(monkeypatch):
    # What the weights are not for takes minutes.
    monkeypatch.setattr(module, "_learn", lambda *args: LearnedDecision(None, None, None, ""))
    monkeypatch.setattr(module, "nested_gain", lambda *args: {})
    monkeypatch.setattr(module, "FEW", (1,))
    network = torch.nn.Linear(1, 1)
    weights = LevelWeights((0.0, 3.0), (0.0, 1.0, 0.0), trained=True)
    bundle = SimpleNamespace(get=lambda name: network, decision={"weighting": weights, "temperature": 1.0})
    own = replace(stored(51), provenance={"network": network_hash(network)})
    learned = module.fit_decision(bundle, own, None, source="e.npz", risk=0.2).learned["mean"]
    assert 0 < learned.few_draws[1].log_snr[0] < 3


class Shifted(torch.nn.Module):
    """Predicts the class's number everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, timesteps, context=None, class_labels=None):
        return self.shift + class_labels.view(-1, 1, 1, 1).expand_as(x).float()


def test_errors_with_mirrored_noise_are_of_the_images_as_they_are(tmp_path, monkeypatch):
    made = []
    compute = module.compute_dataset_errors
    monkeypatch.setattr(module, "compute_dataset_errors", lambda *a, **k: made.append(1) or compute(*a, **k))
    network, inferer = Shifted().eval(), SimpleNamespace(latent_space=None)
    items = [{"image": torch.full((1, 4, 4), float(i)), "label": i, "key": str(i), "patient": ""} for i in range(2)]

    def measured(items: list[dict]) -> torch.Tensor:
        known = {"evaluate#network": network, "num_classes": 2, "conditioning": "class_labels"}
        known |= {"evaluate#inferer": inferer, "validate#dataset": Dataset(items)}
        bundle = SimpleNamespace(get=known.__getitem__, scheduler=DDPMScheduler(10))
        return module.measure_mirrored(bundle, tmp_path / "m.npz", num_parts=2, num_draws=4, progress=False).values

    first = measured(items)
    assert torch.equal(measured(items), first) and len(made) == 1
    assert not torch.equal(measured([{**item, "image": item["image"] + 1} for item in items]), first)
    assert len(made) == 2, "other images of the same names"
    measured([{**item, "label": 1 - item["label"]} for item in items])
    assert len(made) == 3

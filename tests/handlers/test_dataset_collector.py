"""All images of an evaluation, each once, in an order of their own."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset, DistributedSampler
from monai.engines import SupervisedEvaluator

from monai_diffclf.handlers import processes
from monai_diffclf.handlers.dataset_collector import Collected, DatasetCollector


class Keep(DatasetCollector):
    """Keeps what others would write."""

    def __init__(self) -> None:
        super().__init__("pred")
        self.written: list[Collected] = []

    def write(self, engine: Engine, collected: Collected) -> None:
        self.written.append(collected)


def collect(items, device="cpu", sampler=None, keep=None) -> Keep:
    keep = keep or Keep()
    loader = DataLoader(Dataset(items), batch_size=3, sampler=sampler)
    network = torch.nn.Flatten().to(device)
    SupervisedEvaluator(torch.device(device), loader, network, val_handlers=[keep]).run()
    return keep


def items_of(count, **more) -> list[dict]:
    return [
        {"image": torch.full((1, 2), float(i)), "label": i % 2, "key": f"{(3 * i) % count:02d}", **more}
        for i in range(count)
    ]


def test_sorted_by_key(device):
    (collected,) = collect(items_of(7, patient="P"), device).written
    assert collected.keys == [f"{i:02d}" for i in range(7)]
    assert collected.patients == ["P"] * 7
    # Key 3 i mod 7 belongs to image i, and 3 * 5 = 1 mod 7.
    expected = [(5 * key) % 7 for key in range(7)]
    assert collected.values.tolist() == [[i, i] for i in expected]
    assert collected.labels.tolist() == [i % 2 for i in expected]


def test_unknown_patients_have_no_name():
    batch = [{"label": 0, "patient": name} for name in (None, float("nan"), " ", "unknown", "P1", 7)] + [{"label": 0}]
    state = SimpleNamespace(dataloader=None, batch=batch, output=[{"pred": torch.zeros(2)}] * len(batch))
    keep = Keep()
    keep._collect(SimpleNamespace(state=state))
    assert [item.patient for item in keep._items] == ["", "", "", "", "P1", "7", ""]


@pytest.mark.parametrize("label", [0.9, -0.5, float("nan"), [0.0, 0.5]])
def test_what_is_no_class_is_refused(label):
    items = [{"image": torch.zeros(1, 1), "label": torch.tensor(label), "key": "a"}]
    with pytest.raises(ValueError, match="label: expected whole numbers, of a class or of states of findings, got"):
        collect(items)


def test_images_without_names_have_an_order_too():
    items = [{"image": torch.full((1, 1), float(i)), "label": 0} for i in (3, 1, 2)]
    (forward,), (backward,) = collect(items).written, collect(items[::-1]).written
    assert np.array_equal(forward.values, backward.values)
    assert sorted(forward.values.flatten().tolist()) == [1, 2, 3]


def test_every_run_starts_anew():
    keep = Keep()
    for count in (4, 2):
        collect(items_of(count), keep=keep)
    assert [len(collected.keys) for collected in keep.written] == [4, 2]


def test_nothing_else_is_kept_alive(monkeypatch):
    kept: list = []
    keep = Keep()
    monkeypatch.setattr(keep, "_finish", lambda engine: kept.extend(keep._items))
    collect(items_of(4), keep=keep)
    assert len(kept) == 4
    assert all(item.value.base is None and item.value.nbytes == 8 for item in kept)


@pytest.mark.parametrize(("count", "processes"), [(5, 2), (6, 2), (7, 3), (4, 3)])
@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("shuffle", [True, False])
def test_padding_counts_once(count, processes, even, shuffle):
    items, seen = items_of(count), []
    for rank in range(processes):
        sampler = DistributedSampler(
            Dataset(items), even_divisible=even, num_replicas=processes, rank=rank, shuffle=shuffle
        )
        (collected,) = collect(items, sampler=sampler).written
        seen += collected.keys
    assert sorted(seen) == sorted(item["key"] for item in items)


def test_processes_are_joined(monkeypatch):
    """The first process gets what the others collected, sorted with its own."""
    shares = [items_of(6)[rank::2] for rank in range(2)]
    others = Keep()
    monkeypatch.setattr(others, "_finish", lambda engine: None)
    collect(shares[1], keep=others)
    fake = SimpleNamespace(get_world_size=lambda: 2, all_gather=lambda items: [items, others._items])
    monkeypatch.setattr(processes, "idist", fake)
    (collected,) = collect(shares[0]).written
    assert collected.keys == sorted(item["key"] for item in items_of(6))

"""Files of `torch.save`: whole, and readable without running code."""

from __future__ import annotations

import enum
import os
from collections import OrderedDict, namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.utils import GridSampleMode

from monai_diffclf.networks.weights_content import read_torch_file
from monai_diffclf.storage.torch_file import torch as torch_of_the_module
from monai_diffclf.storage.torch_file import write_torch_file


class Level(enum.IntEnum):
    LOW = 1


Pair = namedtuple("Pair", "first second")


class Unknown:
    """Nothing that a file of weights may hold."""


def test_writes_whole_files(tmp_path):
    path = tmp_path / "new" / "weights.pt"
    for value in (1.0, 2.0):
        write_torch_file(path, {"weight": torch.tensor(value)})
        assert torch.load(path, weights_only=True)["weight"] == value
    assert os.listdir(path.parent) == ["weights.pt"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "weights.pt"
    write_torch_file(path, {"weight": torch.tensor(1.0)})

    def fail(content, where):
        Path(where).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch_of_the_module, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        write_torch_file(path, {"weight": torch.tensor(2.0)})
    assert torch.load(path, weights_only=True)["weight"] == 1.0
    assert os.listdir(tmp_path) == ["weights.pt"]


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (GridSampleMode.BILINEAR, "bilinear"),
        (Level.LOW, 1),
        (np.float64(0.25), 0.25),
        (np.float32(0.25), 0.25),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (Path("a") / "b", os.path.join("a", "b")),
        (Pair(np.int32(1), [np.float64(2)]), (1, [2.0])),
        ({np.int64(1): {"mode": GridSampleMode.NEAREST}}, {1: {"mode": "nearest"}}),
        ([None, True, 1, 1.5, "a", b"a"], [None, True, 1, 1.5, "a", b"a"]),
    ],
)
def test_values_become_plain(tmp_path, given, plain):
    write_torch_file(tmp_path / "state.pt", {"value": given})
    found = read_torch_file(tmp_path / "state.pt")["value"]
    assert found == plain
    assert type(found) is type(plain)


def test_tensors_are_torchs_own(tmp_path, device):
    content = {"meta": MetaTensor(torch.ones(2)), "parameter": torch.nn.Parameter(torch.ones(2, device=device))}
    write_torch_file(tmp_path / "state.pt", content)
    found = read_torch_file(tmp_path / "state.pt")
    assert type(found["meta"]) is torch.Tensor
    assert torch.equal(found["parameter"].detach(), torch.ones(2))
    assert content["parameter"].device.type == torch.device(device).type, "what was given is as it was"


def test_a_state_dict_keeps_its_order_and_versions(tmp_path):
    state = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)).state_dict()
    state["rate"] = np.float64(0.5)
    write_torch_file(tmp_path / "state.pt", state)
    found = read_torch_file(tmp_path / "state.pt")
    assert type(found) is OrderedDict
    assert list(found) == list(state)
    assert found._metadata == state._metadata
    assert found._metadata["1"]["version"] == 2
    assert type(state["rate"]) is np.float64, "what was given is as it was"


def test_states_of_a_training_are_read_again(tmp_path):
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=np.float64(1e-3))
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    schedules = [
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4),
        torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer),
        torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, 10),
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: np.float64(0.5) ** step),
        torch.optim.swa_utils.AveragedModel(network),
        torch.amp.GradScaler("cpu"),
    ]
    state = {str(n): each.state_dict() for n, each in enumerate([optimizer, *schedules])}
    write_torch_file(tmp_path / "state.pt", state)
    found = read_torch_file(tmp_path / "state.pt")
    optimizer.load_state_dict(found["0"])
    assert type(found["0"]["param_groups"][0]["betas"]) is tuple


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ({"a": {"b": [1, Unknown()]}}, r"Unknown in content\['a'\]\['b'\]\[1\]"),
        ({"values": np.zeros(3)}, r"ndarray in content\['values'\]"),
        ({"rule": test_writes_whole_files}, r"function in content\['rule'\]"),
    ],
)
def test_what_could_not_be_read_again_is_refused(tmp_path, content, where):
    path = tmp_path / "state.pt"
    write_torch_file(path, {"epoch": 1})
    with pytest.raises(TypeError, match=f"content: expected tensors and plain values for .*state.pt.* got {where}; "):
        write_torch_file(path, content)
    assert read_torch_file(path) == {"epoch": 1}, "the file before is as it was"
    assert os.listdir(tmp_path) == ["state.pt"]

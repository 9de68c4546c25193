"""Which weights are judged."""

from __future__ import annotations

import json
import logging

import pytest
import torch

from monai_diffclf.data import describe_data
from monai_diffclf.handlers import find_weights, judged_facts
from monai_diffclf.networks import network_hash


@pytest.fixture
def bundle(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.pt").write_bytes(b"x")
    return tmp_path


def find(bundle, run="runs/seed_0", seed=0):
    return find_weights(
        bundle / run, default=bundle / f"runs/seed_{seed}", shipped=bundle / "models" / "model.pt", seed=seed
    )


@pytest.mark.parametrize("run", ["runs/seed_0", "elsewhere"])
def test_the_run_just_trained(bundle, run, caplog):
    caplog.set_level(logging.INFO)
    (bundle / run).mkdir(parents=True)
    (bundle / run / "model.pt").write_bytes(b"y")
    assert find(bundle, run) == str(bundle / run / "model.pt")
    assert "Judging the weights of the run in" in caplog.text


def test_the_shipped_ones_where_nothing_was_trained(bundle, caplog):
    caplog.set_level(logging.INFO)
    assert find(bundle) == str(bundle / "models" / "model.pt")
    assert "judging the shipped weights" in caplog.text


def test_a_named_folder_without_a_model_is_refused(bundle):
    with pytest.raises(ValueError, match="output_dir: expected a run with model.pt in .*elsewhere, found none"):
        find(bundle, "elsewhere")


def test_a_run_that_was_stopped_early_is_refused(bundle):
    (bundle / "runs/seed_0").mkdir(parents=True)
    (bundle / "runs/seed_0/checkpoint.pt").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"has no model.pt yet, as it was stopped before its first validation"):
        find(bundle)


def test_the_shipped_ones_are_not_those_of_another_seed(bundle):
    with pytest.raises(ValueError, match="the shipped weights are those of seed 0, not 3; train with --seed 3 first"):
        find(bundle, "runs/seed_3", seed=3)
    (bundle / "models" / "model.json").write_text(json.dumps({"training": {"seed": 3}}))
    assert find(bundle, "runs/seed_3", seed=3).endswith("models/model.pt")


def test_nothing_at_all(tmp_path):
    with pytest.raises(ValueError, match="no training has been run in .*, and no weights are shipped; train first"):
        find(tmp_path)


def test_facts():
    network, items = torch.nn.Linear(1, 1), [{"key": "a", "label": 0}, {"key": "b", "label": 1}]
    data = describe_data({"test": items}, ["no", "yes"])
    facts = judged_facts("runs/model.pt", network, data, "test")
    assert facts == {
        "weights": "runs/model.pt",
        "weights_hash": network_hash(network),
        "data_hash": data["test"]["hash"],
        "classes": ["no", "yes"],
    }

"""Errors of the generator of before, torch.randn with a seed an image and draw: readable, but not taken for new ones.

``fixtures/errors_of_the_old_generator.npz`` holds 16 validation images of the pneumonia bundle as it was first shipped.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.bundle import open_bundle
from monai_diffclf.classification import CurtailedVote, PredictiveCurtailment, SequentialTest, classify_errors, replay
from monai_diffclf.classification.philox import GENERATOR
from monai_diffclf.inferers import DiffusionClassifierInferer, provenance
from monai_diffclf.storage import ErrorsJournal, load_errors, save_errors

ROOT = Path(__file__).resolve().parents[2]
OLD = Path(__file__).parent / "fixtures" / "errors_of_the_old_generator.npz"
STORED = sorted(path.relative_to(ROOT / "bundles") for path in ROOT.glob("bundles/*/docs/evaluation/errors_*.npz"))
MESSAGE = "generator: expected 'philox4x32-10, box-muller, version 1', found 'nothing'"
PREDICTED = {
    "vote": [1, 0, 0, 0, 1, 0, 1, 1, 1, 1, 0, 1, 0, 0, 1, 1],
    "mean": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0, 0, 1, 1],
}
"""As the bundle's tables had them; the images in which the rules differ are among them."""


@pytest.fixture
def tiny() -> tuple[DiffusionClassifierInferer, torch.nn.Module]:
    return DiffusionClassifierInferer(DDPMScheduler(100), num_draws=3), torch.nn.Linear(2, 2)


def of_before(made_by: dict[str, str | int]) -> dict[str, str | int]:
    """The provenance as it was written before generators had names and latent spaces were known."""
    return {name: value for name, value in made_by.items() if name not in ("generator", "latent_space")}


@pytest.mark.parametrize("rule", PREDICTED)
def test_they_load_and_give_the_classes_that_they_gave(rule):
    stored = load_errors(OLD)
    assert "generator" not in stored.provenance
    assert stored.provenance["num_draws"] == stored.errors.num_draws == 51
    assert classify_errors(stored.errors, rule).predicted.tolist() == PREDICTED[rule]


@pytest.mark.parametrize(
    ("stopping", "rule"),
    [(CurtailedVote(), "vote")]
    + [(stopping, rule) for stopping in (SequentialTest(1e-9), PredictiveCurtailment(1e-9)) for rule in PREDICTED],
)
def test_they_replay(stopping, rule):
    """With an alpha this small every rule must end at the class of all draws, those that stop early too."""
    stored = load_errors(OLD)
    result = replay(stored.errors, stopping, rule=rule)
    assert result.predicted.tolist() == PREDICTED[rule]
    if isinstance(stopping, CurtailedVote):
        assert result.network_evaluations.sum() < 0.95 * 16 * 2 * 51


def test_the_shipped_network_refuses_them_by_their_generator():
    bundle = open_bundle("pneumonia_xray_diffusion", "train.json", "evaluate.json")
    inferer = DiffusionClassifierInferer(bundle.scheduler, num_draws=51, conditioning=bundle.get("conditioning"))
    expected = provenance(inferer, bundle.network)
    assert expected["generator"] == GENERATOR
    with pytest.raises(ValueError, match=rf"provenance: .*{OLD.name} holds other errors: {MESSAGE}.*compute them anew"):
        load_errors(OLD, provenance=expected)
    assert load_errors(OLD, provenance=of_before(expected)).keys, "the same network, draws and settings otherwise"


def test_new_errors_are_accepted_and_old_ones_of_the_same_network_are_not(tiny, tmp_path):
    stored, made_by = load_errors(OLD), provenance(*tiny)
    kwargs = {"labels": stored.labels, "keys": stored.keys}
    save_errors(tmp_path / "new.npz", stored.errors, provenance=made_by, **kwargs)
    save_errors(tmp_path / "old.npz", stored.errors, provenance=of_before(made_by), **kwargs)
    assert load_errors(tmp_path / "new.npz", provenance=made_by).provenance["generator"] == GENERATOR
    with pytest.raises(ValueError, match=MESSAGE):
        load_errors(tmp_path / "old.npz", provenance=made_by)
    other = {**made_by, "generator": "philox4x32-10, box-muller, version 2"}
    with pytest.raises(ValueError, match=r"generator: expected 'philox4x32-10, box-muller, version 2', found 'philox"):
        load_errors(tmp_path / "new.npz", provenance=other)


def test_a_journal_of_the_old_generator_is_refused(tiny, tmp_path):
    made_by = provenance(*tiny)
    settings = {"num_classes": 2, "num_draws": 3}
    with ErrorsJournal(tmp_path / "journal", provenance=of_before(made_by), **settings) as journal:
        journal.append(["0a"], torch.ones(1, 2, 3), predicted=[0], evaluations=[6], decided=[True])
    before = {path.name: path.read_bytes() for path in (tmp_path / "journal").iterdir()}
    assert "generator" not in json.loads(before["journal.json"])
    with pytest.raises(ValueError, match=rf"journal holds the record of another evaluation: {MESSAGE}.*or delete"):
        ErrorsJournal(tmp_path / "journal", provenance=made_by, **settings)
    assert {path.name: path.read_bytes() for path in (tmp_path / "journal").iterdir()} == before, "nothing is lost"


@pytest.mark.parametrize("path", STORED, ids=str)
def test_every_stored_file_loads_replays_and_tells_its_generator(path):
    """Whichever generator made it: where it was the old one, no provenance of today accepts it."""
    stored = load_errors(ROOT / "bundles" / path)
    some = stored.errors[torch.arange(0, len(stored.labels), 20)]
    made = replay(some, CurtailedVote(), rule="vote")
    assert torch.equal(made.predicted, classify_errors(some, "vote").predicted)
    if stored.provenance.get("generator") != GENERATOR:
        with pytest.raises(ValueError, match=r"generator: expected|does not say which network made its errors"):
            load_errors(ROOT / "bundles" / path, provenance={"generator": GENERATOR})

"""Which strength of the contrastive term is kept: the best on validation, with all that were tried beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from benchmarks.evidence import contrastive
from monai_diffclf.storage.atomic_file import replace_text


def finished(folder: Path, curve: dict[int, float]) -> None:
    """What a finished training leaves."""
    folder.mkdir(parents=True)
    with SummaryWriter(str(folder)) as writer:
        for epoch, value in curve.items():
            writer.add_scalar("val_auc", value, epoch)
    best = max(curve, key=curve.__getitem__)
    note = {"metric": "val_auc", "value": curve[best], "epoch": best, "weights": f"hash of {folder.name}"}
    replace_text(folder / "model.json", json.dumps(note))


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(contrastive, "WORK", tmp_path)
    monkeypatch.setattr("benchmarks.evidence.run.WORK", tmp_path)
    monkeypatch.setattr(contrastive, "CHOSEN", tmp_path / "chosen.json")
    monkeypatch.setattr("benchmarks.evidence.methods.networks.CHOSEN", tmp_path / "chosen.json")
    monkeypatch.setattr(contrastive, "run_bundle", lambda *args: pytest.fail("a finished training is not repeated"))
    return tmp_path


def test_the_best_on_validation_is_kept_and_all_are_written_down(work: Path) -> None:
    finished(contrastive.tried_folder("isic2017_64", 3, 0), {5: 0.74, 10: 0.76})
    finished(contrastive.tried_folder("isic2017_64", 20, 0), {5: 0.79, 10: 0.78})
    contrastive.choose("isic2017_64", [3.0, 20.0], 0, 10, "longer")
    kept = contrastive.kept_folder("isic2017_64", "longer", 0)
    assert kept.is_relative_to(work)
    assert json.loads((kept / "model.json").read_text())["weights"] == "hash of isic2017_64_strength20_seed0"
    own = json.loads((work / "chosen.json").read_text())["diffusion_contrastive/isic2017_64/longer/seed_0"]
    assert own["strength"] == 20
    assert [one["auc"] for one in own["tried"]] == [{"5": 0.74, "10": 0.76}, {"5": 0.79, "10": 0.78}]
    assert own["tried"][1]["best"] == {"epoch": 5, "auc": 0.79, "weights": "hash of isic2017_64_strength20_seed0"}


def test_training_that_was_stopped_goes_on(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = contrastive.tried_folder("pneumoniamnist_28", 20, 1)
    finished(folder, {5: 0.9})
    told: dict = {}

    def run(name, files, settings):
        told.update(settings, name=name)

    monkeypatch.setattr(contrastive, "run_bundle", run)
    found = contrastive.train("pneumoniamnist_28", 20, 1, 20, "primary")
    assert (told["name"], told["output_dir"], told["max_epochs"]) == ("pneumonia_xray_diffusion", folder, 20)
    assert told["initial_weights"].is_file() and told["contrastive_weight"] == 20.0
    assert found["settings"]["seed"] == 1


def test_the_preconditioned_training_begins_with_its_own_weights_and_lies_apart(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = contrastive.tried_folder("isic2017_64", 20, 0, "preconditioned")
    assert folder != contrastive.tried_folder("isic2017_64", 20, 0, "longer")
    finished(folder, {4: 0.8})
    told: dict = {}
    monkeypatch.setattr(contrastive, "run_bundle", lambda name, files, settings: told.update(settings))
    contrastive.train("isic2017_64", 20, 0, 16, "preconditioned")
    assert told["initial_weights"] == work / "preconditioning" / "with" / "model.pt"
    assert told["denoiser#precondition"] is True and told["output_dir"] == folder


def test_weights_that_are_not_shipped_any_more_have_to_be_given(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict = {}
    monkeypatch.setattr(contrastive, "run_bundle", lambda name, files, settings: told.update(settings))
    with pytest.raises(ValueError, match="expected --weights FILE, those of skin_lesion_diffusion_0.4.0"):
        contrastive.train("isic2017_64", 3, 0, 10, "longer")
    finished(contrastive.tried_folder("isic2017_64", 3, 0), {5: 0.7})
    contrastive.train("isic2017_64", 3, 0, 10, "longer", work / "former.pt")
    assert told["initial_weights"] == work / "former.pt" and told["denoiser#precondition"] is False
    finished(contrastive.tried_folder("isic2017_64", 3, 0, "preconditioned"), {5: 0.7})
    contrastive.train("isic2017_64", 3, 0, 10, "preconditioned")
    assert told["initial_weights"].parent.name == "with" and told["denoiser#precondition"] is True

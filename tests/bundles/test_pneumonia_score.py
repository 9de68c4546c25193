"""The bundle pneumonia_xray_score, on image files, without the network and with tiny ones."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow, verify_metadata, verify_net_in_out

from monai_diffclf.storage import load_errors, load_likelihoods
from tests.bundles.workflows import bundle_workflow, causes, run

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "pneumonia_xray_score"
CONFIGS = BUNDLE / "configs"
workflow = partial(bundle_workflow, BUNDLE)

SMALL = {"unet_channels": [8, 16], "progress": False, "device": torch.device("cpu")}
TRAIN = {"max_epochs": 1, "val_interval": 1, "val_draws": 2, "batch_size": 8}
EVALUATE = {"num_steps": 4, "num_draws": 3}


@pytest.fixture(scope="module")
def trained(image_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training of one epoch."""
    folder = tmp_path_factory.mktemp("trained")
    # A learning rate at which one epoch of three steps moves the weights.
    settings = {**SMALL, **TRAIN, "warmup_steps": 1, "learning_rate": 0.01}
    made = workflow("train", "train.json", dataset_dir=str(image_folder), output_dir=str(folder), **settings)
    run(made)
    assert made.check_properties() == []
    return folder


def evaluation(images: Path, trained: Path, folder: Path, **overrides: Any) -> ConfigWorkflow:
    """An evaluation that writes to a folder."""
    settings: dict[str, Any] = {
        **SMALL,
        **EVALUATE,
        "dataset_dir": str(images),
        "output_dir": str(folder / "run"),
        "checkpoint": str(trained / "model.pt"),
        "evaluation_dir": str(folder / "docs"),
        "results_path": str(folder / "docs" / "results.json"),
    }
    return workflow("train", "train.json", "evaluate.json", **{**settings, **overrides})


def test_metadata_is_valid_and_network_has_the_stated_input_and_output(device: str) -> None:
    verify_metadata(
        meta_file=str(CONFIGS / "metadata.json"), filepath=str(Path(__file__).with_name("metadata_schema.json"))
    )
    metadata = json.loads((CONFIGS / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=str(CONFIGS / "inference.json"),
        device=device,
        num_steps=4,
    )


def test_shipped_weights_load_into_network_def() -> None:
    made = workflow("infer", "inference.json", device=torch.device("cpu"))
    weights = torch.load(BUNDLE / "models" / "model.pt", map_location="cpu", weights_only=True)
    made.parser.get_parsed_content("network_def").load_state_dict(weights)


def test_training_writes_what_is_needed_to_go_on(trained: Path) -> None:
    best = json.loads((trained / "model.json").read_text())
    assert best["metric"] == "val_auc" and best["epoch"] == 1
    assert (trained / "checkpoint.pt").is_file() and list(trained.glob("events.out.tfevents.*"))


def test_evaluate_by_likelihood_and_by_denoising_error(image_folder: Path, trained: Path, tmp_path: Path) -> None:
    made = evaluation(image_folder, trained, tmp_path)
    run(made)
    assert made.check_properties() == []
    results = json.loads((tmp_path / "docs" / "results.json").read_text())
    for split in ("validation", "test"):
        for model in ("score_likelihood", "diffusion_mean", "diffusion_vote"):
            entry = results[split][model]
            assert set(entry["average_precision"]) == {"value", "low", "high"} and entry["num_images"] == 12
        assert results[split]["diffusion_mean"]["network_evaluations"] == 6
        assert results[split]["score_likelihood"]["bits_per_dimension"]["value"] > 0
    likelihoods = load_likelihoods(tmp_path / "docs" / "likelihoods_test_seed_0.npz")
    assert likelihoods.values.shape == (12, 2, 1) and likelihoods.num_elements == 28 * 28
    # The class reaches the score: its likelihoods differ.
    assert (likelihoods.values[:, 0] != likelihoods.values[:, 1]).all()
    assert load_errors(tmp_path / "docs" / "errors_test_seed_0.npz").errors.values.shape == (12, 2, 3)


@pytest.mark.parametrize("part", ["likelihood", "denoising"])
def test_a_killed_evaluation_goes_on_with_the_same_bits(
    part: str, image_folder: Path, trained: Path, tmp_path: Path
) -> None:
    file = {"likelihood": "likelihoods_test_seed_0.npz", "denoising": "errors_test_seed_0.npz"}[part]
    name = f"test_{part}"

    def die(engine: Any) -> None:
        raise KeyboardInterrupt

    def evaluator(made: ConfigWorkflow) -> Any:
        made.initialize()
        return made.parser.get_parsed_content(f"{name}#evaluator")

    evaluator(evaluation(image_folder, trained, tmp_path / "whole")).run()
    killed = evaluator(evaluation(image_folder, trained, tmp_path / "killed", image_batch=4))
    killed.add_event_handler(Events.ITERATION_COMPLETED(once=2), die)
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    journal = tmp_path / "killed" / "run" / "journal" / f"{name}_seed_0"
    assert journal.is_dir() and not (tmp_path / "killed" / "docs" / file).exists()
    # With batches of another size.
    resumed, recorded = evaluator(evaluation(image_folder, trained, tmp_path / "killed", image_batch=5)), []

    def note(engine: Any) -> None:
        recorded.extend(bool(item["recorded"]) for item in engine.state.output)

    resumed.add_event_handler(Events.ITERATION_COMPLETED, note)
    resumed.run()
    assert recorded == [True] * 8 + [False] * 4 and not journal.exists()
    archives = []
    for folder in ("whole", "killed"):
        with np.load(tmp_path / folder / "docs" / file, allow_pickle=False) as archive:
            archives.append({key: archive[key] for key in archive.files})
    assert archives[0].keys() == archives[1].keys()
    for key, values in archives[0].items():
        np.testing.assert_array_equal(values, archives[1][key], err_msg=key)
    tables = [next((tmp_path / f / "docs").glob("test_*_seed_0.csv")).read_bytes() for f in ("whole", "killed")]
    assert tables[0] == tables[1]


def test_inference_writes_predictions_and_cases(image_folder: Path, trained: Path, tmp_path: Path) -> None:
    made = workflow(
        "infer",
        "inference.json",
        dataset_dir=str(image_folder / "test"),
        output_dir=str(tmp_path),
        checkpoint=str(trained / "model.pt"),
        num_steps=4,
        map_draws=2,
        **SMALL,
    )
    run(made)
    assert made.check_properties() == []
    with open(tmp_path / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and all((tmp_path / row["map"]).is_file() for row in rows)
    for row in rows:
        assert float(row["probability_normal"]) + float(row["probability_pneumonia"]) == pytest.approx(1, abs=1e-5)
    assert "not a medical device" in (tmp_path / "cases.html").read_text()


def test_missing_weights_say_train_first(image_folder: Path, tmp_path: Path) -> None:
    settings = {"dataset_dir": str(image_folder), "checkpoint": str(tmp_path / "no.pt")}
    with pytest.raises(RuntimeError) as failure:
        run(workflow("infer", "inference.json", output_dir=str(tmp_path), **settings, **SMALL))
    assert any("no.pt does not exist; train first" in message for message in causes(failure.value))

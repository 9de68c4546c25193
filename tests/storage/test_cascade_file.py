"""The file of what a cascade was fitted to."""

from __future__ import annotations

import json

import pytest

from monai_diffclf.storage import FittedCascade, load_cascade, save_cascade
from monai_diffclf.uncertainty import Ensemble

FITTED = {
    "mean": FittedCascade("mean", 0.9, Ensemble("log_linear", (0.4, 0.7), (1.5, 2.0)), "aaaa", "bbbb"),
    "vote": FittedCascade("vote", 1.0),
}


def test_round_trip(tmp_path):
    save_cascade(tmp_path / "deferral.json", FITTED, {"images": 9})
    for rule, fitted in FITTED.items():
        assert load_cascade(tmp_path / "deferral.json", rule) == fitted
    assert load_cascade(tmp_path / "deferral.json", "mean", first="aaaa", second="bbbb").threshold == 0.9
    for wrong in ({"first": "cccc"}, {"second": "cccc"}):
        with pytest.raises(ValueError, match="was fitted for the network .*, not for cccc; fit it anew"):
            load_cascade(tmp_path / "deferral.json", "mean", **wrong)


def test_a_fit_is_for_its_draws_and_settings(tmp_path):
    made_by = {"network": "bbbb", "num_draws": 51, "weighting": "uniform", "temperature": 2.0}
    fitted = {"mean": FittedCascade("mean", 0.9, provenance=made_by), "vote": FittedCascade("vote", 0.9)}
    path = tmp_path / "deferral.json"
    save_cascade(path, fitted)
    assert load_cascade(path, "mean", provenance={"num_draws": 51, "temperature": 2.0}) == fitted["mean"]
    for name, value in {"num_draws": 11, "weighting": "elbo", "temperature": 1.0}.items():
        words = f"{name}: expected {value!r}, found {made_by[name]!r}; fit anew"
        with pytest.raises(ValueError, match=f"provenance: .*deferral.json was fitted for another model: {words}"):
            load_cascade(path, "mean", provenance={**made_by, name: value})
    with pytest.raises(ValueError, match=r"provenance: .*deferral.json does not say .* was fitted for; fit anew"):
        load_cascade(path, "vote", provenance=made_by)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        {"mean": {}},
        {"mean": {"threshold": 2}},
        {"mean": {"threshold": True}},
        {"mean": {"threshold": float("nan")}},
        {"mean": {"threshold": 0.5, "combine": 3}},
        {"mean": {"threshold": 0.5, "provenance": 3}},
        {"mean": {"threshold": 0.5, "combine": {"pool": "mean", "weights": [-1.0, 2.0]}}},
        {"mean": {"threshold": 0.5, "combine": {"pool": "other", "weights": [1.0, 2.0]}}},
    ],
)
def test_refuses_what_is_no_such_file(tmp_path, content):
    (tmp_path / "deferral.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match="path: expected a file written by save_cascade with 'mean'"):
        load_cascade(tmp_path / "deferral.json", "mean")


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="there is no .*deferral.json"):
        load_cascade(tmp_path / "deferral.json", "mean")

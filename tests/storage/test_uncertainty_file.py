"""The file of what was fitted about uncertainty."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from monai_diffclf.classification import DenoisingErrors
from monai_diffclf.storage import FittedUncertainty, load_uncertainty, save_uncertainty
from monai_diffclf.uncertainty import Calibration, ConformalSets
from monai_diffclf.uncertainty.typicality import fit_typicality

MADE_BY = {"network": "0123456789abcdef", "num_draws": 51, "temperature": 0.27}
CALIBRATION = Calibration("beta", {"a": [1.0, 2.0], "b": [2.0, 1.0], "c": [0.5, -0.5]}, (0.3, 0.7), 429)
CONFORMAL = ConformalSets(((0.1,) * 9, (0.2,) * 9))


@pytest.fixture
def errors():
    values = torch.rand(40, 2, 9, generator=torch.Generator().manual_seed(0))
    return DenoisingErrors(values, torch.arange(9), torch.linspace(4, -4, 9))


@pytest.fixture
def fitted(errors):
    typicality = fit_typicality(errors, num_bands=3)
    other = Calibration("temperature", {"temperature": 0.4}, (0.3, 0.7), 429)
    return {
        "mean": FittedUncertainty("mean", CALIBRATION, CONFORMAL, typicality, MADE_BY),
        "vote": FittedUncertainty("vote", other, CONFORMAL, typicality, MADE_BY),
    }


def test_round_trip(tmp_path, fitted, errors):
    path = tmp_path / "configs" / "uncertainty.json"
    save_uncertainty(path, fitted, notes={"images": 429})
    for rule, expected in fitted.items():
        found = load_uncertainty(path, rule, provenance={"network": "0123456789abcdef", "temperature": 0.27})
        assert (found.rule, found.calibration, found.conformal) == (rule, expected.calibration, expected.conformal)
        assert found.provenance == MADE_BY
        torch.testing.assert_close(found.typicality.score(errors), expected.typicality.score(errors))
    assert json.loads(path.read_text())["images"] == 429
    again = {rule: load_uncertainty(path, rule) for rule in fitted}
    save_uncertainty(path, again, notes={"images": 429})
    assert [file.name for file in path.parent.iterdir()] == ["uncertainty.json"]


def test_a_file_that_does_not_say_of_how_many_classes_its_typicality_is(tmp_path, fitted):
    save_uncertainty(tmp_path / "u.json", fitted)
    content = json.loads((tmp_path / "u.json").read_text())
    assert content["typicality"].pop("num_classes") == 2
    (tmp_path / "u.json").write_text(json.dumps(content))
    typicality = load_uncertainty(tmp_path / "u.json", "vote").typicality
    with pytest.raises(ValueError, match="errors: expected those of 2 classes, as in the fit, got 3"):
        typicality.score(torch.rand(1, 3, len(typicality.log_snr)))


def test_without_typicality(tmp_path, fitted):
    save_uncertainty(tmp_path / "u.json", {"vote": replace(fitted["vote"], typicality=None)})
    assert load_uncertainty(tmp_path / "u.json", "vote").typicality is None


def test_refuses_the_file_of_another_model(tmp_path, fitted):
    save_uncertainty(tmp_path / "u.json", fitted)
    with pytest.raises(ValueError) as caught:
        load_uncertainty(tmp_path / "u.json", "mean", provenance={"network": "fedcba9876543210", "temperature": 1.0})
    message = str(caught.value)
    assert "network: expected 'fedcba9876543210', found '0123456789abcdef'; fit anew for this one" in message
    assert "u.json was fitted for another model: temperature: expected 1.0, found 0.27, " in message, "hashes are last"


def test_refuses_a_file_that_does_not_name_its_model(tmp_path, fitted):
    save_uncertainty(tmp_path / "u.json", {"mean": replace(fitted["mean"], provenance={})})
    assert load_uncertainty(tmp_path / "u.json", "mean").calibration == CALIBRATION
    with pytest.raises(ValueError, match="provenance: .* does not say which network it was fitted for; fit anew"):
        load_uncertainty(tmp_path / "u.json", "mean", provenance=MADE_BY)


def test_refuses_to_write_what_does_not_fit(tmp_path, fitted, errors):
    with pytest.raises(ValueError, match="fitted: expected what was fitted for 'vote' under this name, got 'mean'"):
        save_uncertainty(tmp_path / "u.json", {"vote": fitted["mean"]})
    other = replace(fitted["vote"], typicality=fit_typicality(errors, num_bands=2))
    with pytest.raises(ValueError, match="fitted: expected one typicality for all rules"):
        save_uncertainty(tmp_path / "u.json", {"mean": fitted["mean"], "vote": other})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "{", '{"mean": 3}', '{"mean": {"calibration": {}, "conformal": {}}}']
)
def test_refuses_what_is_no_such_file(tmp_path, content):
    (tmp_path / "u.json").write_text(content)
    with pytest.raises(ValueError, match="path: expected a file written by save_uncertainty with 'mean', got "):
        load_uncertainty(tmp_path / "u.json", "mean")


def test_refuses_a_missing_file(tmp_path):
    with pytest.raises(ValueError, match="path: expected a file written by save_uncertainty"):
        load_uncertainty(tmp_path / "none.json", "mean")

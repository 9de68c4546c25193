"""Stored errors, and what made them."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from monai_diffclf.classification import DenoisingErrors
from monai_diffclf.storage import load_errors, save_errors

MADE_BY = {"network": "00aa", "seed": 0, "num_draws": 3}


@pytest.fixture
def errors() -> DenoisingErrors:
    values = torch.rand(4, 2, 3, generator=torch.Generator().manual_seed(0))
    values[1, :, 2] = torch.nan
    snr = torch.tensor([4.0, 0.0, -4.0])
    return DenoisingErrors(values, torch.arange(3), snr, log_snr_rate=snr.square(), num_elements=16)


def save(path, errors, **kwargs):
    save_errors(path, errors, labels=torch.tensor([0, 1, 1, 0]), keys=list("abcd"), patients=list("PPQR"), **kwargs)


def test_round_trip(errors, tmp_path):
    save(tmp_path / "new" / "errors.npz", errors, provenance=MADE_BY)
    stored = load_errors(tmp_path / "new" / "errors.npz")
    torch.testing.assert_close(stored.errors.values, errors.values, rtol=0, atol=0, equal_nan=True)
    for name in ("timesteps", "log_snr", "log_snr_rate"):
        assert torch.equal(getattr(stored.errors, name), getattr(errors, name)), name
    assert stored.errors.num_elements == 16
    assert (stored.labels.tolist(), stored.keys, stored.patients) == ([0, 1, 1, 0], list("abcd"), list("PPQR"))
    assert stored.provenance == MADE_BY
    assert os.listdir(tmp_path / "new") == ["errors.npz"]


def test_maps_are_kept(errors, tmp_path):
    maps = torch.rand(4, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    save(tmp_path / "errors.npz", errors, maps=maps)
    assert torch.equal(load_errors(tmp_path / "errors.npz").maps, maps)
    save(tmp_path / "errors.npz", errors)
    assert load_errors(tmp_path / "errors.npz").maps is None
    with pytest.raises(ValueError, match="maps: expected those of 4 images, got 3"):
        save(tmp_path / "errors.npz", errors, maps=maps[:3])


def test_equal_errors_give_equal_files(errors, tmp_path):
    save(tmp_path / "a.npz", errors, provenance=MADE_BY)
    save(tmp_path / "b.npz", errors, provenance=dict(reversed(MADE_BY.items())))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_provenance_is_compared_where_asked_for(errors, tmp_path):
    path = tmp_path / "errors.npz"
    save(path, errors, provenance=MADE_BY)
    assert load_errors(path, provenance=MADE_BY).keys == list("abcd")
    assert load_errors(path, provenance={"seed": 0}).keys == list("abcd"), "some fields are enough"
    with pytest.raises(
        ValueError, match=r"errors.npz holds other errors: seed: expected 1, found 0; compute them anew"
    ):
        load_errors(path, provenance=MADE_BY | {"seed": 1})
    levels = {"noise_levels": "0123456789abcdef", "num_draws": 7}
    with pytest.raises(ValueError, match="other errors: num_draws: expected 7, .*, noise_levels: expected '0123"):
        load_errors(path, provenance=levels)
    with pytest.raises(ValueError, match="network: expected '00bb', found '00aa', stopping: expected 'x', found 'noth"):
        load_errors(path, provenance={"network": "00bb", "stopping": "x"})


def test_files_without_provenance_load_unless_it_is_asked_for(errors, tmp_path):
    path = tmp_path / "errors.npz"
    save(path, errors)
    assert load_errors(path).provenance == {}
    with pytest.raises(ValueError, match=r"provenance: .*errors.npz does not say which network made its errors"):
        load_errors(path, provenance={"seed": 0})


def test_damaged_files_are_named(errors, tmp_path):
    path = tmp_path / "errors.npz"
    save(path, errors)
    content = path.read_bytes()
    for damaged in (b"", content[: len(content) // 2], content[:200] + bytes(200) + content[400:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"path: expected a file written by save_errors, got .*errors.npz"):
            load_errors(path)
    np.savez(path, other=np.zeros(3))
    with pytest.raises(ValueError, match=r"path: expected a file written by save_errors, got .*errors.npz"):
        load_errors(path)


def test_bad_arguments(errors, tmp_path):
    with pytest.raises(ValueError, match=r"path: expected a name ending in .npz, got 'errors.csv'"):
        save(tmp_path / "errors.csv", errors)
    with pytest.raises(ValueError, match="expected as many labels, keys and patients as images, 4; got 1, 1, 1"):
        save_errors(tmp_path / "errors.npz", errors, labels=torch.tensor([0]), keys=["a"])
    assert os.listdir(tmp_path) == []


def test_unknown_patients_have_no_name(tmp_path):
    errors = DenoisingErrors(torch.rand(4, 2, 3), torch.arange(3), torch.zeros(3))
    names = [None, float("nan"), "unknown", " P1 "]
    save_errors(tmp_path / "errors.npz", errors, labels=torch.zeros(4).long(), keys=list("abcd"), patients=names)
    assert load_errors(tmp_path / "errors.npz").patients == ["", "", "", "P1"]

"""A bundle for volumes behind MONAI Label's REST interface: a volume in, a map in its own space out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from monai_diffclf.monailabel.bundle_model import BundleModel
from tests.volume_fixtures import affine, phantom, save_nifti, volume_bundle, write_enhanced, write_series

MODEL = "/infer/tiny"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return volume_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    folder.mkdir()
    save_nifti(folder / "scan.nii.gz", phantom(), codes="PSL")
    write_enhanced(folder / "frames.dcm", (phantom().transpose(2, 1, 0) + 1024) // 2)
    return folder


def post(client: Any, file: Path, output: str = "image", **params: Any) -> Any:
    with open(file, "rb") as content:
        return client.post(
            MODEL, params={"output": output}, files={"file": (file.name, content)}, data={"params": json.dumps(params)}
        )


def saved(response: Any, path: Path) -> Any:
    assert response.status_code == 200, response.text
    path.write_bytes(response.content)
    return nibabel.load(path)


def test_the_model_is_of_volumes(client: Any) -> None:
    info = client.get("/info/").json()
    assert info["models"]["tiny"]["dimension"] == 3 and info["datastore"]["total"] == 2


def test_a_volume_by_its_id_gives_a_map_in_its_own_space(client: Any, studies: Path, tmp_path: Path) -> None:
    found = saved(client.post(MODEL, params={"image": "scan", "output": "image"}), tmp_path / "map.nii.gz")
    source = nibabel.load(studies / "scan.nii.gz")
    assert found.shape == source.shape and nibabel.aff2axcodes(found.affine) == ("P", "S", "L")
    np.testing.assert_allclose(found.affine, source.affine)
    reply = client.post(MODEL, params={"image": "scan", "output": "json"}).json()
    assert reply["map"]["size"] == list(source.shape) and reply["label"] in ("clear", "lesion")
    assert np.abs(found.get_fdata()).max() == pytest.approx(reply["map"]["max_abs"])
    np.testing.assert_allclose(reply["map"]["affine"], source.affine)


def test_uploads_of_the_same_volume_agree(client: Any, studies: Path, tmp_path: Path) -> None:
    nrrd = pytest.importorskip("nrrd", reason="pynrrd is not installed")
    exact = affine((1.0, 0.75, 2.5))  # NIfTI keeps 32 bits, by which 0.8 becomes another volume and draws other noise
    header = {"space": "RAS", "space directions": exact[:3, :3], "space origin": exact[:3, 3]}
    nrrd.write(str(tmp_path / "scan.nrrd"), phantom(), header)
    save_nifti(tmp_path / "scan.nii.gz", phantom(), exact)
    replies = [post(client, tmp_path / name, "json").json() for name in ("scan.nii.gz", "scan.nrrd")]
    assert replies[0]["probabilities"] == pytest.approx(replies[1]["probabilities"], abs=1e-6)
    found = saved(post(client, tmp_path / "scan.nrrd"), tmp_path / "map.nii.gz")
    np.testing.assert_allclose(found.affine, exact)
    frames = saved(post(client, studies / "frames.dcm"), tmp_path / "frames.nii.gz")
    assert frames.shape == phantom().shape and nibabel.aff2axcodes(frames.affine) == ("L", "P", "S")


def test_what_is_no_volume_is_refused_in_one_line(client: Any, tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    reply = post(client, tmp_path / "a.png")
    assert reply.status_code == 422 and "got a plane image (PNG)" in reply.json()["detail"]
    assert str(tmp_path) not in reply.json()["detail"]
    reply = client.post(MODEL, params={"image": "scan"}, data={"params": json.dumps({"result_extension": ".png"})})
    assert reply.status_code == 422 and "expected .nii.gz or .nii for a volume, got .png" in reply.json()["detail"]


def test_a_folder_of_slices_as_a_dicomweb_server_gives_it(monailabel: None, bundle: Path, tmp_path: Path) -> None:
    model = BundleModel(bundle)
    folder = write_series(tmp_path / "series", (phantom().transpose(2, 1, 0) + 1024) // 2)
    outcome = model.classify(model.read(folder))
    assert tuple(outcome.map.shape) == model.grid(folder).shape == (14, 12, 10)

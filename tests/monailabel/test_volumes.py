"""A bundle for volumes behind MONAI Label's REST interface: a volume in, a map in its own space out."""

from __future__ import annotations

import json
import tempfile
import zipfile
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


def test_a_folder_of_slices_or_a_zip_in_the_studies_folder_is_served(
    client: Any, studies: Path, tmp_path: Path
) -> None:
    folder = write_series(studies / "series 1", (phantom().transpose(2, 1, 0) + 1024) // 2)
    packed(folder, studies / "zipped.zip")
    (studies / "linked").mkdir()
    (studies / "linked" / "IM0").symlink_to(next(iter(folder.iterdir())))
    (studies / "empty").mkdir()
    client.get("/datastore/?output=all")
    info = client.get("/info/").json()["datastore"]
    assert (info["total"], info["left_out"]) == (2, 0)  # looked at when it is refreshed
    client.put("/datastore/label", params={"image": "no such image"}, files={"label": ("a.json", b"{}")})
    info = client.get("/info/").json()["datastore"]
    assert (info["total"], info["left_out"]) == (4, 2)
    maps = [
        saved(client.post(MODEL, params={"image": name, "output": "image"}), tmp_path / f"{name}.nii.gz").get_fdata()
        for name in ("frames", "series 1", "zipped.zip")
    ]
    np.testing.assert_array_equal(maps[1], maps[0])
    np.testing.assert_array_equal(maps[2], maps[0])
    label = {"label": ("label.json", json.dumps({"label": "lesion"}).encode())}
    assert client.put("/datastore/label", params={"image": "series 1"}, files=label).status_code == 200
    for reply in (
        client.get("/datastore/image", params={"image": "series 1"}),
        client.delete("/datastore/image", params={"id": "series 1"}),
        client.get("/datastore/dataset"),
    ):
        assert reply.status_code == 422 and "of slices" in reply.json()["detail"]
    assert client.get("/datastore/image", params={"image": "zipped.zip"}).status_code == 200
    (folder / "IM9").symlink_to("/etc/passwd")
    assert client.post(MODEL, params={"image": "series 1"}).status_code == 404
    assert folder.is_dir()


def packed(folder: Path, path: Path, more: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"scan/{file.name}")
        for name, content in (more or {}).items():
            archive.writestr(name, content)
    return path


def test_a_zip_of_a_series_is_that_series(client: Any, studies: Path, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "unpacked").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "unpacked"))
    folder = write_series(tmp_path / "series", (phantom().transpose(2, 1, 0) + 1024) // 2)
    path = packed(folder, tmp_path / "scan.ZIP")
    found = saved(post(client, path), tmp_path / "map.nii.gz")
    frames = saved(client.post(MODEL, params={"image": "frames", "output": "image"}), tmp_path / "frames.nii.gz")
    assert nibabel.aff2axcodes(found.affine) == ("L", "P", "S")
    np.testing.assert_allclose(found.affine, frames.affine)
    np.testing.assert_array_equal(found.get_fdata(), frames.get_fdata())
    for name, more, reason in (
        ("a.zip", {"../evil": b"x"}, "its name leads out of the folder"),
        ("b.zip", {"inner.zip": b"PK\3\4" + bytes(500)}, "which is no DICOM file"),
    ):
        reply = post(client, packed(folder, tmp_path / name, more))
        assert reply.status_code == 422 and reason in reply.json()["detail"]
        assert "unpacked" not in reply.json()["detail"] and "\n" not in reply.json()["detail"]
    content = bytearray(packed(folder, tmp_path / "c.zip", {"bomb.dcm": b"x"}).read_bytes())
    place = content.rfind(b"PK\1\2") + 24
    content[place : place + 4] = (900_000_000).to_bytes(4, "little")  # the size that it states
    (tmp_path / "c.zip").write_bytes(content)
    assert "expected at most 867,108,864 bytes in the ZIP file" in post(client, tmp_path / "c.zip").json()["detail"]
    (tmp_path / "d.zip").write_bytes(b"none")
    assert "got one that is none" in post(client, tmp_path / "d.zip").json()["detail"]
    with open(path, "rb") as file:
        reply = client.put("/datastore/image", files={"file": ("scan.zip", file)})
    assert reply.status_code == 422
    assert not list((tmp_path / "unpacked").iterdir())


def test_a_folder_of_slices_as_a_dicomweb_server_gives_it(monailabel: None, bundle: Path, tmp_path: Path) -> None:
    model = BundleModel(bundle)
    folder = write_series(tmp_path / "series", (phantom().transpose(2, 1, 0) + 1024) // 2)
    outcome = model.classify(model.read(folder))
    assert tuple(outcome.map.shape) == model.grid(folder).shape == (14, 12, 10)

"""The app behind MONAI Label's own REST interface, in process."""

from __future__ import annotations

import base64
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from tests.monailabel.example_images import make_picture, write_dicom, write_nifti, write_png

CLASSES = ["normal", "pneumonia"]
MODEL = "/infer/pneumonia"


def post(client: Any, file: Path, output: str = "json", **params: Any) -> Any:
    """Upload an image for inference."""
    with open(file, "rb") as content:
        return client.post(
            MODEL, params={"output": output}, files={"file": (file.name, content)}, data={"params": json.dumps(params)}
        )


def read_parts(response: Any) -> tuple[dict[str, Any], bytes, str]:
    """The JSON, the file and its content type of an answer in several parts."""
    from requests_toolbelt import MultipartDecoder

    parts = MultipartDecoder(response.content, response.headers["content-type"]).parts
    by_name = {part.headers[b"Content-Disposition"].decode().split('name="')[1].split('"')[0]: part for part in parts}
    image = by_name["image"]
    return json.loads(by_name["params"].content), image.content, image.headers[b"Content-Type"].decode()


def test_app_introduces_itself(client: Any) -> None:
    info = client.get("/info/").json()
    assert info["labels"] == CLASSES and list(info["scoring"]) == ["uncertainty"]
    strategies = ["diversity", "margin", "most_uncertain", "random", "typicality", "vote_entropy"]
    assert sorted(info["strategies"]) == strategies and list(info["trainers"]) == ["pneumonia"]
    model = info["models"]["pneumonia"]
    assert model["type"] == "classification" and model["dimension"] == 2
    assert model["config"]["num_draws"] == 3 and "cpu" in model["config"]["device"]
    assert info["datastore"]["total"] == 4  # three PNGs and the DICOM file


def test_all_numbers_of_an_image(client: Any, images: dict[str, Path]) -> None:
    reply = post(client, images["png"], seed=4).json()
    probabilities, votes = reply["probabilities"], reply["vote_share"]
    assert list(probabilities) == list(votes) == CLASSES
    assert sum(probabilities.values()) == pytest.approx(1) and sum(votes.values()) == pytest.approx(1)
    assert reply["label"] == max(probabilities, key=probabilities.get) == reply["map"]["class"]
    assert reply["map"]["rival"] == min(probabilities, key=probabilities.get), "of two classes, the other one"
    assert [entry["label"] for entry in reply["prediction"]] == CLASSES
    p = np.array(list(probabilities.values()))
    uncertainty = reply["uncertainty"]
    assert uncertainty["probability_entropy"] == pytest.approx(-(p * np.log(p)).sum(), abs=1e-6)
    assert uncertainty["vote_margin"] == pytest.approx(abs(votes["normal"] - votes["pneumonia"]))
    assert uncertainty["probability_margin"] == pytest.approx(p.max() - p.min(), abs=1e-6)
    assert {"vote_variance", "vote_entropy"} < uncertainty.keys() and "margin" not in uncertainty
    assert (reply["network_evaluations"], reply["num_draws"], reply["seed"]) == (6, 3, 4)
    assert reply["calibrated"] is False and reply["device"] == "cpu" and reply["warnings"] == []
    assert "overlay" not in reply


@pytest.fixture(scope="module")
def square_images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same picture as PNG, NIfTI and DICOM, with pixels as wide as they are high."""
    folder, picture = tmp_path_factory.mktemp("square"), make_picture()
    return {
        "png": write_png(folder / "picture.png", picture),
        "nifti": write_nifti(folder / "picture.nii.gz", picture, np.diag([0.5, 0.5, 2.0, 1.0])),
        "dicom": write_dicom(folder / "picture.dcm", picture, (0.4, 0.4)),
    }


def test_the_same_picture_in_every_format_gives_the_same_answer(client: Any, square_images: dict[str, Path]) -> None:
    replies = {kind: post(client, path).json() for kind, path in square_images.items()}
    for kind in ("nifti", "dicom"):
        for key in ("label", "probabilities", "vote_share", "uncertainty"):
            assert replies[kind][key] == replies["png"][key]


def test_map_is_in_the_images_own_grid(client: Any, square_images: dict[str, Path], tmp_path: Path) -> None:
    maps = {}
    for kind, path in square_images.items():
        reply, content, _ = read_parts(post(client, path, output="all"))
        (tmp_path / "map.nii.gz").write_bytes(content)
        written = nibabel.load(tmp_path / "map.nii.gz")
        assert np.allclose(written.affine, reply["map"]["affine"])
        maps[kind] = written.get_fdata()
        assert maps[kind].shape == (47, 61, 1) and np.abs(maps[kind]).max() == pytest.approx(reply["map"]["max_abs"])
        if kind == "nifti":
            assert np.array_equal(written.affine, nibabel.load(path).affine)
    # The NIfTI file holds the picture with both axes reversed.
    assert np.allclose(maps["nifti"], maps["png"][::-1, ::-1], atol=1e-6) and np.allclose(maps["dicom"], maps["png"])
    assert maps["png"].min() < 0 < maps["png"].max()
    assert not maps["png"][:, :7].any() and not maps["png"][:, 54:].any()  # rows outside the square in the middle


def test_map_as_png_and_overlay(client: Any, images: dict[str, Path]) -> None:
    response = post(client, images["nifti"], output="all", result_extension=".png", overlay=True)
    reply, content, kind = read_parts(response)
    assert kind == "image/png"
    grey = np.asarray(Image.open(io.BytesIO(content))).astype(np.float64)
    assert grey.shape == (61, 47) and np.abs(grey - reply["map"]["zero"]).max() == 32767
    overlay = Image.open(io.BytesIO(base64.b64decode(reply["overlay"])))
    assert overlay.mode == "RGB" and overlay.size[0] * 61 == overlay.size[1] * 47
    alone = post(client, images["png"], output="image", result_extension=".png")
    assert alone.headers["content-type"] == "image/png" and Image.open(io.BytesIO(alone.content)).size == (47, 61)


def test_nothing_is_left_in_the_temporary_folder(client: Any, images: dict[str, Path]) -> None:
    for output in ("json", "image", "all"):
        assert post(client, images["png"], output=output).status_code == 200
    assert not list(Path(tempfile.gettempdir()).iterdir())


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_real_dicom(client: Any, name: str, tmp_path: Path) -> None:
    path = Path(get_testdata_file(name))
    response = post(client, path, output="all")
    reply, content, _ = read_parts(response)
    (tmp_path / "map.nii.gz").write_bytes(content)
    written = nibabel.load(tmp_path / "map.nii.gz")
    import SimpleITK

    image = SimpleITK.ReadImage(str(path))
    assert written.shape == image.GetSize() and reply["label"] in CLASSES
    # ITK reads the same place in the patient, in DICOM's axes.
    corner = np.diag([-1, -1, 1, 1]) @ written.affine @ [5, 9, 0, 1]
    assert np.allclose(corner[:3], image.TransformIndexToPhysicalPoint([5, 9, 0]), atol=1e-3)


def test_image_of_the_datastore(client: Any) -> None:
    for name in ("image0", "scan"):
        reply = client.post(MODEL, params={"image": name, "output": "json"})
        assert reply.status_code == 200 and reply.json()["label"] in CLASSES


def test_refusals_say_why(client: Any, images: dict[str, Path], tmp_path: Path) -> None:
    text, colour = tmp_path / "text.png", tmp_path / "colour.png"
    text.write_text("no image")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 30, 3), dtype=np.uint8)).save(colour)
    for response, status, reason in [
        (post(client, images["png"], num_draws=-3), 422, "num_draws: expected an integer from 1 to 1001, got -3"),
        (post(client, images["png"], rule="mode"), 422, "rule: expected one of"),
        (post(client, images["png"], device="cuda:99"), 422, "device: expected one of"),
        (post(client, images["png"], result_extension=".mha"), 422, "result_extension: expected one of"),
        (post(client, text), 422, "cannot be read as an image"),
        (post(client, colour), 422, "expected 1 channel(s), got 3"),
        (client.post(MODEL, params={"image": "nobody", "output": "json"}), 404, "image: expected the id of an image"),
        (
            client.post("/infer/other", params={"image": "image0"}),
            404,
            "model: expected one of ['pneumonia', 'pneumonia_class', 'pneumonia_map']",
        ),
        (client.post("/activelearning/other", json={}), 404, "strategy: expected one of ['diversity', "),
    ]:
        assert response.status_code == status and reason in response.json()["detail"]


def test_misspelt_parameter_is_named(client: Any, images: dict[str, Path]) -> None:
    assert post(client, images["png"], num_drews=5).json()["ignored"] == ["num_drews"]


def test_most_uncertain_image_is_served_until_it_is_labelled(client: Any, images: dict[str, Path]) -> None:
    first = client.post("/activelearning/most_uncertain", json={}).json()
    assert (first["id"], first["uncertainty"], first["unscored"]) == ("image0", None, 4)
    scored = client.post("/scoring/uncertainty", params={"run_sync": True}).json()
    assert (scored["scored"], scored["kept"], scored["failed"]) == (4, 0, 0)
    assert client.post("/scoring/uncertainty", params={"run_sync": True}).json()["kept"] == 4

    names = ["image0", "image1", "image2", "scan"]
    replies = {name: client.post(MODEL, params={"image": name, "output": "json"}).json() for name in names}
    for measure, sign in [("probability_entropy", 1), ("vote_margin", -1), ("probability_margin", -1)]:
        values = {name: reply["uncertainty"][measure] for name, reply in replies.items()}
        served = client.post("/activelearning/most_uncertain", json={"measure": measure}).json()
        assert served["uncertainty"] == pytest.approx(values[served["id"]])
        assert sign * values[served["id"]] == max(sign * value for value in values.values())
        assert served["unscored"] == 0 and served["diffusion_classifier"]["label"] in CLASSES

    order = []
    for _ in names:
        name = client.post("/activelearning/most_uncertain", json={}).json()["id"]
        order.append(name)
        put = client.put(
            "/datastore/label",
            params={"image": name, "tag": "final"},
            data={"params": json.dumps({"label_info": [{"name": "normal"}]})},
            files={"label": ("label.json", b"{}")},
        )
        assert put.status_code == 200
    entropies = [replies[name]["uncertainty"]["probability_entropy"] for name in order]
    assert entropies == sorted(entropies, reverse=True) and sorted(order) == names
    assert client.post("/activelearning/most_uncertain", json={}).json() == {}


def test_unknown_measure(client: Any) -> None:
    client.post("/scoring/uncertainty", params={"run_sync": True})
    response = client.post("/activelearning/most_uncertain", json={"measure": "doubt"})
    assert response.status_code == 422 and "measure: expected one of [" in response.json()["detail"]
    assert "'probability_entropy'" in response.json()["detail"]


def test_unreadable_image_is_scored_last(client: Any, studies: Path) -> None:
    (studies / "image1.png").write_text("no image")
    assert client.post("/scoring/uncertainty", params={"run_sync": True}).json()["failed"] == 1
    assert client.post("/scoring/uncertainty", params={"run_sync": True}).json()["kept"] == 4
    assert client.post("/activelearning/most_uncertain", json={}).json()["id"] != "image1"


def test_unknown_conf_is_refused(monailabel: None, tmp_path: Path) -> None:
    from monai_diffclf.monailabel.app import DiffusionClassifierApp

    with pytest.raises(ValueError, match=r"conf: expected one of .*got \['bundel'\]; did you mean bundle\?"):
        DiffusionClassifierApp(str(tmp_path), str(tmp_path), {"bundel": "x"})


def test_calibration_set_and_p_value_reach_the_client(
    settings: Any, changed_bundle: Callable[..., Path], images: dict[str, Path]
) -> None:
    from monai_diffclf.monailabel.bundle_model import BundleModel
    from monai_diffclf.monailabel.infer_task import DiffusionClassifierTask
    from tests.monailabel.test_bundle_model import postprocessing

    model = BundleModel(changed_bundle(postprocessing=postprocessing("Sharpen", "Refuse")))
    file, reply = DiffusionClassifierTask(model)({"image": str(images["png"])})
    Path(file).unlink()
    assert reply["calibrated"] and reply["probabilities"] != reply["probabilities_before_calibration"]
    p = sorted(reply["probabilities"].values())
    assert reply["uncertainty"]["probability_margin"] == pytest.approx(p[-1] - p[-2], abs=1e-6)
    assert reply["prediction_set"] == [name for name, p in reply["probabilities"].items() if p > 0.1]
    assert reply["ood_p_value"] == 0.25 and reply["warnings"] == ["Refuse: errors: expected 51 draws, got 3"]
    json.dumps(reply, allow_nan=False)


def test_the_former_name_of_a_measure_is_understood(client: Any) -> None:
    client.post("/scoring/uncertainty", params={"run_sync": True})
    new = client.post("/activelearning/most_uncertain", json={"measure": "vote_margin"}).json()
    with pytest.warns(DeprecationWarning, match="'margin' is now 'vote_margin'"):
        old = client.post("/activelearning/most_uncertain", json={"measure": "margin"}).json()
    assert (old["id"], old["measure"], old["uncertainty"]) == (new["id"], "vote_margin", new["uncertainty"])

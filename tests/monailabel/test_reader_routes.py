"""What the reading page asks for, in process."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from monai_diffclf.bundle import find_bundle
from monai_diffclf.image_io.image_files import read_image_file
from monai_diffclf.image_io.volume_file import read_volume_file
from tests.volume_fixtures import phantom, save_nifti, volume_bundle, write_enhanced, write_series

MODEL = {"model": "pneumonia"}


def next_image(client: Any, reader: str, **more: Any) -> Any:
    return client.post("/reader/next", json={"reader": reader, **more}).json()["id"]


def answer(client: Any, image: str, verdict: str = "label", **more: Any) -> Any:
    return client.post("/reader/label", json={"reader": "ann", "image": image, "verdict": verdict, **more})


def read(client: Any, image: str, of: str = "image", **more: Any) -> np.ndarray:
    response = client.get("/reader/pixels", params={"image": image, "of": of, **MODEL, **more})
    assert response.status_code == 200, response.text
    size = [int(n) for n in response.headers["x-size"].split(",")]
    return np.frombuffer(response.content, "<i2" if of == "map" else "<u2").reshape(size)


def test_files_of_the_page(client: Any) -> None:
    page = client.get("/reader/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert client.get("/reader", follow_redirects=False).headers["location"] == "/reader/"
    for name in ("reader.js", "viewer.js", "evidence.js", "server.js", "reader.css", "icon.svg"):
        file = client.get(f"/reader/{name}")
        assert file.status_code == 200 and file.headers["x-content-type-options"] == "nosniff"
        # Nothing that a browser would fetch from elsewhere, and no way for text to become HTML.
        text = file.text.replace("http://www.w3.org/2000/svg", "")
        assert not any(word in text for word in ("http:", "https:", "innerHTML", "insertAdjacentHTML", "eval("))
    assert client.get("/reader/other.js").status_code == 404
    assert client.get("/info/").headers["content-security-policy"].startswith("default-src 'none'; frame")


def test_reader_sees_what_the_file_holds(client: Any, studies: Path) -> None:
    pixels = read(client, "image0")
    assert np.array_equal(pixels, np.rint(65535 * read_image_file(studies / "image0.png")).astype(np.uint16))
    refused = client.get("/reader/pixels", params={"image": "image0", "of": "map", **MODEL})
    assert refused.status_code == 409 and "asked for before" in refused.json()["detail"]
    said = client.post("/reader/prediction", params={"image": "image0", **MODEL}).json()
    reply = client.post("/infer/pneumonia", params={"image": "image0", "output": "json"}).json()
    assert said["probabilities"] == pytest.approx(reply["probabilities"]) and said["counterfactual"] is True
    assert np.abs(read(client, "image0", "map")).max() == 32767 and read(client, "image0", "map").shape == (40, 50, 1)


def test_counterfactual_is_painted_on_demand(monailabel: None, images: dict[str, Path]) -> None:
    from monai_diffclf.monailabel.bundle_model import BundleModel
    from monai_diffclf.monailabel.inference_queue import Job, JobStopped
    from monai_diffclf.monailabel.reading import ReadImages

    model = BundleModel(find_bundle("pneumonia_xray_diffusion"))
    images_read, path = ReadImages({"m": model}), str(images["png"])
    assert images_read.plane(path, "counterfactual", "m", None) is None
    said = images_read.predict(path, "m", Job())
    made = images_read.paint(path, "m", Job())
    assert said["counterfactual"] and made["target"] == said["map"]["rival"] and made["flipped"] in (True, False)
    plane = images_read.plane(path, "counterfactual", "m", None)
    assert plane is not None and plane.values.shape == (61, 47, 1) and plane.values.dtype == np.uint16
    before = images_read.plane(path, "image", "m", None)
    assert before is not None
    # The bundle cropped the rows above and below: they stay as they are, and some of the others change.
    change = plane.values.astype(int) - before.values
    assert change.any() and np.abs(change[:7]).max() <= 1 and np.abs(change[-7:]).max() <= 1
    stopped = Job()
    stopped.stop()
    with pytest.raises(JobStopped):
        ReadImages({"m": model}).paint(path, "m", stopped)


def test_volume_is_read_slice_by_slice(tmp_path: Path, monailabel: None) -> None:
    from monai_diffclf.monailabel.reading import ReadImages

    values = np.random.default_rng(0).integers(0, 255, (7, 6, 5)).astype(np.uint8)
    path = tmp_path / "volume.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0])), path)
    upright = read_image_file(path)
    images = ReadImages({})
    for index in range(upright.shape[2]):
        plane = images.plane(str(path), "image", "", index)
        assert plane is not None and plane.slices == 5
        assert np.array_equal(plane.values, np.rint(65535 * upright[:, :, index]).astype(np.uint16))
    middle = images.plane(str(path), "image", "", None)
    assert middle is not None and np.array_equal(middle.values, images.plane(str(path), "image", "", 2).values)
    with pytest.raises(ValueError, match="slice: expected an integer from 0 to 4, got 5"):
        images.plane(str(path), "image", "", 5)


@pytest.mark.parametrize("kind", ["RAS", "PSL", "LIA", "series", "frames", "zip", "nrrd"])
def test_map_of_a_volume_lies_on_its_slices(tmp_path: Path, monailabel: None, kind: str) -> None:
    """The reader sees front up and the patient's right on the left, whatever the file's axes, and the map with it."""
    from monai_diffclf.monailabel.bundle_model import BundleModel
    from monai_diffclf.monailabel.inference_queue import Job
    from monai_diffclf.monailabel.reading import ReadImages

    path = volume_file(tmp_path, kind)
    model = BundleModel(volume_bundle(tmp_path / "bundle"))
    images = ReadImages({"tiny": model})
    images.predict(str(path), "tiny", Job())
    planes = [images.plane(str(path), "image", "tiny", index) for index in range(10)]
    assert all(plane is not None and plane.slices == 10 and plane.values.shape == (12, 14, 1) for plane in planes)
    upright = np.stack([plane.values[..., 0] for plane in planes if plane is not None], 2)
    expected = phantom()[::-1, ::-1].transpose(1, 0, 2)  # rows to the back, columns to the left, slices up
    low, high = int(expected.min()), int(expected.max())
    np.testing.assert_allclose(upright, 65535 * ((expected - float(low)) / (high - low)), atol=0.002 * 65535)
    assert planes[0] is not None and planes[0].spacing == pytest.approx((0.8, 1.0))
    # What the model has found is the map in the axes of the file: a mark in it must appear where the voxel is shown.
    outcome = next(found for key, (found, _) in images._kept.items() if key[0] == "outcome")[0]
    source = read_volume_file(path)
    mark = np.unravel_index(source.values.argmax(), source.values.shape)
    outcome.map.zero_()
    outcome.map[tuple(int(n) for n in mark)] = 1.0
    maps = [images.plane(str(path), "map", "tiny", index) for index in range(10)]
    shown = np.stack([plane.values[..., 0] for plane in maps if plane is not None], 2)
    assert np.unravel_index(shown.argmax(), shown.shape) == np.unravel_index(upright.argmax(), upright.shape)
    assert np.count_nonzero(shown) == 1


def volume_file(folder: Path, kind: str) -> Path:
    """The asymmetric phantom as a file or a folder."""
    stored = (phantom()[::-1, ::-1].transpose(2, 1, 0) + 1024) // 2  # DICOM: to the left, to the back, up
    if kind == "frames":
        return write_enhanced(folder / "frames.dcm", stored)
    if kind == "nrrd":
        nrrd = pytest.importorskip("nrrd")
        header = {"space": "right-anterior-superior", "space directions": np.diag([1.0, 0.8, 2.5])}
        nrrd.write(str(folder / "scan.nrrd"), phantom(), {**header, "space origin": np.zeros(3)})
        return folder / "scan.nrrd"
    if kind not in ("series", "zip"):
        save_nifti(folder / "scan.nii.gz", phantom(), codes=kind)
        return folder / "scan.nii.gz"
    series = write_series(folder / "series", stored)
    if kind == "series":
        return series
    with zipfile.ZipFile(folder / "scan.zip", "w") as archive:
        for file in series.iterdir():
            archive.write(file, file.name)
    return folder / "scan.zip"


def test_volume_opens_in_the_window_of_its_model(tmp_path: Path, monailabel: None) -> None:
    from monai_diffclf.monailabel.shown_image import read_shown

    save_nifti(tmp_path / "scan.nii.gz", phantom())
    path, values = str(tmp_path / "scan.nii.gz"), phantom()
    low, high = int(values.min()), int(values.max())
    shown = read_shown(path, volumes=True, window=(-900.0, 100.0))
    assert shown.window == pytest.approx(((-900 - low) / (high - low), (100 - low) / (high - low)))
    assert read_shown(path, volumes=True, window=(-5000.0, 5000.0)).window == (0.0, 1.0)
    assert read_shown(path, volumes=True, window=(5000.0, 6000.0)).window == (0.0, 1.0)  # nothing would be seen
    assert read_shown(path, volumes=True).window == (0.0, 1.0)


def test_a_plane_among_volumes_is_shown_and_a_broken_series_refused(tmp_path: Path, monailabel: None) -> None:
    from PIL import Image

    from monai_diffclf.monailabel.shown_image import read_shown

    Image.new("L", (30, 20), 128).save(tmp_path / "plane.png")
    plane = read_shown(str(tmp_path / "plane.png"), volumes=True)
    assert plane.values.shape == (20, 30, 1) and plane.affine is None and plane.spacing == (1.0, 1.0)
    # Seen from the side: rows are 2.5 mm, columns 0.8 mm; one that is too long to be meant is shown as it is stored.
    for name, height, spacing in (("side", 2.5, (2.5, 0.8)), ("wrong", 90.0, (1.0, 1.0))):
        image = nibabel.Nifti1Image(np.arange(120, dtype=np.uint8).reshape(1, 10, 12), np.diag([1.0, 0.8, height, 1.0]))
        nibabel.save(image, tmp_path / f"{name}.nii.gz")
        assert read_shown(str(tmp_path / f"{name}.nii.gz"), volumes=False).spacing == pytest.approx(spacing)
    stored = (phantom().transpose(2, 1, 0) + 1024) // 2
    broken = write_series(tmp_path / "series", stored, change=lambda n, dataset: n != 4)
    for volumes in (True, False):
        with pytest.raises(ValueError, match="series: cannot be read as a volume: .*slice"):
            read_shown(str(broken), volumes=volumes)


def test_large_planes_are_made_smaller(tmp_path: Path, monailabel: None) -> None:
    from PIL import Image

    from monai_diffclf.monailabel.reading import LONGEST, ReadImages

    Image.new("L", (3000, 1500), 128).save(tmp_path / "large.png")
    plane = ReadImages({}).plane(str(tmp_path / "large.png"), "image", "", None)
    assert plane is not None and plane.values.shape == (LONGEST // 2, LONGEST, 1)
    assert np.unique(plane.values).tolist() == [round(65535 * 128 / 255)]


def test_answers_are_stored_and_counted(client: Any, studies: Path) -> None:
    image = next_image(client, "ann")
    said = client.post("/reader/prediction", params={"image": image, **MODEL}).json()
    stored = answer(client, image, label=said["label"], seconds=2.5, **MODEL).json()["progress"]
    assert stored == {"labelled": 1, "left": 3, "bad": 0, "unsure": 0, "same": 1, "compared": 1}
    assert json.loads((studies / "labels" / "final" / f"{image}.json").read_text()) == {"label": said["label"]}
    info = client.get("/datastore/label/info", params={"label": image, "tag": "final"}).json()
    assert info["reading"] == {
        "reader": "ann",
        "model": "pneumonia",
        "predicted": said["label"],
        "shown": True,
        "seconds": 2.5,
        "probability": said["probabilities"][said["label"]],
    }
    second = next_image(client, "ann")
    other = next(name for name in ("normal", "pneumonia") if name != said["label"])
    assert answer(client, second, label=other).json()["progress"]["compared"] == 1, "no model's answer was there"
    third = next_image(client, "ann")
    assert answer(client, third, "bad image").json()["progress"]["left"] == 1
    fourth = next_image(client, "ann")
    assert len({image, second, third, fourth}) == 4
    assert answer(client, fourth, "unsure").json()["progress"]["unsure"] == 1
    assert next_image(client, "ann") is None and next_image(client, "bob") == fourth
    assert client.get("/reader/state").json()["progress"]["labelled"] == 2


def test_readers_get_different_images_by_either_way(client: Any) -> None:
    first = next_image(client, "ann")
    ahead = next_image(client, "ann", exclude=[first])
    slicer = client.post("/activelearning/most_uncertain", json={"client_id": "user-xyz"}).json()["id"]
    assert len({first, ahead, slicer}) == 3
    assert answer(client, first, "skip").status_code == 200
    assert next_image(client, "bob", strategy="most_uncertain") not in (ahead, slicer)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"reader": "../ann"}, "reader: expected a plain name"),
        ({"reader": "a" * 65}, "reader"),
        ({"reader": "ann", "strategy": "best"}, "strategy: expected one of"),
        ({}, "reader"),
    ],
)
def test_wrong_questions_are_refused(client: Any, body: dict[str, Any], reason: str) -> None:
    response = client.post("/reader/next", json=body)
    assert response.status_code in (404, 422) and reason in response.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"image": "nobody", "label": "normal"}, 404, "got 'nobody'"),
        ({"image": "image0", "label": "flu"}, 422, "expected one of ['normal', 'pneumonia']"),
        ({"image": "image0"}, 422, "label: expected a class with the verdict 'label' only, got None"),
        ({"image": "image0", "verdict": "skip", "label": "normal"}, 422, "label: expected a class"),
        ({"image": "image0", "verdict": "perhaps"}, 422, "verdict"),
        ({"image": "../image0", "label": "normal"}, 422, "image: expected a plain name"),
        ({"image": "image0", "label": "normal", "model": "other"}, 404, "model: expected one of ['pneumonia']"),
    ],
)
def test_wrong_answers_are_refused(client: Any, body: dict[str, Any], status: int, reason: str) -> None:
    response = client.post("/reader/label", json={"reader": "ann", "verdict": "label", **body})
    assert response.status_code == status and reason in response.json()["detail"]
    assert client.get("/reader/state").json()["progress"]["labelled"] == 0


def test_unreadable_image_is_said_without_a_path(client: Any, studies: Path) -> None:
    (studies / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    client.get("/datastore/")
    from monai_diffclf.monailabel.parameters import the_app

    the_app().datastore().refresh()
    for method, path in (("POST", "/reader/prediction"), ("GET", "/reader/pixels")):
        response = client.request(method, path, params={"image": "broken", **MODEL})
        assert response.status_code == 422 and str(studies) not in response.text


def test_clients_cannot_store_what_the_page_does(client: Any) -> None:
    response = client.put("/datastore/image/info?image=image0", data={"info": '{"reading": {"ann": 1}}'})
    assert response.status_code == 422 and "the server's own" in response.json()["detail"]

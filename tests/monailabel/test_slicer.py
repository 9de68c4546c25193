"""MONAI Label's own client, of which 3D Slicer has a copy, against the started server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.monailabel.example_images import AFFINE, make_picture, write_dicom, write_nifti, write_png
from tests.monailabel.started_server import StartedServer, started

client_module = pytest.importorskip("monailabel.client.client", reason="monailabel is not installed")
MONAILabelClientException = client_module.MONAILabelClientException
LABELS = [{"name": "normal", "idx": 1}, {"name": "pneumonia", "idx": 2}]


@pytest.fixture(scope="module")
def server(monailabel: None, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedServer]:
    """A server with two pictures, a NIfTI and a DICOM file."""
    root = tmp_path_factory.mktemp("slicer")
    studies = root / "studies"
    studies.mkdir()
    for index in range(2):
        write_png(studies / f"image{index}.png", make_picture(index, (40, 50)))
    write_dicom(studies / "scan.dcm", make_picture(3))
    oblique = AFFINE + np.array([[0, 0.2, 0, 0], *([[0] * 4] * 3)])  # columns lean to the rows
    write_nifti(studies / "volume.nii.gz", make_picture(4), oblique)
    with started(str(studies), root / "home", {"bundle": str(bundle)}) as one:
        yield one


@pytest.fixture
def client(server: StartedServer, tmp_path: Path) -> Any:
    """The client as Slicer makes it."""
    return client_module.MONAILabelClient(server.url, str(tmp_path), "user-xyz")


def label_map(path: Path, values: Sequence[int], size: tuple[int, int] = (50, 40)) -> str:
    """A label map of a picture with some voxels of each value."""
    import SimpleITK

    array = np.zeros((1, size[1], size[0]), dtype=np.uint8)
    for place, value in enumerate(values):
        array[0, 5 : 5 + 3, 6 * place : 6 * place + 4] = value
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path))
    return str(path)


def test_segmenting_and_submitting_the_next_sample(client: Any, tmp_path: Path) -> None:
    import SimpleITK

    assert client.auth_enabled() is False and client.info()["labels"] == ["normal", "pneumonia"]
    sample = client.next_sample("most_uncertain", {})
    # What the plugin sends with every inference.
    asked = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False}
    file, params = client.infer("pneumonia", sample["id"], asked)
    found = SimpleITK.ReadImage(file)
    value = {"normal": 1, "pneumonia": 2}[params["label"]]
    assert found.GetPixelIDTypeAsString() == "8-bit unsigned integer"
    assert set(np.unique(SimpleITK.GetArrayFromImage(found))) == {value}
    original = SimpleITK.ReadImage(sample["path"])
    assert found.GetSize()[:2] == original.GetSize()[:2]
    # The plugin submits what the user leaves of it, with both classes as segments.
    saved = client.save_label(sample["id"], file, params={"label_info": LABELS})
    assert saved["image"] == sample["id"]
    stored = json.loads(Path(client.download_label(sample["id"], "final")).read_text())
    assert stored == {"label": params["label"]}
    assert client.datastore()["objects"][sample["id"]]["labels"]["final"]["info"]["label"] == params["label"]


@pytest.mark.parametrize(
    ("values", "labels", "expected"),
    [
        ([2], LABELS, "pneumonia"),
        ([1], LABELS, "normal"),
        # The scene has a background segment first, which the plugin leaves out of file and list.
        ([3], [{"name": "normal", "idx": 2}, {"name": "pneumonia", "idx": 3}], "pneumonia"),
        ([1], [{"name": "normal", "idx": 2}, {"name": "pneumonia", "idx": 3}], "normal"),
    ],
)
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_segment_with_voxels_is_the_label(
    client: Any, tmp_path: Path, values: list[int], labels: list[dict[str, Any]], expected: str, suffix: str
) -> None:
    client.save_label("image1", label_map(tmp_path / f"a{suffix}", values), params={"label_info": labels})
    assert json.loads(Path(client.download_label("image1", "final")).read_text()) == {"label": expected}


def test_segments_of_a_map_are_no_labels(client: Any, tmp_path: Path) -> None:
    import SimpleITK

    asked = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False}
    file, params = client.infer("pneumonia_map", "image0", asked)
    values = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(file))
    assert (
        set(np.unique(values)) <= {0, 1, 2}
        and params["label_names"] == client.info()["models"]["pneumonia_map"]["labels"]
    )
    # What is submitted while the map's segments are there, too.
    segments = [*LABELS, {"name": "for the class", "idx": 3}, {"name": "against the class", "idx": 4}]
    client.save_label("image0", label_map(tmp_path / "a.nii.gz", [2, 3, 4]), "map", params={"label_info": segments})
    assert json.loads(Path(client.download_label("image0", "map")).read_text()) == {"label": "pneumonia"}
    with pytest.raises(MONAILabelClientException) as error:
        client.save_label("image0", label_map(tmp_path / "b.nii.gz", [3, 4]), params={"label_info": segments})
    assert "got those of a map only" in error.value.msg


def test_slicers_own_segmentation_file(client: Any, tmp_path: Path) -> None:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.full((1, 40, 50), 7, dtype=np.uint8))
    for key, value in {"Name": "pneumonia", "LabelValue": "7", "Layer": "0"}.items():
        image.SetMetaData(f"Segment0_{key}", value)
    SimpleITK.WriteImage(image, str(tmp_path / "a.seg.nrrd"))
    client.save_label("image1", str(tmp_path / "a.seg.nrrd"), tag="other", params={"label_info": LABELS})
    assert json.loads(Path(client.download_label("image1", "other")).read_text()) == {"label": "pneumonia"}


@pytest.mark.parametrize(
    ("values", "labels", "reason"),
    [
        ([], LABELS, "expected voxels in one of the segments ['normal', 'pneumonia'], but all are empty"),
        ([1, 2], LABELS, "got voxels in ['normal', 'pneumonia']"),
        ([5], LABELS, "the value 5 of the segmentation is none of theirs"),
        ([2], [{"name": "normal", "idx": 2}, {"name": "pneumonia", "idx": 3}], "could mean ['normal', 'pneumonia']"),
        ([2], [{"name": "normal", "idx": 1}, {"name": "flu", "idx": 2}], "got 'flu'"),
    ],
)
def test_other_segmentations_are_refused(
    client: Any, server: StartedServer, tmp_path: Path, values: list[int], labels: list[dict[str, Any]], reason: str
) -> None:
    with pytest.raises(MONAILabelClientException) as error:
        client.save_label("scan", label_map(tmp_path / "a.nii.gz", values), params={"label_info": labels})
    assert (
        "Status: 422" in str(error.value.msg) and reason in json.loads(error.value.msg.split("Response: ")[1])["detail"]
    )
    assert "final" not in client.datastore()["objects"]["scan"]["labels"]


def test_sessions(client: Any, tmp_path: Path) -> None:
    image = write_nifti(tmp_path / "mine.nii.gz", make_picture(9))
    session = client.create_session(str(image))["session_id"]
    assert client.get_session(session)["name"] == session
    file, params = client.infer("pneumonia", "", {}, session_id=session)
    assert Path(file).stat().st_size > 0 and params["label"] in ("normal", "pneumonia")
    client.remove_session(session)
    with pytest.raises(MONAILabelClientException):
        client.get_session(session)


def test_uploaded_volume_is_found_again(client: Any, server: StartedServer, tmp_path: Path) -> None:
    image = write_nifti(tmp_path / "tmp123.nii.gz", make_picture(9))
    assert client.upload_image(str(image), "2: chest PA")["image"] == "2: chest PA"
    assert client.upload_image(str(image), "2: chest PA")["image"] == "2: chest PA"  # before every submission
    got = server.request("GET", "/datastore/image", params={"image": "2: chest PA"})
    assert got.content == image.read_bytes()
    file, params = client.infer("pneumonia", "2: chest PA", {})
    assert params["label"] and Path(file).exists()


def test_label_map_of_an_oblique_grid_is_refused(client: Any) -> None:
    with pytest.raises(MONAILabelClientException) as error:
        client.infer("pneumonia", "volume", {"result_extension": ".nrrd"})
    assert "Status: 422" in error.value.msg and "axes are at right angles" in error.value.msg


def test_training_without_labels_is_refused(client: Any) -> None:
    with pytest.raises(MONAILabelClientException) as error:
        client.train_start("pneumonia", {})
    assert "Status: 422" in error.value.msg and "labels: expected" in error.value.msg
    assert not client.train_status(True)

"""Labels are names of classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

CLASSES = ["normal", "pneumonia"]


def put(client: Any, content: bytes = b"{}", name: str = "label.json", image: str = "image0", **params: Any) -> Any:
    """Send a label."""
    return client.put(
        "/datastore/label",
        params={"image": image, "tag": "final"},
        data={"params": json.dumps(params)},
        files={"label": (name, content)},
    )


@pytest.mark.parametrize(
    ("content", "params"),
    [
        (b"{}", {"label_info": [{"name": "pneumonia", "idx": 1}]}),
        (b"{}", {"label_info": [{"idx": 1}]}),
        (b'{"label": "pneumonia"}', {}),
        (b'{"label": 1}', {}),
        (b'"pneumonia"', {}),
        (b'{"label": "pneumonia"}', {"label_info": [{"name": "pneumonia"}]}),
    ],
)
def test_label_is_stored_as_the_name(client: Any, studies: Path, content: bytes, params: dict[str, Any]) -> None:
    assert put(client, content, **params).status_code == 200
    assert json.loads((studies / "labels" / "final" / "image0.json").read_text()) == {"label": "pneumonia"}
    info = client.get("/datastore/label/info", params={"label": "image0", "tag": "final"}).json()
    assert info["label"] == "pneumonia" and info["label_info"] == [{"name": "pneumonia", "idx": 1}]
    assert client.get("/datastore/label", params={"label": "image0", "tag": "final"}).json() == {"label": "pneumonia"}
    assert client.get("/info/").json()["datastore"]["completed"] == 1


@pytest.mark.parametrize(
    ("content", "params", "reason"),
    [
        (b"{}", {}, "label: expected one of ['normal', 'pneumonia'], as label_info"),
        (b"{}", {"label_info": [{"name": "flu"}]}, "or an index below 2, got 'flu'"),
        (b"{}", {"label_info": [{"idx": 2}]}, "or an index below 2, got 2"),
        (b"{}", {"label_info": "normal"}, "label_info: expected a list of {'name': ...}, got 'normal'"),
        (b'{"label": "normal"}', {"label_info": [{"name": "pneumonia"}]}, "got ['normal', 'pneumonia']"),
        (b"{", {}, "label: expected a JSON file, but it cannot be read"),
        (b"\xff\xfe", {}, "label: expected a JSON file, but it cannot be read"),
        (b"[" * 90_000, {}, "label: expected a JSON file, but it cannot be read"),
        (b'"' + bytes(200_000), {}, "label: expected a JSON file of at most 100,000 bytes, got 200,001"),
    ],
)
def test_no_class_is_refused_and_nothing_stored(
    client: Any, studies: Path, content: bytes, params: dict[str, Any], reason: str
) -> None:
    response = put(client, content, **params)
    assert response.status_code == 422 and reason in response.json()["detail"]
    assert not list((studies / "labels" / "final").iterdir())
    assert client.get("/info/").json()["datastore"]["completed"] == 0


def test_masks_of_images_are_no_images(client: Any, studies: Path) -> None:
    image = (studies / "image1.png").read_bytes()
    masks = ["image0_mask.png", "image0-label.png", "scan.seg.png", "P1_seg.png"]
    for name in (*masks, "P1_t1ce.png", "P2_mask.png"):
        (studies / name).write_bytes(image)
    assert put(client, b'"normal"', image="P1_t1ce").status_code == 200  # looks at the folder anew
    shown = client.get("/info/").json()["datastore"]
    assert (shown["total"], shown["left_out"]) == (6, 4)
    listed = client.get("/datastore/", params={"output": "all"}).json()["objects"]
    assert listed.keys() == {"image0", "image1", "image2", "scan", "P1_t1ce", "P2_mask"}
    # One that was listed before its image came.
    (studies / "P2.png").write_bytes(image)
    assert put(client, b'"normal"', image="P2").status_code == 200
    listed = client.get("/datastore/", params={"output": "all"}).json()["objects"]
    assert "P2" in listed and "P2_mask" not in listed
    # One that has a class is an image to whoever gave it.
    (studies / "image2_label.png").write_bytes(image)
    (studies / "image2.png").rename(studies / "kept.png")
    assert put(client, b'"normal"', image="image2_label").status_code == 200
    (studies / "kept.png").rename(studies / "image2.png")
    assert put(client, b'"normal"', image="image2").status_code == 200
    assert {"image2", "image2_label"} <= client.get("/datastore/", params={"output": "all"}).json()["objects"].keys()


def test_a_mask_that_is_sent_as_an_image_is_refused(client: Any, studies: Path) -> None:
    content = (studies / "image0.png").read_bytes()
    reply = client.put("/datastore/image", params={"image": "image0_seg"}, files={"file": ("x.png", content)})
    assert (reply.status_code, reply.json()["detail"]) == (
        422,
        "image: 'image0_seg' looks like the mask of the image 'image0'; choose another id if it is an image",
    )
    assert not (studies / "image0_seg.png").exists()
    reply = client.put("/datastore/image", params={"image": "other_seg"}, files={"file": ("x.png", content)})
    assert reply.status_code == 200


def test_what_is_missing_is_named(client: Any) -> None:
    label = "label: expected a file, JSON such as {} where params names the class; send it as multipart/form-data, as "
    label += "curl -F label=@FILE does"
    params = {"params": json.dumps({"label_info": [{"name": "normal"}]})}
    for sent in ({"data": params}, {"json": {"label": "normal"}}, {"data": {"label": "normal"}}, {}):
        reply = client.put("/datastore/label", params={"image": "image0"}, **sent)
        assert (reply.status_code, reply.json()["detail"]) == (422, label)
    image = client.put("/datastore/image").json()["detail"]
    assert image == "file: expected a file; send it as multipart/form-data, as curl -F file=@FILE does"
    session = client.put("/session/", data={"files": "a.png"}).json()["detail"]
    assert session == "files: expected a file; send it as multipart/form-data, as curl -F files=@FILE does"
    said = client.post("/reader/label", json={"reader": "r", "verdict": "skip"}).json()["detail"]
    assert said == "image: expected in the body, got none"
    reply = client.get("/datastore/label", params={"label": "image0"})
    assert reply.json()["detail"] == "tag: expected in the address, as ?tag=..., got none"


def test_label_of_an_unknown_image(client: Any) -> None:
    response = put(client, b'"normal"', image="nobody")
    assert response.status_code == 404 and "got 'nobody'" in response.json()["detail"]


def test_prediction_saved_as_label(client: Any, studies: Path) -> None:
    reply = client.post(
        "/infer/pneumonia",
        params={"image": "image0", "output": "json"},
        data={"params": json.dumps({"save_label": True, "label_tag": "original"})},
    )
    stored = json.loads((studies / "labels" / "original" / "image0.json").read_text())
    assert stored == {"label": reply.json()["label"]}


@pytest.mark.parametrize("content", [b"", b"[]", b'{"objects": 3}', b'{"name": "new-datas', b"\xff"])
def test_a_damaged_store_is_refused_and_its_classes_are_read_again(client: Any, studies: Path, content: bytes) -> None:
    from monai_diffclf.monailabel.label_store import ClassLabelStore
    from monai_diffclf.monailabel.labelled_images import read_labels

    assert put(client, b'"normal"').status_code == 200
    assert put(client, b'"pneumonia"', image="scan").status_code == 200
    store = studies / "datastore_v2.json"
    store.write_bytes(content)
    message = r"studies: .*datastore_v2\.json is no datastore of MONAI Label, or damaged: .*; put a copy of it back, or"
    with pytest.raises(ValueError, match=message) as error:
        ClassLabelStore(str(studies), CLASSES)
    assert "\n" not in str(error.value) and "pydantic" not in str(error.value) and store.read_bytes() == content
    store.unlink()
    (studies / "labels" / "final" / "image1.json").write_text('{"label": "flu"}')
    ClassLabelStore(str(studies), CLASSES)
    found = read_labels(studies, classes=CLASSES)
    assert {item.id: item.label for item in found.items} == {"image0": "normal", "scan": "pneumonia"}
    assert found.left_out == {"labels that are no class": 1, "without a label": 1}


def test_suffixes_given_by_the_user_are_kept(settings: Any, studies: Path) -> None:
    from monai_diffclf.monailabel.label_store import ClassLabelStore

    settings.MONAI_LABEL_DATASTORE_FILE_EXT = ["*.dcm"]
    assert ClassLabelStore(str(studies), CLASSES).list_images() == ["scan"]

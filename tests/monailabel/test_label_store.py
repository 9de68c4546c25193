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


def test_suffixes_given_by_the_user_are_kept(settings: Any, studies: Path) -> None:
    from monai_diffclf.monailabel.label_store import ClassLabelStore

    settings.MONAI_LABEL_DATASTORE_FILE_EXT = ["*.dcm"]
    assert ClassLabelStore(str(studies), CLASSES).list_images() == ["scan"]

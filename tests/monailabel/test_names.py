"""Names of clients are one plain part of a path; files beside them stay where they are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

CLASSES = ["normal", "pneumonia"]


@pytest.fixture(autouse=True)
def _needs(monailabel: None) -> None:
    """MONAI Label."""


@pytest.mark.parametrize(
    "name", ["a", "case 12", "2: chest PA", "Größe", "a.b.c", "1.2.840.113619", "a_b-c", "été", "胸部", "100%"]
)
def test_plain_names(name: str) -> None:
    from monai_diffclf.monailabel.names import check_name

    assert check_name(name, "image") == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        ".",
        "..",
        "a/b",
        "a\\b",
        "/a",
        "C:\\a",
        "c:a",
        "a\x00",
        "a\n",
        "a\x7f",
        "\u202ea",
        "a\u2028b",
        "\ud800",
        "-a",
        ".a",
        "~a",
        " a",
        "a ",
        "a.",
        "a..b",
        "a%2eb",
        "%252e",
        "a" * 241,
        "ä" * 121,
        "con",
        "NUL.png",
        "com1",
        "a<b",
        'a"b',
        "a|b",
        "a*",
        "a?",
        "a\uff0fb",
        "a\uff3cb",
        "\uff0e\uff0e",
        "\u2025",
    ],
)
def test_other_names(name: str) -> None:
    from monai_diffclf.monailabel.names import check_name

    with pytest.raises(ValueError, match="^image: expected a plain name, got "):
        check_name(name, "image")


def test_paths_are_followed_before_they_are_judged(tmp_path: Path) -> None:
    from monai_diffclf.monailabel.names import resolve_inside

    own, other = tmp_path / "own", tmp_path / "own2"
    own.mkdir(), other.mkdir()
    (own / "to_other").symlink_to(other)
    (own / "to_own").symlink_to(own / "a")
    assert resolve_inside(own / "to_own", [own], "path") == own / "a"
    for path in (own / "to_other", own / "to_other" / "b", own / ".." / "own2" / "b", other, tmp_path):
        with pytest.raises(ValueError, match="leads out of the server's folders"):
            resolve_inside(path, [own], "path")


def store(folder: Path) -> Any:
    """The store of a folder."""
    from monai_diffclf.monailabel.label_store import ClassLabelStore

    return ClassLabelStore(str(folder), CLASSES)


def stored(**objects: Any) -> str:
    """The file of a store, as it may come with a folder."""
    return json.dumps({"name": "", "description": "", "images_dir": ".", "labels_dir": "labels", "objects": objects})


@pytest.mark.parametrize("key", ["images_dir", "labels_dir"])
def test_store_that_says_it_is_elsewhere_is_refused(settings: Any, studies: Path, key: str) -> None:
    content = json.loads(stored()) | {key: "/"}
    (studies / "datastore_v2.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="datastore_v2.json says that images are in"):
        store(studies)


def test_entries_of_a_store_that_lead_elsewhere_are_left_out(settings: Any, studies: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    image, label = {"image": {"ext": ".png", "info": {}}}, {"ext": "/../../../../secret.png", "info": {}}
    objects = {
        "image0": image,
        "../secret": image,
        "image1": {"image": {"ext": "/../../secret.png", "info": {}}},
        "image2": {**image, "labels": {"final": label}},
        "scan": {"image": {"ext": ".dcm", "info": {}}, "labels": {"../..": {"ext": ".json", "info": {}}}},
    }
    (studies / "datastore_v2.json").write_text(stored(**objects))
    made = store(studies)
    # What was left out is found again as it lies there, without what was said of it.
    assert sorted(made.list_images()) == ["image0", "image1", "image2", "scan"]
    assert all(Path(made.get_image_uri(name)).parent == studies for name in made.list_images())
    assert made.get_image_uri("../secret") == "" and made.get_label_uri("image2", "final") == ""
    assert (tmp_path / "secret.png").read_bytes() == b"secret"


@pytest.mark.parametrize("name", ["labels", "datastore_v2.json", ".lock"])
def test_store_behind_a_link_is_refused(settings: Any, studies: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (studies / name).symlink_to(tmp_path / "elsewhere" / "x")
    with pytest.raises(ValueError, match=f"remove the link .*{name}"):
        store(studies)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_folder_may_itself_be_a_link(settings: Any, studies: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(studies)
    made = store(tmp_path / "link")
    assert "image0" in made.list_images() and made.get_image_uri("image0") == str(studies / "image0.png")


def test_id_of_an_image_stays_when_another_of_its_stem_comes(settings: Any, studies: Path) -> None:
    made = store(studies)
    (studies / "image0.jpg").write_bytes((studies / "image0.png").read_bytes())
    made.refresh()
    assert {"image0", "image0.jpg"} < set(made.list_images())
    assert made.get_image_uri("image0").endswith("image0.png")
    assert made.get_image_uri("image0.jpg").endswith("image0.jpg")
    assert sorted(store(studies).list_images()) == sorted(made.list_images())


def test_upload_does_not_take_the_place_of_another_kind(client: Any, studies: Path) -> None:
    content = (studies / "image0.png").read_bytes()
    for params, status in (({"image": "image0"}, 200), ({"image": "scan"}, 409), ({"image": "labels"}, 200)):
        response = client.put("/datastore/image", params=params, files={"file": ("x.png", content)})
        assert response.status_code == status, response.text
    assert (studies / "labels").is_dir() and (studies / "labels.png").is_file()
    assert not [name for name in os.listdir(studies) if name.endswith(".tmp")]


def test_label_stays_when_the_image_is_sent_again(client: Any, studies: Path) -> None:
    put = {"params": {"image": "image0", "tag": "final"}, "files": {"label": ("l.json", b'"normal"')}}
    assert client.put("/datastore/label", **put).status_code == 200
    content = (studies / "image0.png").read_bytes()
    client.put("/datastore/image", params={"image": "image0"}, files={"file": ("x.png", content)})
    info = client.get("/datastore/label/info", params={"label": "image0", "tag": "final"}).json()
    assert info["label"] == "normal" and client.get("/info/").json()["datastore"]["completed"] == 1


def test_labels_survive_the_loss_of_the_stores_file(client: Any, studies: Path) -> None:
    put = {"params": {"image": "image0", "tag": "final"}, "files": {"label": ("l.json", b'"normal"')}}
    assert client.put("/datastore/label", **put).status_code == 200
    (studies / "datastore_v2.json").unlink()
    assert store(studies).get_labeled_images() == ["image0"]

"""A server whose images are on a DICOMweb server: starts without the internet, reads DICOM as DICOM."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pydicom
import pytest

from tests.monailabel.example_images import make_picture, write_dicom
from tests.monailabel.started_server import StartedServer, detail, started

ONE, TWO, STUDY = "1.2.3.1", "1.2.3.2", "1.2.3"
REPORT, MAP = "1.2.3.8", "1.2.3.9.1"


class Archive(BaseHTTPRequestHandler):
    """A DICOMweb server of a series with one file, one with two, and others of modalities that are no images."""

    files: dict[str, list[bytes]]
    modalities: dict[str, str]

    def do_GET(self) -> None:
        """Search for series, or give one."""
        parts = urlsplit(self.path)
        if parts.path.endswith("/series") and "studies" not in parts.path:
            asked = parse_qs(parts.query)
            names = [name for name in self.files if asked.get("SeriesInstanceUID", [name]) == [name]]
            wanted = asked.get("Modality")
            names = [name for name in names if wanted is None or [self.modalities[name]] == wanted]
            self._answer("application/dicom+json", json.dumps([series(name) for name in names]).encode())
        elif (name := parts.path.rpartition("/")[2]) in self.files:
            body = b"".join(
                b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + f + b"\r\n" for f in self.files[name]
            )
            self._answer('multipart/related; type="application/dicom"; boundary=edge', body + b"--edge--")
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        """Store an instance."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        start = body.index(b"\r\n\r\n") + 4
        dataset = pydicom.dcmread(io.BytesIO(body[start : body.rindex(b"\r\n--")]))
        name = str(dataset.SeriesInstanceUID)
        if not dataset.get("Modality"):
            self.send_error(409)
            return
        self.files.setdefault(name, []).append(body[start : body.rindex(b"\r\n--")])
        self.modalities[name] = str(dataset.Modality)
        self._answer("application/dicom+json", b"{}")

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""


def series(name: str) -> dict[str, Any]:
    """What a search tells of a series."""
    told = {"0020000E": name, "0020000D": STUDY}
    return {tag: {"vr": "UI", "Value": [value]} for tag, value in told.items()}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a DICOMweb server."""
    folder, files = tmp_path_factory.mktemp("archive"), []
    for index in range(3):
        write_dicom(folder / f"{index}.dcm", make_picture(index))
        dataset = pydicom.dcmread(folder / f"{index}.dcm")
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, ONE if index == 0 else TWO
        if index == 0:
            dataset.PhotometricInterpretation = "MONOCHROME1"  # which MONAI Label's way through NIfTI would lose
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        files.append(buffer.getvalue())
    shown = {"files": {ONE: files[:1], TWO: files[1:], REPORT: files[:1], MAP: files[:1]}}
    modalities = {ONE: "DX", TWO: "MG", REPORT: "SR", MAP: "OT"}
    handler = type("Filled", (Archive,), {**shown, "modalities": modalities})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.fixture(scope="module")
def server(
    monailabel: None, archive: str, bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartedServer]:
    """A server of its images, which can reach nothing else."""
    home = tmp_path_factory.mktemp("dicomweb")
    with started(archive, home, {"bundle": str(bundle)}) as one:
        yield one


def test_series_is_classified_as_dicom(server: StartedServer, tmp_path: Path) -> None:
    assert server.request("GET", "/info/").json()["datastore"]["total"] == 2
    reply = server.request("POST", f"/infer/pneumonia?image={ONE}&output=json").json()
    write_dicom(tmp_path / "same.dcm", 255 - make_picture(0))
    with open(tmp_path / "same.dcm", "rb") as file:
        same = server.request("POST", "/infer/pneumonia?output=json", files={"file": file}).json()
    assert reply["probabilities"] == same["probabilities"]


@pytest.mark.parametrize(
    ("image", "status", "reason"),
    [
        (TWO, 422, "expected an image file, got a folder; give one file for each image"),
        ("1.2.3.9", 502, "image: the DICOMweb server did not give the series"),
        ("../../secret", 422, "holds a separator of paths"),
        ("nobody", 404, "image: expected the id of an image"),
    ],
)
def test_other_series_are_refused(server: StartedServer, image: str, status: int, reason: str) -> None:
    response = server.request("POST", "/infer/pneumonia", params={"image": image, "output": "json"})
    assert response.status_code == status and reason in detail(response)


def wait_until_scored(server: StartedServer, seconds: float = 120) -> dict[str, Any]:
    """What a scoring says at its end."""
    end = time.monotonic() + seconds
    while (state := server.request("GET", "/scoring/").json())["status"] == "RUNNING" and time.monotonic() < end:
        time.sleep(0.1)
    return dict(state)


def test_scores_are_made_when_asked_for(server: StartedServer) -> None:
    none = server.request("GET", "/scoring/")
    assert none.status_code == 404, "nothing is fetched at the start"
    before = server.request("POST", "/activelearning/most_uncertain", json={}).json()
    assert (before["id"], before["uncertainty"], before["unscored"]) == (ONE, None, 2)
    assert server.request("POST", "/scoring/uncertainty").json()["status"] == "RUNNING"
    state = wait_until_scored(server)
    assert state["status"] == "DONE" and (state["details"][0]["scored"], state["details"][0]["failed"]) == (1, 1)
    served = server.request("POST", "/activelearning/most_uncertain", json={}).json()
    inferred = server.request("POST", f"/infer/pneumonia?image={ONE}&output=json").json()
    assert (served["id"], served["unscored"]) == (ONE, 0)
    assert served["uncertainty"] == pytest.approx(inferred["uncertainty"]["probability_entropy"])
    known = {image: server.request("GET", f"/datastore/image/info?image={image}").json() for image in (ONE, TWO)}
    assert known[ONE]["diffusion_classifier"]["label"] == inferred["label"]
    assert "expected an image file, got a folder" in known[TWO]["diffusion_classifier"]["error"]
    assert known[ONE]["name"] == f"{ONE}.dcm" and "most_uncertain" in known[ONE]["strategy"]
    again = server.request("POST", "/scoring/uncertainty?run_sync=true").json()  # nothing is left to score
    assert (again["scored"], again["kept"]) == (0, 2)
    # They are files of the user's home, which the next start finds.
    assert len(list(server.log.parent.rglob("image_info/*.json"))) == 2


def test_what_is_known_of_a_remote_image(server: StartedServer) -> None:
    told = server.request("PUT", f"/datastore/image/info?image={TWO}", data={"info": json.dumps({"patient": "P1"})})
    assert told.status_code == 200
    assert server.request("GET", f"/datastore/image/info?image={TWO}").json()["patient"] == "P1"
    for image in ("1.2.3.77", REPORT):
        response = server.request("PUT", f"/datastore/image/info?image={image}", data={"info": "{}"})
        assert response.status_code == 404 and "expected the id of an image" in detail(response)


def test_an_answer_is_kept_as_label(server: StartedServer) -> None:
    asked = {"params": json.dumps({"save_label": True})}
    reply = server.request("POST", f"/infer/pneumonia?image={ONE}&output=json", data=asked).json()
    label = server.request("GET", f"/datastore/label?label={ONE}&tag=original").json()
    assert label["label"] == reply["label"]
    info = label["info"]
    assert info["model"] == "pneumonia" and info["params"]["probabilities"] == reply["probabilities"]
    assert info["label_info"] == [{"name": reply["label"], "idx": ["normal", "pneumonia"].index(reply["label"])}]
    assert server.request("GET", "/datastore/").json()["completed"] == 0, "it is no reader's"
    assert server.request("DELETE", f"/datastore/label?id={ONE}&tag=original").status_code == 200


def put_label(server: StartedServer, image: str, label: str, tag: str = "final") -> Any:
    path = f"/datastore/label?image={image}&tag={tag}"
    return server.request("PUT", path, files={"label": ("a.json", json.dumps({"label": label}).encode())})


def test_labels_of_remote_images_are_stored(server: StartedServer) -> None:
    before = server.request("GET", "/datastore/").json()
    assert put_label(server, ONE, "normal", "first").json()["label"] == ONE
    assert put_label(server, ONE, "pneumonia").status_code == 200
    assert put_label(server, ONE, "normal").status_code == 200  # the last one counts
    after = server.request("GET", "/datastore/").json()
    assert (before["completed"], after["completed"]) == (0, 1)
    assert after["label_tags"] == {"final": 1, "first": 1}
    stored = server.request("GET", f"/datastore/label?label={ONE}&tag=final")
    assert stored.json()["label"] == "normal"
    info = server.request("GET", f"/datastore/label/info?label={ONE}&tag=final").json()
    assert info["label_info"] == [{"name": "normal", "idx": 0}] and info["ts"] > 0
    (pair,) = server.request("GET", "/datastore/?output=train").json()
    assert pair["image"].endswith(".dcm") and pair["label"].endswith(f"final/{ONE}.json")
    # They are files of the user's home, which the next start finds.
    assert len(list(server.log.parent.rglob(f"class_labels/*/{ONE}.json"))) == 2
    left = server.request("POST", "/activelearning/random", json={}).json()  # the other series, of two files
    assert left["id"] != ONE
    refused = server.request("POST", f"/infer/pneumonia?image={left['id']}&output=json")
    assert refused.status_code == 422 and "got a folder" in detail(refused)
    assert server.request("DELETE", f"/datastore/label?id={ONE}&tag=final").status_code == 200
    assert server.request("GET", "/datastore/").json()["completed"] == 0


@pytest.mark.parametrize(
    ("image", "label", "tag", "status", "reason"),
    [
        (ONE, "cancer", "final", 422, "label: expected one of"),
        ("1.2.3.77", "normal", "final", 404, "expected the id of an image"),
        (REPORT, "normal", "final", 404, "expected the id of an image"),
        (ONE, "normal", "../../x", 422, "tag"),
    ],
)
def test_labels_that_are_refused(
    server: StartedServer, image: str, label: str, tag: str, status: int, reason: str
) -> None:
    response = put_label(server, image, label, tag)
    assert response.status_code == status and reason in detail(response)


def test_readers_say_what_a_remote_image_is(server: StartedServer) -> None:
    said = {"reader": "ann", "image": TWO, "verdict": "bad image"}
    progress = server.request("POST", "/reader/label", json=said).json()["progress"]
    assert (progress["bad"], progress["left"]) == (1, 1)
    given = server.request("POST", "/reader/next", json={"reader": "bob", "strategy": "most_uncertain"}).json()
    assert given["id"] == ONE
    skipped = {"reader": "bob", "image": ONE, "verdict": "skip"}
    assert server.request("POST", "/reader/label", json=skipped).status_code == 200
    again = server.request("POST", "/reader/next", json={"reader": "cid", "strategy": "random"}).json()
    assert again["id"] == ONE, "a bad image is handed out to nobody"
    skipped["reader"] = "cid"
    assert server.request("POST", "/reader/label", json=skipped).status_code == 200


def test_uploads_go_to_the_server(server: StartedServer, tmp_path: Path) -> None:
    write_dicom(tmp_path / "new.dcm", make_picture(3))
    dataset = pydicom.dcmread(tmp_path / "new.dcm")
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.Modality = STUDY, "1.2.3.5", "CR"
    dataset.save_as(tmp_path / "new.dcm")
    with open(tmp_path / "new.dcm", "rb") as file:
        reply = server.request("PUT", "/datastore/image", files={"file": ("new.dcm", file)})
    assert reply.json() == {"image": "1.2.3.5"}
    assert server.request("GET", "/datastore/").json()["total"] == 3
    assert "probabilities" in server.request("POST", "/infer/pneumonia?image=1.2.3.5&output=json").json()
    dataset.Modality = ""
    dataset.save_as(tmp_path / "new.dcm")
    with open(tmp_path / "new.dcm", "rb") as file:  # which this server does not take
        refused = server.request("PUT", "/datastore/image", files={"file": ("new.dcm", file)})
    assert refused.status_code == 502 and "did not take it" in detail(refused)


def test_searches() -> None:
    pytest.importorskip("monailabel.config", reason="MONAI Label is not installed")
    import monai_diffclf.monailabel  # noqa: F401
    from monai_diffclf.monailabel.dicomweb_store import MODALITIES, _searches

    assert _searches({"Modality": "CT"}) == [{"Modality": name} for name in MODALITIES]
    assert {"CR", "DX", "MG", "PX", "RF", "XA", "SC", "CT", "MR"} == set(MODALITIES)
    assert _searches({"Modality": ["CT"]}) == [{"Modality": "CT"}]
    assert _searches({"Modality": "US", "PatientID": "1"}) == [{"Modality": "US", "PatientID": "1"}]
    assert _searches({}) == [{}]


@pytest.mark.slow
def test_silent_archive_does_not_stop_the_start(monailabel: None, bundle: Path, tmp_path: Path) -> None:
    with started("http://127.0.0.1:9", tmp_path, {"bundle": str(bundle)}) as server:
        info = server.request("GET", "/info/")
        assert info.status_code == 200 and "DICOMweb" in info.json()["datastore"]["error"]
        response = server.request("POST", "/activelearning/random")
        assert response.status_code == 502 and "DICOMweb" in detail(response)

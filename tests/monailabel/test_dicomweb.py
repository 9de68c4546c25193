"""A server whose images are on a DICOMweb server: starts without the internet, reads DICOM as DICOM."""

from __future__ import annotations

import io
import json
import threading
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


class Archive(BaseHTTPRequestHandler):
    """A DICOMweb server of a series with one file and one with two."""

    files: dict[str, list[bytes]]

    def do_GET(self) -> None:
        """Search for series, or give one."""
        parts = urlsplit(self.path)
        if parts.path.endswith("/series") and "studies" not in parts.path:
            asked = parse_qs(parts.query)
            names = [name for name in self.files if asked.get("SeriesInstanceUID", [name]) == [name]]
            names = [] if asked.get("Modality") == ["SEG"] else names
            self._answer("application/dicom+json", json.dumps([series(name) for name in names]).encode())
        elif (name := parts.path.rpartition("/")[2]) in self.files:
            body = b"".join(
                b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + f + b"\r\n" for f in self.files[name]
            )
            self._answer('multipart/related; type="application/dicom"; boundary=edge', body + b"--edge--")
        else:
            self.send_error(404)

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
    handler = type("Filled", (Archive,), {"files": {ONE: files[:1], TWO: files[1:]}})
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
    with started(archive, home, {"bundle": str(bundle)}, MONAI_LABEL_DICOMWEB_SEARCH_FILTER="{}") as one:
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


def test_scores_are_not_stored_there(server: StartedServer) -> None:
    response = server.request("POST", "/scoring/uncertainty")
    assert response.status_code == 422 and "a folder of images only" in detail(response)
    served = server.request("POST", "/activelearning/most_uncertain", json={}).json()
    assert (served["id"], served["uncertainty"]) == (ONE, None)


def test_labels_are_not_stored_there(server: StartedServer) -> None:
    response = server.request(
        "PUT", f"/datastore/label?image={ONE}&tag=final", files={"label": ("a.json", b'"normal"')}
    )
    assert response.status_code == 422 and "cannot be stored on a DICOMweb server" in detail(response)


@pytest.mark.slow
def test_silent_archive_does_not_stop_the_start(monailabel: None, bundle: Path, tmp_path: Path) -> None:
    with started("http://127.0.0.1:9", tmp_path, {"bundle": str(bundle)}) as server:
        info = server.request("GET", "/info/")
        assert info.status_code == 200 and "DICOMweb" in info.json()["datastore"]["error"]
        response = server.request("POST", "/activelearning/random")
        assert response.status_code == 502 and "DICOMweb" in detail(response)

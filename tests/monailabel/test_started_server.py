"""The server as a process: who may call it, what it lists, how it behaves under load, and what it leaves behind."""

from __future__ import annotations

import inspect
import io
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from PIL import Image

from monai_diffclf.image_io import read_image_file
from tests.monailabel.example_images import make_picture, write_dicom, write_png
from tests.monailabel.started_server import StartedServer, detail, multipart, started

MODEL = "/infer/pneumonia"
TOKEN = "a-token-of-more-than-thirty-two-signs"  # noqa: S105


@pytest.fixture(scope="module")
def server(monailabel: None, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedServer]:
    """A server with little time and a short queue, and a folder as people have them."""
    root = tmp_path_factory.mktemp("started")
    studies = root / "studies"
    for folder in (studies / "x", studies / "y"):
        folder.mkdir(parents=True)
        write_png(folder / "dup.png", make_picture(5))
    for name in ("case.png", "case.jpg", "case.bmp", "image0.png"):
        Image.fromarray(make_picture(len(name), (40, 50))).save(studies / name)
    write_dicom(studies / "IM0001", make_picture(3))
    (studies / "notes.txt").write_text("no image")
    conf = {"bundle": str(bundle), "max_waiting": "1", "max_seconds": "3", "max_upload_mb": "2"}
    with started(str(studies), root / "home", conf) as one:
        yield one


def temporary_files(server: StartedServer) -> list[str]:
    """What is left in the server's temporary folder beside its log."""
    folder = server.log.parent / "temporary"
    return [str(path) for path in folder.rglob("*") if path.is_file() and not path.name.endswith((".json", "app.log"))]


def test_files_of_the_same_stem_have_ids_of_their_own(server: StartedServer) -> None:
    objects = server.request("GET", "/datastore/?output=all").json()["objects"]
    assert sorted(objects) == ["IM0001", "case.bmp", "case.jpg", "case.png", "image0"]
    for name in objects:
        assert server.request("POST", f"{MODEL}?image={name}&output=json").status_code == 200
    one, other = (server.request("GET", f"/datastore/image?image=case.{kind}").content for kind in ("png", "bmp"))
    assert one[:4] == b"\x89PNG" and other[:2] == b"BM"


def test_what_is_left_out_is_counted(server: StartedServer) -> None:
    assert server.request("GET", "/info/").json()["datastore"]["left_out"] == 3
    log = server.log.read_text()
    assert "left out 2 folders (put their images into the folder itself): x, y" in log
    assert "left out 1 files that are no images: notes.txt" in log


def test_dicom_without_a_suffix_can_be_sent(server: StartedServer, tmp_path: Path) -> None:
    dicom = write_dicom(tmp_path / "1.2.840.10008", make_picture(3)).read_bytes()
    sent = server.request("POST", f"{MODEL}?output=json", files={"file": ("1.2.840.10008", dicom)}).json()
    stored = server.request("POST", f"{MODEL}?image=IM0001&output=json").json()
    assert sent["probabilities"] == stored["probabilities"]


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("POST", "/train/pneumonia", 422, "labels: expected some of each class, there are none of"),
        ("POST", "/train/", 404, "train: name a model, such as /train/pneumonia"),
        ("POST", "/scoring/dice", 404, "method: expected one of ['uncertainty'], got 'dice'"),
        ("POST", f"{MODEL}?image=image0&output=dicom_seg", 422, "output: Input should be 'image', 'json' or 'all'"),
        ("POST", f"{MODEL}?output=json", 422, "image: expected the id of an image, a session_id, or a file"),
        ("POST", f"{MODEL}?image=nobody", 404, "image: expected the id of an image in the datastore"),
        (
            "POST",
            "/infer/other?image=image0",
            404,
            "model: expected one of ['pneumonia', 'pneumonia_class', 'pneumonia_map'], got 'other'",
        ),
        ("GET", "/datastore/image?image=nobody", 404, "got 'nobody'"),
        ("GET", "/datastore/image/info", 422, "image: expected in the address, as ?image=..., got none"),
        ("GET", "/datastore/label?label=image0&tag=none", 404, "label: there is none of 'image0' with the tag 'none'"),
        ("DELETE", "/datastore/image?id=nobody", 404, "got 'nobody'"),
        ("GET", "/datastore/dataset", 404, "dataset: no image has its final label yet"),
        ("GET", "/session/nobody", 404, "session: there is none of this id"),
        ("GET", "/nowhere", 404, "Not Found"),
    ],
)
def test_refusals_have_a_reason(server: StartedServer, method: str, path: str, status: int, reason: str) -> None:
    response = server.request(method, path)
    assert response.status_code == status and reason in detail(response)


@pytest.mark.parametrize(
    ("filename", "content", "params", "reason"),
    [
        ("a.png", b"no image", "{}", "cannot be read as an image"),
        ("a.png", None, "{", "params: expected JSON"),
        ("a.png", None, "[]", "params: expected a JSON object, got list"),
        ("a.png", None, '{"num_draws": NaN}', "NaN is no JSON"),
        ("a." + "b" * 250 + ".png", None, "{}", "which is longer than 240 bytes"),
        ("a" + ".b" * 60 + ".exe", None, "{}", "file: expected an image"),
        ("a.svg", None, "{}", "file: expected an image"),
        ("", b"no image", "{}", "file"),
        ("a.png", bytes(2_500_000), "{}", "expected at most 2,000,000 bytes"),
    ],
)
def test_refused_uploads_leave_nothing(
    server: StartedServer, filename: str, content: bytes | None, params: str, reason: str
) -> None:
    picture = io.BytesIO()
    Image.fromarray(make_picture()).save(picture, "PNG")
    headers, body = multipart("file", filename, picture.getvalue() if content is None else content, params=params)
    status, answer = server.raw("POST", f"{MODEL}?output=json", headers, body)
    assert 400 <= status < 500 and reason in answer.decode()
    assert not temporary_files(server)


def test_body_of_unknown_length_is_bounded(server: StartedServer) -> None:
    def chunks() -> Iterator[bytes]:
        yield multipart("file", "a.png", b"")[1].removesuffix(b"\r\n--edge--\r\n")
        for _ in range(100):
            yield bytes(100_000)

    try:
        response = requests.put(
            f"{server.url}/datastore/image?image=long",
            data=chunks(),
            headers={"Content-Type": "multipart/form-data; boundary=edge"},
            timeout=60,
        )
        assert response.status_code == 413
    except requests.ConnectionError:  # closed while we were still sending
        pass
    assert not temporary_files(server) and server.request("GET", "/datastore/image?image=long").status_code == 404


def test_server_answers_while_it_infers(server: StartedServer) -> None:
    long = {"data": {"params": '{"num_draws": 1001}'}}
    with ThreadPoolExecutor(6) as pool:
        start = time.monotonic()
        running = [pool.submit(server.request, "POST", f"{MODEL}?image=image0&output=json", **long) for _ in range(5)]
        slowest = 0.0
        while not all(one.done() for one in running) and time.monotonic() - start < 30:
            before = time.monotonic()
            assert server.request("GET", "/info/").status_code == 200
            slowest = max(slowest, time.monotonic() - before)
            time.sleep(0.1)
        answers = [one.result() for one in running]
    assert slowest < 3, "less than the inferences take; one core may serve both"
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [503, 503, 503, 504, 504]
    reasons = {detail(answer) for answer in answers}
    assert reasons == {
        "busy: 1 inferences wait already; try again later",
        "time: the inference took longer than 3 s",
    }
    # What ran over its time has stopped, and the next one need not wait for it.
    time.sleep(1)
    assert server.request("POST", f"{MODEL}?image=image0&output=json").status_code == 200
    assert not temporary_files(server)


def test_inference_of_a_client_that_has_gone_is_stopped(server: StartedServer) -> None:
    headers, body = multipart("file", "a.png", picture_bytes(), params='{"num_draws": 1001}')
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = f"POST {MODEL}?output=json HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
        head += f"Content-Type: {headers['Content-Type']}\r\n\r\n"
        connection.sendall(head.encode() + body)
        time.sleep(0.7)
    time.sleep(1)
    assert server.request("POST", f"{MODEL}?image=image0&output=json").status_code == 200
    assert not temporary_files(server)


def test_picture_of_many_pixels_is_refused_at_once(server: StartedServer) -> None:
    if "max_pixels" not in inspect.signature(read_image_file).parameters:
        pytest.skip("the reader has no limit yet")
    bomb = io.BytesIO()
    Image.new("1", (13_000, 13_000)).save(bomb, "PNG")
    start = time.monotonic()
    response = server.request("POST", f"{MODEL}?output=json", files={"file": ("a.png", bomb.getvalue())})
    assert response.status_code == 422 and "pixels" in detail(response)
    assert time.monotonic() - start < 2 and not temporary_files(server)


def picture_bytes() -> bytes:
    """A PNG."""
    buffer = io.BytesIO()
    Image.fromarray(make_picture()).save(buffer, "PNG")
    return buffer.getvalue()


def test_no_map_is_made_for_json(server: StartedServer) -> None:
    json_only = server.request("POST", f"{MODEL}?image=image0&output=json").json()
    with_map = server.request("POST", f"{MODEL}?image=image0")
    assert json_only["latencies"]["write"] < 0.1 and json_only["map"]["class"] == json_only["label"]
    assert with_map.headers["content-type"].startswith("multipart/form-data")


@pytest.mark.slow
def test_token(monailabel: None, bundle: Path, tmp_path: Path) -> None:
    from monailabel.client.client import MONAILabelClient, MONAILabelClientException

    studies, token = tmp_path / "studies", tmp_path / "token"
    studies.mkdir()
    write_png(studies / "image0.png", make_picture())
    token.write_text(f"{TOKEN}\n")
    token.chmod(0o600)
    conf = {"bundle": str(bundle), "token_file": str(token)}
    with started(str(studies), tmp_path / "home", conf, "--host", "0.0.0.0") as server:  # noqa: S104
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Cookie": TOKEN}):
            for path in ("/info/", "/datastore/", "/logs/", "/openapi.json", "/auth/token/valid", "/"):
                answer = server.request("GET", path, headers=headers)
                assert answer.status_code == 401 and "Bearer" in answer.headers["www-authenticate"]
        assert server.request("GET", "/info/", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        client = MONAILabelClient(server.url, str(tmp_path))
        assert client.auth_enabled()
        with pytest.raises(MONAILabelClientException):
            client.auth_token("me", "guess")
        client.update_auth(client.auth_token("me", TOKEN))
        assert client.auth_valid_token() and client.next_sample("random", {})["id"] == "image0"
        assert client.infer("pneumonia", "image0", {})[1]["label"]
    assert TOKEN not in server.log.read_text()

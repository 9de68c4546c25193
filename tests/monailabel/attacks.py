"""What an attacker sends to the server: each entry is a name, the request, and whether it may be answered with 200.

A request that is answered with 200 must be harmless: nothing outside the server's folders changes or is told.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.monailabel.started_server import StartedServer, multipart

SECRET = b"the-secret-that-must-not-leave"
FORGED = "0f8fad5b-d9cb-469f-a165-70867728950e"  # id of a session whose record names a secret
EVIL = b"import pathlib; pathlib.Path(__file__).with_name('pwned').touch()\n"


@dataclass(frozen=True)
class Target:
    """The server and what lies around it.

    Args:
        server: the server.
        root: folder with ``studies``, ``secret`` (with ``secret.png``, ``secret.txt``) and the server's ``home``.
        png: an image.
    """

    server: StartedServer
    root: Path
    png: bytes

    @property
    def secret(self) -> Path:
        """An image outside of the server's folders."""
        return self.root / "secret" / "secret.png"

    def image(self, name: str, filename: str = "a.png", content: bytes | None = None, path: str = "image") -> Any:
        """Upload an image under an id that is sent as it is."""
        headers, body = multipart("file", filename, self.png if content is None else content)
        return self.server.raw("PUT", f"/datastore/{path}?image={name}", headers, body)

    def label(self, image: str = "image0", tag: str = "final", filename: str = "l.json", **more: Any) -> Any:
        """Submit a label."""
        headers, body = multipart("label", filename, more.get("content", b'"normal"'), params=more.get("params", "{}"))
        return self.server.raw("PUT", f"/datastore/label?image={image}&tag={tag}", headers, body)

    def infer(self, query: str = "image=image0", **params: Any) -> Any:
        """Ask for an inference."""
        headers, body = multipart("none", "", b"", params=json.dumps(params))
        return self.server.raw("POST", f"/infer/pneumonia?output=json&{query}", headers, body)

    def session(self, filename: str, content: bytes, query: str = "") -> Any:
        """Open a session."""
        headers, body = multipart("files", filename, content)
        return self.server.raw("PUT", f"/session/?{query}", headers, body)

    def get(self, target: str, method: str = "GET", body: bytes = b"", **headers: str) -> Any:
        """A plain request."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.server.raw(method, target, named, body)

    def json(self, target: str, content: Any, **headers: str) -> Any:
        """Post JSON."""
        return self.get(target, "POST", json.dumps(content).encode(), Content_Type="application/json", **headers)


Attack = Callable[[Target], Any]
REFUSED: dict[str, Attack] = {}
HARMLESS: dict[str, Attack] = {}


def _archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo("../../../../escaped.py")
        entry.size = len(EVIL)
        archive.addfile(entry, io.BytesIO(EVIL))
    return buffer.getvalue()


def _nrrd(root: Path) -> bytes:
    lines = ["NRRD0004", "type: uint8", "dimension: 2", "sizes: 4 4", "encoding: raw"]
    return "\n".join([*lines, f"data file: {root / 'secret' / 'secret.txt'}", "", ""]).encode()


# Ids, tags and names that mean another place.
for _name, _id in {
    "parent": "../escaped",
    "parents": "../../../../../../tmp/escaped",
    "encoded parent": "..%2fescaped",
    "twice encoded parent": "%252e%252e%252fescaped",
    "backslash": "..%5cescaped",
    "full-width slash": "..%EF%BC%8Fescaped",
    "absolute": "/tmp/escaped",  # noqa: S108
    "nul": "a%00b",
    "newline": "a%0Ab",
    "reversed text": "a%E2%80%AEgnp",
    "dot": ".",
    "two dots": "..",
    "hidden": ".lock",
    "dash": "-rf",
    "tilde": "~root",
    "overlong": "a" * 300,
    "device of Windows": "con",
    "drive of Windows": "C:escaped",
    "html": "%3Cscript%3E",
    "below": "labels/final/image0",
}.items():
    REFUSED[f"image id, {_name}"] = lambda t, i=_id: t.image(i)
    REFUSED[f"label tag, {_name}"] = lambda t, i=_id: t.label(tag=i)
_PATHS: dict[str, Callable[[Target], str]] = {
    "parent": lambda t: "../secret/secret",
    "absolute": lambda t: str(t.secret),
    "encoded": lambda t: "%2e%2e%2fsecret%2fsecret",
}
for _name, _place in _PATHS.items():
    for _what, _method, _target in (
        ("read image", "GET", "/datastore/image?image={}"),
        ("check image", "HEAD", "/datastore/image?image={}"),
        ("read image info", "GET", "/datastore/image/info?image={}"),
        ("remove image", "DELETE", "/datastore/image?id={}"),
        ("read label", "GET", "/datastore/label?label={}&tag=final"),
        ("read label by its tag", "GET", "/datastore/label?label=image0&tag={}"),
        ("read label info by its tag", "GET", "/datastore/label/info?label=image0&tag={}"),
        ("remove label", "DELETE", "/datastore/label?id=image0&tag={}"),
        ("infer", "POST", "/infer/pneumonia?image={}&output=json"),
    ):
        REFUSED[f"{_what}, {_name}"] = lambda t, m=_method, a=_target, p=_place: t.get(a.format(p(t)), m)
REFUSED |= {
    "image id with suffix over the store": lambda t: t.image("datastore_v2", "datastore_v2.json"),
    "old address for images": lambda t: t.image("../escaped", path=""),
    "file name climbs": lambda t: t.image("", "../../escaped.png"),
    "label file name climbs": lambda t: t.label(filename="../../escaped.json"),
    "program as image": lambda t: t.image("main", "main.py", EVIL),
    "program under an image's name": lambda t: t.image("main.py", "main.py.exe", EVIL),
    "page as image": lambda t: t.image("page", "page.html", b"<script>"),
    "page under an image's name": lambda t: t.image("page", "page.png", b"<script>alert(1)</script>"),
    "PostScript under an image's name": lambda t: t.image("page", "page.png", b"%!PS-Adobe-3.0 EPSF-3.0\n(x) run"),
    "archive under an image's name": lambda t: t.image("page", "page.nii.gz", _archive()),
    "weights as image": lambda t: t.image("model", "model.pt", b"\x80\x02"),
    "text without suffix as image": lambda t: t.image("main", "main", EVIL),
    "program as label": lambda t: t.label(filename="main.py", content=EVIL),
    "archive as label": lambda t: t.label(filename="a.zip", content=b"PK"),
    "segmentation that names another file": lambda t: t.label(filename="a.nrrd", content=_nrrd(t.root)),
    "segmentation cut short": lambda t: t.label(filename="a.nii.gz", content=b"\x1f\x8b\x08"),
    "label for a link": lambda t: t.label(tag="linked"),
    "label over a link": lambda t: t.label(image="image1", tag="final"),
    "label removed through a link": lambda t: t.get("/datastore/label?id=image1&tag=final", "DELETE"),
    "label read through a link": lambda t: t.get("/datastore/label?label=image1&tag=final"),
    "image removed through a link": lambda t: t.get("/datastore/image?id=later", "DELETE"),
    "image over a link": lambda t: t.image("later", "later.png"),
    "path in the parameters": lambda t: t.infer(image=str(t.secret)),
    "session in the parameters": lambda t: t.infer(session={"image": str(t.secret)}),
    "label tag of a saved prediction": lambda t: t.infer(save_label=True, label_tag="../../escaped"),
    "text as parameters": lambda t: t.label(params="[1, 2"),
    "deep parameters": lambda t: t.label(params="[" * 90_000),
    "link in the studies": lambda t: t.get("/datastore/image?image=linked"),
    "later link in the studies": lambda t: t.get("/datastore/image?image=later"),
    "infer a link": lambda t: t.infer("image=linked"),
    "infer a relative file": lambda t: t.infer("image=server.log"),
    "image info in the place of the path": lambda t: t.server.raw(
        "PUT", "/datastore/image/info?image=image0", *multipart("none", "", b"", info='{"name": "../../evil"}')
    ),
    "session climbs": lambda t: t.session("../../escaped.png", t.png),
    "session of a program": lambda t: t.session("monailabel.py", EVIL),
    "session over its own record": lambda t: t.session("meta.info", b'{"image": "/etc/passwd"}'),
    "session of an archive": lambda t: t.session("a.tar.gz", _archive(), "uncompress=true"),
    "session of an archive called image": lambda t: t.session("a.nii.gz", _archive(), "uncompress=true"),
    "session removed by parent": lambda t: t.get("/session/..", "DELETE"),
    "session removed by encoded parent": lambda t: t.get("/session/%2e%2e", "DELETE"),
    "session removed by encoded path": lambda t: t.get("/session/..%2f..%2fmonailabel", "DELETE"),
    "session removed by dot": lambda t: t.get("/session/.", "DELETE"),
    "session of that path": lambda t: t.get(f"/session/{str(t.root / 'secret').replace('/', '%2f')}?image=true"),
    "infer by a session's path": lambda t: t.infer("session_id=..%2F..%2Fsecret"),
    "session that names a secret": lambda t: t.get(f"/session/{FORGED}?image=true"),
    "infer by a session that names a secret": lambda t: t.infer(f"session_id={FORGED}"),
    "model climbs": lambda t: t.get("/infer/..%2f..?image=image0", "POST"),
    "weights replaced": lambda t: t.server.raw("PUT", "/model/pneumonia", *multipart("file", "model.pt", b"\x80")),
    "weights fetched": lambda t: t.get("/model/pneumonia"),
    "page server climbs": lambda t: t.get("/ohif/..%2f..%2f..%2f..%2fetc%2fpasswd"),
    "static files climb": lambda t: t.get("/static/../../../../../../etc/passwd"),
    "proxy to elsewhere": lambda t: t.get("/proxy/dicom/..%2f..%2fsecret.txt"),
    "training with a folder of code": lambda t: t.json("/train/pneumonia", {"bundle_path": str(t.root / "evil")}),
    "batch with a path as tag": lambda t: t.json("/batch/infer/pneumonia", {"label_tag": "../../escaped"}),
    "slides with a path": lambda t: t.json("/infer/wsi/pneumonia", {"params": {"image": str(t.secret)}}),
    "another scoring method": lambda t: t.json("/scoring/..%2f..%2fevil", {}),
    "parameters of the next image": lambda t: t.json("/activelearning/random", {"client_id": {"a": ["b"]}}),
    "reload": lambda t: t.get("/reload", "POST"),
    "host of another site": lambda t: t.get("/info/", Host="evil.example"),
    "host of another site with this port": lambda t: t.get("/info/", Host=f"evil.example:{t.server.port}"),
    "host like the loopback": lambda t: t.get("/info/", Host="127.0.0.1.evil.example"),
    "no host": lambda t: t.get("/info/", Host=""),
    "origin of another site": lambda t: t.get("/info/", Origin="https://evil.example"),
    "origin of another port": lambda t: t.get("/scoring/uncertainty", "POST", Origin="http://127.0.0.1:1"),
    "origin of a file": lambda t: t.get("/scoring/uncertainty", "POST", Origin="null"),
    "cross-site form": lambda t: t.get("/scoring/uncertainty", "POST", Sec_Fetch_Site="cross-site"),
    "cross-site picture": lambda t: t.get("/datastore/image?image=image0", Sec_Fetch_Site="cross-site"),
    "form of an old browser": lambda t: t.get("/scoring/uncertainty", "POST", Referer="http://evil.example/a"),
    "preflight": lambda t: t.get(
        "/datastore/image", "OPTIONS", Origin="https://evil.example", Access_Control_Request_Method="PUT"
    ),
    "too long": lambda t: t.image("long", content=t.png + bytes(3_000_000)),
    "too long as JSON": lambda t: t.json("/activelearning/random", {"measure": "a" * 2_000_000}),
    "length that lies": lambda t: t.get("/datastore/image?image=x", "PUT", Content_Length="99999999999"),
}
HARMLESS |= {
    "whole path as file name, as Slicer sends": lambda t: t.image("slicer", str(t.root / "secret" / "escaped.png")),
    "folder of code in the parameters of scoring": lambda t: t.json(
        "/scoring/uncertainty", {"bundle_path": str(t.root / "evil"), "uncertainty": {"gpus": "0"}}
    ),
    "the datastore as a whole": lambda t: t.get("/datastore/?output=all"),
    "the training list": lambda t: t.get("/datastore/?output=train"),
    "the log": lambda t: t.get("/logs/?lines=100000"),
}

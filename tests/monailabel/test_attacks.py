"""A started server under attack: nothing is written or read outside of its folders, and every refusal says why."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.monailabel.attacks import EVIL, FORGED, HARMLESS, REFUSED, SECRET, Attack, Target
from tests.monailabel.example_images import make_picture, write_png
from tests.monailabel.started_server import ROOT, started

PACKAGE = ROOT / "monai_diffclf"


@pytest.fixture(scope="module")
def target(monailabel: None, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server, with secrets around its folders and links that lead to them."""
    root = tmp_path_factory.mktemp("attacked")
    studies, secret, home = root / "studies", root / "secret", root / "home"
    for folder in (studies, secret, root / "evil", home / ".cache" / "monailabel" / "sessions" / FORGED):
        folder.mkdir(parents=True)
    for index in range(2):
        write_png(studies / f"image{index}.png", make_picture(index, (40, 50)))
    write_png(secret / "secret.png", make_picture(7, (40, 50)))
    with open(secret / "secret.png", "ab") as file:
        file.write(SECRET)  # behind the picture, where decoders stop
    (secret / "secret.txt").write_bytes(SECRET)
    (home / ".cache" / "monailabel" / "kept.txt").write_text("other caches")
    for name in ("sitecustomize.py", "monailabel.py"):
        (root / "evil" / name).write_bytes(EVIL)
    forged = {"name": FORGED, "path": str(secret), "image": str(secret / "secret.png"), "expiry": 3600}
    meta = home / ".cache" / "monailabel" / "sessions" / FORGED / "meta.info"
    meta.write_text(json.dumps(forged | {"create_ts": int(time.time()), "last_access_ts": int(time.time())}))
    (studies / "linked.png").symlink_to(secret / "secret.png")
    (studies / "folder").symlink_to(secret)
    os.mkfifo(studies / "pipe.png")  # a server that opens it waits for ever
    with started(str(studies), home, {"bundle": str(bundle), "max_upload_mb": "2"}) as server:
        (studies / "later.png").symlink_to(secret / "secret.png")
        (studies / "labels" / "linked").symlink_to(secret)
        (studies / "labels" / "final" / "image1.json").symlink_to(secret / "escaped.json")
        yield Target(server, root, (studies / "image0.png").read_bytes())


def outside(target: Target) -> dict[str, str]:
    """Everything but the server's own folders: path -> what is there."""
    own = [target.root / "home" / "temporary", target.root / "home" / ".cache" / "monailabel" / "sessions"]
    own += [target.root / "studies", target.root / "home" / "server.log"]
    paths = [path for path in target.root.rglob("*") if not any(path.is_relative_to(folder) for folder in own)]
    paths += [path for path in PACKAGE.rglob("*") if path.suffix not in ("", ".pyc")]
    return {str(path): fingerprint(path) for path in paths}


def inside(target: Target) -> dict[str, str]:
    """The studies, without what the store keeps of them, and what is left of uploads."""
    # The thread that watches the folder may be writing the store at any time, and does so after the fixture's links.
    kept = ("datastore_v2.json", ".datastore_v2.json.", ".lock")
    studies = [path for path in (target.root / "studies").rglob("*") if not path.name.startswith(kept)]
    temporary = [path for path in (target.root / "home" / "temporary").rglob("*") if path.name != "app.log"]
    return {str(path): fingerprint(path) for path in (*studies, *temporary)}


def fingerprint(path: Path) -> str:
    """Kind and content of what is at a path."""
    if path.is_symlink():
        return f"link to {path.readlink()}"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"


def test_there_are_more_than_sixty_attacks() -> None:
    assert len(REFUSED) + len(HARMLESS) > 60


@pytest.mark.parametrize("attack", REFUSED.values(), ids=REFUSED)
def test_attack_is_refused_with_a_reason(target: Target, attack: Attack) -> None:
    before, own = outside(target), inside(target)
    status, body = attack(target)
    assert 400 <= status < 500, body
    assert SECRET not in body and b"Traceback" not in body
    if body:  # the HTTP library's own refusals, and answers to HEAD, have none
        assert isinstance(json.loads(body)["detail"], str)
    assert outside(target) == before and inside(target) == own


@pytest.mark.parametrize("attack", HARMLESS.values(), ids=HARMLESS)
def test_attack_is_harmless(target: Target, attack: Attack) -> None:
    before = outside(target)
    status, body = attack(target)
    assert status == 200 and SECRET not in body
    time.sleep(0.5)  # what runs beside the request
    assert outside(target) == before


def test_server_still_works(target: Target) -> None:
    response = target.server.request("POST", "/infer/pneumonia?image=image0&output=json")
    assert response.status_code == 200 and target.server.process.poll() is None
    left_out = target.server.request("GET", "/info/").json()["datastore"]["left_out"]
    assert left_out == 4, "two links to pictures, one to a folder, and a pipe"

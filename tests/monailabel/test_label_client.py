"""``monai-diffclf label-client`` against the started server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from monai_diffclf.commands import main
from tests.monailabel.started_server import StartedServer, find_port, started

TOKEN = "a-token-of-more-than-thirty-two-signs"  # noqa: S105


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a token."""
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    return file


@pytest.fixture(scope="module")
def server(
    monailabel: None, bundle: Path, token: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartedServer]:
    """A server with a token."""
    root = tmp_path_factory.mktemp("client")
    (root / "studies").mkdir()
    conf = {"bundle": str(bundle), "token_file": str(token)}
    with started(str(root / "studies"), root / "home", conf) as one:
        yield one


def test_prints_class_probability_and_uncertainty(
    server: StartedServer, token: Path, images: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["label-client", server.url, str(images["png"]), "--token-file", str(token)]
    assert main([*asked, "--json"]) == 0
    reply = json.loads(capsys.readouterr().out)
    assert reply["model"] == "pneumonia" and reply["num_draws"] == 3
    assert main(asked) == 0
    text = capsys.readouterr().out
    assert f"class           {reply['label']}\n" in text
    assert f"probability     {reply['probabilities'][reply['label']]:.3f} (not calibrated)" in text
    assert "uncertainty     " in text and "of 3 draws" in text and "\nmodel           pneumonia\n" in text


def test_what_is_wrong_is_said_in_one_line(
    server: StartedServer, token: Path, images: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "other").write_text("another-token-of-thirty-two-signs-or-more")
    (tmp_path / "other").chmod(0o600)
    image, with_token = str(images["png"]), ["--token-file", str(token)]
    for words, reason in (
        ([server.url, image], "--token-file: the server asks for a token; name the file"),
        ([server.url, image, "--token-file", str(tmp_path / "other")], "asks for a token, and this is not it"),
        ([server.url, image, "--token-file", str(tmp_path / "none")], "--token-file: expected a file with a token"),
        ([server.url, str(tmp_path / "text.png"), *with_token], "422: file: cannot be read as an image"),
        ([server.url, str(tmp_path / "none.png"), *with_token], "does not exist"),
        ([server.url, image, "--model", "flu", *with_token], "--model: expected one of ['pneumonia'], got 'flu'"),
        ([f"127.0.0.1:{find_port()}", image], "url: no server answers at http://127.0.0.1:"),
        (["ftp://127.0.0.1", image], "url: expected the address of a server"),
    ):
        assert main(["label-client", *words]) == 2
        said = capsys.readouterr()
        assert reason in said.err and said.err.count("\n") == 1 and TOKEN not in said.err

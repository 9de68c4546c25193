"""What the command refuses before anything listens, in one line."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

TOKEN = "a-token-of-more-than-thirty-two-signs"  # noqa: S105


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the command in this process, which must end before it listens."""
    from monai_diffclf.monailabel import __main__ as command

    monkeypatch.setattr(sys, "argv", ["monailabel", "start_server", *words])
    monkeypatch.setattr(command.uvicorn, "run", lambda *arguments, **options: None)
    with pytest.raises(SystemExit) as end:
        command.main()
        raise SystemExit(0)
    return int(end.value.code or 0)


@pytest.mark.parametrize(
    ("studies", "words", "reason"),
    [
        ("none", [], "studies: expected a folder of images, but there is none at"),
        ("", ["--conf", "max_wating", "3"], "did you mean max_waiting?"),
        ("", ["--conf", "max_waiting", "many"], "max_waiting: expected a positive number, got 'many'"),
        ("", ["--conf", "max_seconds", "-1"], "max_seconds: expected a positive number, got '-1'"),
        ("", ["--conf", "bundle", "nowhere"], "bundle: expected a bundle's folder, but there is no file"),
        ("", ["--conf", "token_file", "nowhere"], "token_file: expected a file with a token, but there is none at"),
        ("", ["--workers", "4"], "workers: expected 1"),
        ("", ["--uvicorn_app", "monailabel.app:app"], "uvicorn_app: expected monai_diffclf"),
        ("", ["--host", "0.0.0.0"], "host: expected 127.0.0.1, or a token for other machines, got 0.0.0.0"),  # noqa: S104
        ("", ["--host", "::"], "or a token for other machines, got ::"),
        ("", ["--host", "192.0.2.1"], "or a token for other machines, got 192.0.2.1"),
        ("..", [], "which holds the bundle"),
    ],
)
def test_wrong_option_ends_in_one_line(
    settings: Any,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    studies: str,
    words: list[str],
    reason: str,
) -> None:
    folder = tmp_path / "studies"
    folder.mkdir()
    named = bundle.parent if studies == ".." else folder / studies
    assert run(monkeypatch, "--studies", str(named), "--conf", "bundle", str(bundle), *words) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and reason in last
    assert not list(folder.iterdir()) and tempfile.tempdir is None


@pytest.mark.parametrize("words", [[], ["--host", "::1"], ["--host", "0.0.0.0", "--conf", "token_file", "TOKEN"]])  # noqa: S104
def test_right_options_start(
    settings: Any, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    from monailabel.interfaces.utils.app import clear_cache

    (tmp_path / "studies").mkdir()
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    given = [str(token) if word == "TOKEN" else word for word in words]
    clear_cache()
    assert run(monkeypatch, "--studies", str(tmp_path / "studies"), "--conf", "bundle", str(bundle), *given) == 0
    clear_cache()


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        ("short", 0o600, "expected one word of at least 32"),
        ("two words " * 10, 0o600, "expected one word of at least 32"),
        (TOKEN, 0o644, "others can read"),
    ],
)
def test_weak_token_is_refused(monailabel: None, tmp_path: Path, content: str, mode: int, reason: str) -> None:
    from monai_diffclf.monailabel.options import ServerOptions

    file = tmp_path / "token"
    file.write_text(content)
    file.chmod(mode)
    with pytest.raises(ValueError, match=reason):
        ServerOptions.from_conf({"token_file": str(file)})

"""What is known of images that lie elsewhere: added to, replaced, found again, and nothing where a file is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_diffclf.monailabel.remote_info import RemoteInfo


def test_what_is_added_is_found_again(tmp_path: Path) -> None:
    info = RemoteInfo(tmp_path / "info")
    assert info.get("1.2") == {} and not (tmp_path / "info").exists()
    info.update("1.2", {"a": 1, "score": {"b": [0.5, None]}})
    info.update("1.2", {"a": 2})
    info.update("1.3", {"a": 3})
    expected = {"a": 2, "score": {"b": [0.5, None]}}
    assert info.get("1.2") == expected and RemoteInfo(tmp_path / "info").get("1.2") == expected
    info.get("1.2")["a"] = 9  # a copy
    assert info.get("1.2") == expected
    info.replace("1.2", {"c": 1})
    assert info.get("1.2") == {"c": 1} and RemoteInfo(tmp_path / "info").get("1.3") == {"a": 3}


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff", b"7"])
def test_damaged_file_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "1.2.json").write_bytes(content)
    info = RemoteInfo(tmp_path)
    assert info.get("1.2") == {}
    info.update("1.2", {"a": 1})
    assert RemoteInfo(tmp_path).get("1.2") == {"a": 1}


def test_ids_are_plain_names(tmp_path: Path) -> None:
    info = RemoteInfo(tmp_path / "info")
    for name in ("../x", "a/b", "", ".x"):
        with pytest.raises(ValueError, match="image"):
            info.update(name, {"a": 1})
    with pytest.raises(TypeError):
        info.update("1.2", {"a": object()})
    assert info.get("1.2") == {} and not list(tmp_path.rglob("*.json"))

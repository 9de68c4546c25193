"""Names of the files of findings, and their order."""

from __future__ import annotations

from monai_diffclf._finding_files import finding_file, finding_folder, finding_paths


def test_findings_come_in_the_order_of_their_numbers(tmp_path):
    for number in range(12):
        finding_file(tmp_path, number).write_text("{}")
    (tmp_path / "finding_notes.txt").write_text("")
    assert finding_paths(tmp_path) == [finding_file(tmp_path, number) for number in range(12)]
    assert finding_paths(tmp_path / "absent") == []


def test_folders_too(tmp_path):
    for number in (1, 0):
        finding_folder(tmp_path, number).mkdir()
    assert finding_paths(tmp_path) == [finding_folder(tmp_path, 0), finding_folder(tmp_path, 1)]

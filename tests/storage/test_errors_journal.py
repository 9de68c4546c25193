"""The record of an evaluation under way: what is written, what is repaired, what is refused."""

from __future__ import annotations

import warnings

import pytest
import torch

from monai_diffclf.storage import ErrorsJournal

MADE_BY = {"network": "00aa", "seed": 0}
CLASSES, DRAWS = 2, 3
BLOCK = 4 * CLASSES * DRAWS


def journal_of(folder, *, rank=0, num_ranks=1, **changes) -> ErrorsJournal:
    settings = {"provenance": MADE_BY, "num_classes": CLASSES, "num_draws": DRAWS} | changes
    return ErrorsJournal(folder, rank=rank, num_ranks=num_ranks, **settings)


def values_of(key: str) -> torch.Tensor:
    """Errors that are the image's own, the last draw not made."""
    values = torch.rand(CLASSES, DRAWS, generator=torch.Generator().manual_seed(int(key, 16)))
    values[:, -1] = torch.nan
    return values


def write(folder, keys, **kwargs) -> None:
    with journal_of(folder, **kwargs) as journal:
        values = torch.stack([values_of(key) for key in keys])
        n = len(keys)
        journal.append(keys, values, predicted=[1] * n, network_evaluations=[4] * n, decided=[True] * n)


def assert_holds(journal: ErrorsJournal, keys) -> None:
    assert len(journal) == len(keys)
    assert all(key in journal for key in keys)
    for key, values in zip(keys, journal.get(keys).values, strict=True):
        torch.testing.assert_close(values, values_of(key), rtol=0, atol=0, equal_nan=True)


def test_round_trip(tmp_path):
    write(tmp_path / "new", ["0a", "0b"])
    write(tmp_path / "new", ["0c"])
    with warnings.catch_warnings(), journal_of(tmp_path / "new") as journal:
        warnings.simplefilter("error")
        assert_holds(journal, ["0c", "0a", "0b"])
        found = journal.get(["0b", "0a"])
        assert (found.network_evaluations.tolist(), found.decided.tolist()) == ([4, 4], [True, True])
        assert "0d" not in journal
        with pytest.raises(KeyError):
            journal.get(["0d"])
    rows = (tmp_path / "new" / "rows_rank_0.csv").read_text().splitlines()
    assert rows[0] == "image,block,predicted,network_evaluations,decided,crc32"
    assert [row.rsplit(",", 1)[0] for row in rows[1:]] == ["0a,0,1,4,1", "0b,1,1,4,1", "0c,2,1,4,1"]


def test_what_was_appended_is_there_before_the_journal_is_closed(tmp_path):
    with journal_of(tmp_path) as journal:
        journal.append(["0a"], values_of("0a")[None], predicted=[0], network_evaluations=[4], decided=[True])
        assert_holds(journal, ["0a"])
        with journal_of(tmp_path, rank=1, num_ranks=2) as other:
            assert_holds(other, ["0a"])


def cut_row(folder):
    path = folder / "rows_rank_0.csv"
    path.write_bytes(path.read_bytes()[:-5])


def cut_line_end(folder):
    path = folder / "rows_rank_0.csv"
    path.write_bytes(path.read_bytes()[:-1])


def cut_errors(folder):
    path = folder / "errors_rank_0.f32"
    path.write_bytes(path.read_bytes()[:-5])


def lose_row(folder):
    path = folder / "rows_rank_0.csv"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def change_errors(folder):
    path = folder / "errors_rank_0.f32"
    path.write_bytes(path.read_bytes()[:-BLOCK] + bytes(BLOCK))


def change_row(folder):
    path = folder / "rows_rank_0.csv"
    path.write_text(path.read_text().replace("0c,2,1,4,1", "0c,2,0,4,1"))


@pytest.mark.parametrize(
    ("damage", "dropped"),
    [
        (cut_row, rf"dropped 1 bad rows \['0c'\] and {BLOCK} bytes"),
        (cut_line_end, rf"dropped 1 bad rows \['0c'\] and {BLOCK} bytes"),
        (cut_errors, rf"dropped 1 bad rows \['0c'\] and {BLOCK - 5} bytes"),
        (lose_row, rf"dropped 0 bad rows \[\] and {BLOCK} bytes"),
        (change_errors, rf"dropped 1 bad rows \['0c'\] and {BLOCK} bytes"),
        (change_row, rf"dropped 1 bad rows \['0c'\] and {BLOCK} bytes"),
    ],
)
def test_a_damaged_end_is_removed_and_said(tmp_path, damage, dropped):
    write(tmp_path, ["0a", "0b", "0c"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    damage(tmp_path)
    with pytest.warns(UserWarning, match=rf"rows_rank_0.csv: kept 2 images; {dropped} .* computed anew"):
        journal = journal_of(tmp_path)
    assert_holds(journal, ["0a", "0b"])
    journal.append(["0c"], values_of("0c")[None], predicted=[1], network_evaluations=[4], decided=[True])
    journal.close()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with warnings.catch_warnings(), journal_of(tmp_path) as journal:
        warnings.simplefilter("error")
        assert_holds(journal, ["0a", "0b", "0c"])


def test_damage_in_the_middle_costs_that_image_only(tmp_path):
    write(tmp_path, ["0a", "0b", "0c"])
    path = tmp_path / "errors_rank_0.f32"
    content = bytearray(path.read_bytes())
    content[BLOCK] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"kept 2 images; dropped 1 bad rows \['0b'\] and 0 bytes"):
        journal_of(tmp_path).close()
    write(tmp_path, ["0b"])
    with journal_of(tmp_path) as journal:
        assert_holds(journal, ["0a", "0c", "0b"])


@pytest.mark.parametrize("left", ["", "image,blo"])
def test_a_kill_before_the_first_row(tmp_path, left):
    journal_of(tmp_path).close()
    (tmp_path / "rows_rank_0.csv").write_text(left)
    write(tmp_path, ["0a"])
    with journal_of(tmp_path) as journal:
        assert_holds(journal, ["0a"])


def test_several_processes_then_another_number(tmp_path):
    for rank, keys in enumerate((["0a", "0b"], ["0c"], ["0d", "0e"])):
        write(tmp_path, keys, rank=rank, num_ranks=3)
    path = tmp_path / "rows_rank_2.csv"
    path.write_bytes(path.read_bytes()[:-3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with journal_of(tmp_path, rank=1, num_ranks=2) as journal:  # rank 0 of 2 looks after the files of rank 2
            assert_holds(journal, ["0a", "0b", "0c", "0d"])
    with pytest.warns(UserWarning, match=r"rows_rank_2.csv: kept 1 images; dropped 1 bad rows \['0e'\]"):
        journal = journal_of(tmp_path)
    with journal:
        assert_holds(journal, ["0a", "0b", "0c", "0d"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"provenance": {"network": "00bb", "seed": 0}}, "network: expected '00bb', found '00aa'; name another folder"),
        (
            {"provenance": {"network": "00bb", "seed": 1}},
            "network: expected '00bb', found '00aa', seed: expected 1, found 0;",
        ),
        ({"provenance": MADE_BY | {"stopping": "None"}}, "stopping: expected 'None', found 'nothing'"),
        ({"num_draws": 4}, "num_draws: expected 4, found 3"),
    ],
)
def test_another_evaluation_is_refused(tmp_path, changes, message):
    write(tmp_path, ["0a"])
    with pytest.raises(ValueError, match=message) as refusal:
        journal_of(tmp_path, **changes)
    assert f"folder: {tmp_path} holds the record of another evaluation" in str(refusal.value)
    assert f"or delete {tmp_path} to start anew" in str(refusal.value)
    with journal_of(tmp_path) as journal:
        assert_holds(journal, ["0a"])


@pytest.mark.parametrize("text", ["{", "3"])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "journal.json").write_text(text)
    with pytest.raises(ValueError, match=r"folder: .*journal.json is no record of an evaluation"):
        journal_of(tmp_path)


def test_remove_leaves_what_is_not_its_own(tmp_path):
    folder = tmp_path / "journal"
    write(folder, ["0a"], rank=1, num_ranks=2)
    (folder / "notes.txt").touch()
    journal_of(folder).remove()
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").unlink()
    write(folder, ["0a"])
    journal_of(folder).remove()
    assert not folder.exists()


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="rank: expected 0 to num_ranks - 1 = 1, got 2"):
        journal_of(tmp_path, rank=2, num_ranks=2)
    with (
        journal_of(tmp_path) as journal,
        pytest.raises(ValueError, match=r"values: expected shape \[1, 2, 3\], got \[1, 2, 4\]"),
    ):
        journal.append(["0a"], torch.zeros(1, 2, 4), predicted=[0], network_evaluations=[8], decided=[True])


def test_a_journal_with_the_former_column_goes_on(tmp_path):
    write(tmp_path, ["0a", "0b"])
    rows = tmp_path / "rows_rank_0.csv"
    rows.write_text(rows.read_text().replace("network_evaluations", "evaluations"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write(tmp_path, ["0c"])
    with journal_of(tmp_path) as journal:
        assert_holds(journal, ["0a", "0b", "0c"])
        with pytest.warns(DeprecationWarning, match="evaluations is now network_evaluations"):
            assert journal.get(["0b"]).evaluations.tolist() == [4]
        with pytest.warns(DeprecationWarning, match="the argument evaluations is now network_evaluations"):
            journal.append(["0d"], values_of("0d")[None], predicted=[0], evaluations=[4], decided=[True])
        assert "0d" in journal

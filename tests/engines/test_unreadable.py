"""An image that cannot be read among others: these are classified, and it is named in its place."""

from __future__ import annotations

import csv

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, MetaTensor
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.engines import DiffusionClassifierEvaluator, TolerantDataset, Unreadable, collate_readable
from monai_diffclf.handlers import CaseReport, ClassificationWriter, ProgressBar
from monai_diffclf.inferers import DiffusionClassifierInferer


class Shift(torch.nn.Module):
    """Knows that class k is the constant image k."""

    def forward(self, x, timesteps, class_labels=None):
        return class_labels.float().reshape(-1, 1, 1, 1).expand_as(x)


class Stop:
    """Ends an evaluation after five batches, as Ctrl-C does."""

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=5), self.stop)

    def stop(self):
        raise KeyboardInterrupt


class Read:
    """Gives an image, or says why not."""

    def __call__(self, item):
        if item["key"].startswith("bad"):
            raise ValueError(f"{item['key']}: image file is\ntruncated")
        if item["key"].startswith("bug"):
            raise KeyError("pixels")
        value = float(len(item["key"]) % 2)
        meta = {"warnings": "one grey value" if value else ""}
        return {**item, "image": MetaTensor(torch.full((1, 4, 4), value), meta=meta)}


def evaluate(keys, folder, *, batch_size=2, num_workers=0, strict=False, journal_dir=None, handlers=()):
    dataset = TolerantDataset([{"key": key} for key in keys], Read(), strict=strict)
    evaluator = DiffusionClassifierEvaluator(
        torch.device("cpu"),
        DataLoader(dataset, batch_size=batch_size, num_workers=num_workers, collate_fn=collate_readable),
        Shift().eval(),
        inferer=DiffusionClassifierInferer(DDPMScheduler(100, prediction_type="sample"), num_draws=5),
        val_handlers=[ProgressBar(), ClassificationWriter(folder, ["=no", "yes"]), *handlers],
        explain=journal_dir is None,
        journal_dir=journal_dir,
    )
    evaluator.run()
    return evaluator


def rows(folder):
    table = folder / "predictions.csv"
    with (table if table.exists() else table.with_name("predictions.csv.part")).open(newline="") as file:
        return list(csv.DictReader(file))


KEYS = ["bad 1", "bad 2", "a", "bad 3", "ab", "abc", "bug", "abcd", "bad 4"]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 9])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_every_image_has_a_row_in_its_place(batch_size, num_workers, tmp_path):
    report = CaseReport(tmp_path / "cases.html", ["=no", "yes"])
    evaluator = evaluate(KEYS, tmp_path, batch_size=batch_size, num_workers=num_workers, handlers=[report])
    table = rows(tmp_path)
    assert [row["key"] for row in table] == KEYS
    assert [row["predicted"] for row in table] == ["", "", "yes", "", "'=no", "yes", "", "'=no", ""]
    assert [row["warnings"] for row in table] == ["", "", "one grey value", "", "", "one grey value", "", "", ""]
    failed = {key: f"{key}: image file is truncated" for key in KEYS if key.startswith("bad")}
    failed["bug"] = "KeyError: 'pixels'"
    assert {row["key"]: row["error"] for row in table if row["error"]} == failed == evaluator.failed
    assert all(row["probability_yes"] for row in table if not row["error"])
    page = (tmp_path / "cases.html").read_text(encoding="utf-8")
    assert "bad 4: image file is truncated" in page and "one grey value" in page


def test_the_table_is_the_same_whatever_the_batch(tmp_path):
    tables = []
    for batch_size in (1, 4):
        evaluate(KEYS, tmp_path / str(batch_size), batch_size=batch_size)
        tables.append((tmp_path / str(batch_size) / "predictions.csv").read_bytes())
    assert tables[0] == tables[1]


def test_the_table_is_the_same_after_a_stop(tmp_path):
    """Killed between two images, run again over its journal."""

    evaluate(KEYS, tmp_path / "whole", journal_dir=tmp_path / "journal")
    assert not (tmp_path / "journal").exists()
    with pytest.raises(KeyboardInterrupt):
        evaluate(KEYS, tmp_path / "cut", batch_size=1, journal_dir=tmp_path / "journal", handlers=[Stop()])
    assert len(rows(tmp_path / "cut")) < len(KEYS) and not (tmp_path / "cut" / "predictions.csv").exists()
    evaluate(KEYS, tmp_path / "cut", batch_size=1, journal_dir=tmp_path / "journal")
    whole, cut = ((tmp_path / name / "predictions.csv").read_bytes() for name in ("whole", "cut"))
    assert whole == cut


def test_strict_stops_at_once(tmp_path):
    with pytest.raises(RuntimeError) as caught:
        evaluate(["a", "bad 1"], tmp_path, strict=True)
    assert "image file is" in str(caught.value.__cause__)
    with pytest.raises(TypeError, match="strict: expected True or False, got 'no'"):
        TolerantDataset([], strict="no")


def test_nothing_that_can_be_read(tmp_path):
    evaluator = evaluate(["bad 1", "bad 2", "bad 3"], tmp_path)
    assert [row["key"] for row in rows(tmp_path)] == ["bad 1", "bad 2", "bad 3"]
    assert len(evaluator.failed) == 3


def test_a_second_run_starts_anew(tmp_path):
    evaluator = evaluate(["bad 1", "a"], tmp_path)
    evaluator.run()
    assert [row["key"] for row in rows(tmp_path)] == ["bad 1", "a"]
    assert list(evaluator.failed) == ["bad 1"]


def test_memory_is_not_an_image(tmp_path):
    def read(item):
        raise MemoryError

    with pytest.raises(RuntimeError, match="applying transform"):
        TolerantDataset([{"key": "a"}], read)._transform(0)


def test_items_without_a_name_are_numbered():
    assert TolerantDataset(["x"], lambda item: 1 / 0)[0] == Unreadable("0", "ZeroDivisionError: division by zero")

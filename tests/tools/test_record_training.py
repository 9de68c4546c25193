"""The table of a training says what its events say."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from tools.record_training import record


def test_metric_and_mean_loss_by_epoch(tmp_path: Path) -> None:
    with SummaryWriter(tmp_path) as writer:
        for step in range(1, 9):  # four iterations an epoch
            writer.add_scalar("train_loss", step / 8, step)
        writer.add_scalar("val_auc", 0.75, 2)
    lines = record(tmp_path).splitlines()
    assert lines == [
        "tag,step,value", "val_auc,2,0.750000", "train_loss,1,0.312500", "train_loss,2,0.812500",
    ]  # fmt: skip


def test_a_folder_without_a_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected the events of a training in"):
        record(tmp_path)

"""TensorBoard events of a run, written by tensorboard's own writer; its import waits until the first epoch is over."""

import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from residual.recipe import EpochEnd


class Board:
    """Event files under `folder`/tensorboard; silently none where tensorboard is not installed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.writer = folder / "tensorboard", None
        self.available = True

    def epoch(self, end: EpochEnd) -> None:
        """Writes the scalars of one epoch."""
        values = {
            "loss/train": end.train_loss, "accuracy/train": end.train_accuracy, "loss/validation": end.validation_loss,
            "accuracy/validation": end.validation_accuracy, "learning rate": end.learning_rate, "images per second": end.images_per_second,
        }  # fmt: skip
        writer = self._open()
        if writer is None:
            return
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        rows = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items() if value is not None]
        writer.add_event(Event(wall_time=time.time(), step=end.epoch, summary=Summary(value=rows)))
        writer.flush()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()

    def _open(self) -> Any:
        if self.writer is None and self.available:
            # tensorboard's own switch to do without TensorFlow, which it would import for seconds wherever it is installed
            sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
            try:
                from tensorboard.summary.writer.event_file_writer import EventFileWriter
            except ImportError:
                self.available = False
                return None
            self.writer = EventFileWriter(str(self.folder))
        return self.writer

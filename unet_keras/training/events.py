"""TensorBoard's files of a run that goes on: every point once, none missing.

What an epoch writes is on the disk before its checkpoint is. A run that was stopped therefore left
all points of the epochs it continues from, and perhaps some of later epochs, which it will write
again: these are cut off first. Points of the run have the number of their epoch for a step.
"""

import os
import shutil
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event

from unet_keras.records.framing import FramingError, read_frames

_FRAME_BYTES = 16  # around a record: its length and two checksums


def cut_events(folder: Path, last_epoch: int) -> None:
    """Remove what belongs to epochs after `last_epoch`, and half-written points.

    Args:
        folder: TensorBoard's folder of the run; may be absent.
        last_epoch: The epoch the run goes on from; 0 removes everything.
    """
    if last_epoch == 0:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for file in folder.rglob("events.out.tfevents.*"):
        end = _end_of(file, last_epoch)
        if end < file.stat().st_size:
            os.truncate(file, end)


def _end_of(file: Path, last_epoch: int) -> int:
    """Return the byte at which the first event to be removed begins."""
    end = 0
    try:
        for data in read_frames(file):
            if Event.FromString(data).step > last_epoch:
                break
            end += _FRAME_BYTES + len(data)
    except FramingError:
        pass
    return end

"""Processes that convert: bounded in number, in memory and in what waits between them."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import TypeVar

from unet_keras.errors import InputError
from unet_keras.records.build import warm_up
from unet_keras.records.parts import PART_IMAGES, Part, PartResult, UnfinishedError, convert_part

MOST_WORKERS = 32
_WAITING_PER_WORKER = 2

Task = TypeVar("Task")
Result = TypeVar("Result")


def convert_parts(parts: Sequence[Part], *, workers: int | None = None) -> Iterator[PartResult]:
    """Convert parts, and yield each result as it comes.

    Args:
        parts: What to convert.
        workers: Number of processes, at least 1; None takes one a core. One converts in this
            process.

    Raises:
        InputError: An image is damaged.
        UnfinishedError: A process was killed, or the disk is full.
    """
    if worker_count(workers, len(parts)) > 1:
        warm_up(parts[0].settings)  # where nothing is compiled yet, each would compile everything
    return run_tasks(convert_part, parts, workers=workers)


def run_tasks(
    function: Callable[[Task], Result], tasks: Sequence[Task], *, workers: int | None = None
) -> Iterator[Result]:
    """Call a function on tasks of up to `PART_IMAGES` images, and yield each result as it comes.

    Args:
        function: Of a module's top level, so that other processes find it.
        tasks: What to call it on, small and picklable.
        workers: Number of processes, at least 1; None takes one a core. One works in this process.

    Raises:
        InputError: What the function raised.
        UnfinishedError: A process was killed.
    """
    workers = worker_count(workers, len(tasks))
    if workers == 1:
        yield from map(function, tasks)
        return
    # Spawned, not forked: TensorFlow may be running threads here, and is never loaded there.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_enter_worker)
    waiting: set[Future[Result]] = set()
    try:
        for task in tasks:
            with _interrupts_held_back():  # a process may be started for it
                waiting.add(pool.submit(function, task))
            if len(waiting) >= workers * _WAITING_PER_WORKER:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except BrokenProcessPool as error:
        raise UnfinishedError(
            f"One of {workers} converting processes died, most likely for want of memory; start "
            "again with fewer (records.workers=1): what is finished is kept. In a script of "
            'yours, start the conversion under `if __name__ == "__main__":`.'
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def worker_count(workers: int | None, parts: int) -> int:
    """How many processes to start, 1 to `MOST_WORKERS`: never more than there is work for.

    Raises:
        InputError: `workers` is below 1.
    """
    if workers is not None and workers < 1:
        raise InputError(f"records.workers={workers} must be at least 1.")
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        # Starting processes takes longer than converting a few parts right here.
        workers = min(cores or os.cpu_count() or 1, parts * PART_IMAGES // 16)
    return max(1, min(workers, parts, MOST_WORKERS))


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Keep Ctrl-C waiting for so long, and from the processes that are started meanwhile.

    These inherit what is blocked, so that none is torn from its imports before it can ignore Ctrl-C
    itself; nor is one left without its task here. Where the system cannot do it, nothing happens.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # its start would let Ctrl-C through
    came: list[int] = []
    in_main = threading.current_thread() is threading.main_thread()
    # Threads of libraries still take it, and Python would raise it here.
    handler = signal.signal(signal.SIGINT, lambda *_: came.append(1)) if in_main else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if in_main:
            signal.signal(signal.SIGINT, handler)
    if came:
        signal.raise_signal(signal.SIGINT)


def _enter_worker() -> None:
    # The parent decides what an interrupt from the keyboard ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What is wrong with a file is said once, by the command.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: "multiprocessing.process.BaseProcess") -> None:
    """End this process when the parent was killed, which closes no queue by itself."""
    parent.join()
    os._exit(1)

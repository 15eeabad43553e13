"""Reading, computing and writing at the same time: disks and decoders are not waited for."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from unet_keras.errors import InputError

Item = TypeVar("Item")
Read = TypeVar("Read")
Computed = TypeVar("Computed")
Result = TypeVar("Result")


def in_stages(
    items: Iterable[Item],
    read: Callable[[Item], Read],
    compute: Callable[[Item, Read], Computed],
    finish: Callable[[Item, Computed], Result],
    *,
    ahead: int = 2,
) -> Iterator[tuple[Item, Result | InputError]]:
    """Take items through three stages, each at another item at a time.

    Args:
        items: What to work on.
        read: First stage, in a thread of its own.
        compute: Second stage, in the caller's thread.
        finish: Third stage, in a thread of its own.
        ahead: How many items wait between two stages at most.

    Yields:
        Each item with what its last stage returned, in their order; or with the `InputError` that
        a stage raised, after which the next items go on. Other errors end everything.
    """
    pending = iter(items)
    with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "finish") as finisher:
        reading = deque((item, reader.submit(read, item)) for item in islice(pending, ahead))
        finishing: deque[tuple[Item, Future[Result] | InputError]] = deque()
        while reading:
            item, given = reading.popleft()
            for following in islice(pending, 1):
                reading.append((following, reader.submit(read, following)))
            try:
                computed = compute(item, given.result())
                finishing.append((item, finisher.submit(finish, item, computed)))
            except InputError as error:
                finishing.append((item, error))
            while len(finishing) > ahead or (finishing and not reading):
                done, outcome = finishing.popleft()
                try:
                    yield done, outcome if isinstance(outcome, InputError) else outcome.result()
                except InputError as error:
                    yield done, error

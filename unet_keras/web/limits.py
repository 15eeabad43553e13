"""What a request may cost, and how it is refused.

Every refusal is an HTTP status and one line of text. Limits are checked before the work they bound:
bytes while they arrive, pixels in the file's header, requests before they wait.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import Request

Result = TypeVar("Result")

WHOLE_IMAGE_PIXELS = 2_000_000
TILE_PIXELS = 1024
LEAST_TILE_PIXELS = 256


class Refusal(Exception):  # noqa: N818 - not the server's error but its answer
    """An answer other than 200.

    Attributes:
        status: HTTP status, 400 to 599.
        message: One line: what came, what was expected.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True)
class Limits:
    """What one request may cost.

    Attributes:
        body_bytes: Of its body, in bytes.
        pixels: Of its images together.
        images: How many of them.
        seconds: From its first byte to its answer.
        waiting: Requests that wait while one is computed.
    """

    body_bytes: int = 64 * 2**20
    pixels: int = 25_000_000
    images: int = 16
    seconds: float = 60.0
    waiting: int = 16


def tile_for(shape: tuple[int, ...], asked: int | None = None) -> int | None:
    """Return the side of the tiles that an image (H, W, C) is predicted in; None for in one piece.

    Large images are predicted in tiles, so that memory stays bounded. What a client asks for is
    kept within bounds too: around each tile the network sees a margin that may be a hundred times
    as large as a tile of a few pixels, and results do not depend on it.
    """
    if asked is not None:
        return min(max(asked, LEAST_TILE_PIXELS), TILE_PIXELS)
    return TILE_PIXELS if shape[0] * shape[1] > WHOLE_IMAGE_PIXELS else None


async def read_body(request: Request, limits: Limits, memory: "Memory") -> bytes:
    """Read a request's body, no further than the limits allow.

    Raises:
        Refusal: 413 above the limit, 408 where it takes too long, 503 where the bodies of all
            requests together are too large.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limits.body_bytes:
        await _let_pass(request)
        raise _too_large(limits)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limits.body_bytes:
                    raise _too_large(limits)
                memory.hold(request, len(chunk))
                chunks.append(chunk)
    except Refusal:
        chunks.clear()
        memory.release(request)
        await _let_pass(request)
        raise
    except TimeoutError:
        raise Refusal(
            408, f"after {limits.seconds:g} seconds the body was not complete: {size} bytes came"
        ) from None
    return b"".join(chunks)


def _too_large(limits: Limits) -> Refusal:
    return Refusal(413, f"the body has more than {limits.body_bytes} bytes, the most allowed")


async def _let_pass(request: Request) -> None:
    """Read on for a moment and keep nothing: clients hear no answer while they are sending."""
    try:
        async with asyncio.timeout(5):
            while (message := await request.receive())["type"] == "http.request":
                if not message.get("more_body"):
                    break
    except TimeoutError:
        pass


class Memory:
    """The bytes that the bodies of all requests hold together."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._held: dict[Request, int] = {}

    def hold(self, request: Request, size: int) -> None:
        """Count bytes that came for a request.

        Raises:
            Refusal: 503, there are too many.
        """
        if size > self._left:
            raise _busy("the bodies of other requests take all memory there is for them")
        self._left -= size
        self._held[request] = self._held.get(request, 0) + size

    def release(self, request: Request) -> None:
        """Forget a request that was answered."""
        self._left += self._held.pop(request, 0)


class Worker:
    """One thread that computes, since TensorFlow takes all cores for one image, and its queue."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._taken = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prediction")

    async def run(self, request: Request, function: Callable[[], Result], until: float) -> Result:
        """Compute something in turn.

        Args:
            request: Whom it is for; when it goes away while it waits, nothing is computed.
            function: What to compute.
            until: The loop's time by which the answer is due.

        Raises:
            Refusal: 503 where too many wait, 504 where it takes too long.
        """
        if self._taken > self._limits.waiting:
            raise _busy(f"{self._limits.waiting} requests are waiting")
        loop = asyncio.get_running_loop()
        submitted: Future[Result] = self._thread.submit(function)
        self._taken += 1
        # A computation cannot be stopped; its place is free when it has ended, not when its
        # request was given up.
        submitted.add_done_callback(lambda _: self._leave(loop))
        work = asyncio.wrap_future(submitted)
        gone = asyncio.ensure_future(_disconnection(request))
        waited: set[asyncio.Future[Any]] = {work, gone}
        try:
            await asyncio.wait(
                waited, timeout=until - loop.time(), return_when=asyncio.FIRST_COMPLETED
            )
            if work.done():
                return work.result()
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()
        if gone.done() and not gone.cancelled():
            raise Refusal(499, "the client has closed the connection")
        raise Refusal(504, f"there was no result within {self._limits.seconds:g} seconds")

    def close(self) -> None:
        """Compute nothing any more of what is waiting."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _leave(self, loop: asyncio.AbstractEventLoop) -> None:
        def count() -> None:
            self._taken -= 1

        with suppress(RuntimeError):  # the server has stopped meanwhile
            loop.call_soon_threadsafe(count)


def _busy(reason: str) -> Refusal:
    return Refusal(503, f"the server is busy, {reason}: try again later")


async def _disconnection(request: Request) -> None:
    """Return when the client has gone; its body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass

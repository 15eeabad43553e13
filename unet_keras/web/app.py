"""The server's routes.

    GET  /                             the page
    POST /segment                      an image file, or a multipart form of several
    GET  /model                        what is served: metadata, defaults, limits
    GET  /v1/models/NAME               status               TensorFlow Serving's REST format
    GET  /v1/models/NAME/metadata      signatures
    POST /v1/models/NAME:predict       see `web.rest`

Errors are `{"error": "one line"}` with a fitting status, as TensorFlow Serving's are.
"""

import asyncio
import base64
import hashlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from unet_keras.errors import InputError
from unet_keras.inference.loading import Predictor
from unet_keras.web import rest
from unet_keras.web.answers import Answer, Question, describe, render
from unet_keras.web.limits import Limits, Memory, Refusal, Worker, read_body, tile_for
from unet_keras.web.uploads import Upload, decode, fit, split_form

logger = logging.getLogger(__name__)

VERSION = "1"

Prepare = Callable[[bytes], Awaitable[Callable[[], Response]]]


class Service:
    """A network and what stands between it and its clients.

    Args:
        predictor: The network.
        name: What it is called in addresses.
        limits: Of a request.
        question: What is asked where a request does not say.
    """

    def __init__(
        self, predictor: Predictor, *, name: str, limits: Limits, question: Question
    ) -> None:
        self.predictor, self.name, self.limits, self.question = predictor, name, limits, question
        self.worker = Worker(limits)
        # As many bodies as may wait, and as many again that are still arriving.
        self.memory = Memory(2 * (limits.waiting + 1) * limits.body_bytes)

    async def answer(self, request: Request, prepare: Prepare) -> Response:
        """Read the body, prepare an answer and compute it, all within the request's time."""
        until = asyncio.get_running_loop().time() + self.limits.seconds
        try:
            body = await read_body(request, self.limits, self.memory)
            return await self.worker.run(request, await prepare(body), until)
        except asyncio.CancelledError:  # by Ctrl-C, when it has waited for all answers long enough
            raise Refusal(503, "the server is being stopped") from None
        finally:
            self.memory.release(request)

    async def segment(self, request: Request) -> Response:
        """Answer with the instances of an image, or of several."""
        question = self.question.asked(request.query_params)

        async def prepare(body: bytes) -> Callable[[], Response]:
            if not request.headers.get("content-type", "").startswith("multipart/form-data"):
                return lambda: self._render(Upload("", body), question)
            uploads = await split_form(request.headers, body, self.limits)
            if question.output != "json" and len(uploads) > 1:
                raise Refusal(400, f"output={question.output} is for one image at a time")
            return partial(self._segment_files, uploads, question)

        return await self.answer(request, prepare)

    def _render(self, upload: Upload, question: Question) -> Response:
        content, media_type = render(self._find(upload, question))
        return Response(content, media_type=media_type)

    def _segment_files(self, uploads: list[Upload], question: Question) -> Response:
        if question.output != "json":
            return self._render(uploads[0], question)
        results, left = [], self.limits.pixels
        for upload in uploads:
            answer = self._find(upload, question, pixels=left)
            left -= answer.labels.size
            results.append(describe(answer))
        return JSONResponse({"images": results})

    def _find(self, upload: Upload, question: Question, *, pixels: int | None = None) -> Answer:
        """Decode, predict and label an image."""
        network = self.predictor
        image = decode(upload, pixels=self.limits.pixels if pixels is None else pixels)
        name = upload.name or "the image"
        image = fit(image, channels=network.channels, dtype=network.image_dtype, name=name)
        try:
            probabilities = network(image, tile=tile_for(image.shape))
            classes = tuple(network.metadata.get("classes", ()))
            return Answer.of(upload.name, image, probabilities, question, classes)
        except InputError as error:
            raise Refusal(422, f"{name}: {error}") from None

    async def predict(self, request: Request) -> Response:
        """Answer in TensorFlow Serving's format."""
        self._check_name(request)

        async def prepare(body: bytes) -> Callable[[], Response]:
            return lambda: JSONResponse(rest.predict(body, self.predictor, self.limits))

        return await self.answer(request, prepare)

    async def status(self, request: Request) -> Response:
        """Say that the model is there."""
        self._check_name(request)
        state = {
            "version": VERSION,
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
        return JSONResponse({"model_version_status": [state]})

    async def signatures(self, request: Request) -> Response:
        """Name the inputs of each signature."""
        self._check_name(request)
        spec = {"name": self.name, "signature_name": "", "version": VERSION}
        described = {
            name: {"inputs": {given: {"name": given} for given in inputs}}
            for name, inputs in rest.SIGNATURES.items()
        }
        signature_def = {"signature_def": {"signature_def": described}}
        return JSONResponse({"model_spec": spec, "metadata": signature_def})

    async def about(self, _: Request) -> Response:
        """Say what is served."""
        known: dict[str, Any] = {
            "name": self.name,
            "channels": self.predictor.channels,
            "threshold": self.question.rules.threshold,
            "minimum_area": self.question.rules.minimum_area,
            "method": self.question.rules.method,
            "limits": vars(self.limits),
            "metadata": self.predictor.metadata,
        }
        return JSONResponse(known)

    def _check_name(self, request: Request) -> None:
        name, version = request.path_params["name"], request.path_params.get("version", VERSION)
        if name != self.name or version != VERSION:
            raise Refusal(
                404, f"there is no model {name!r} of version {version}; there is {self.name!r}"
            )


def make_app(
    predictor: Predictor,
    *,
    name: str,
    limits: Limits,
    question: Question,
    hosts: tuple[str, ...] = ("*",),
) -> Starlette:
    """Build the application.

    Args:
        predictor: The network.
        name: What it is called in addresses.
        limits: Of a request.
        question: What is asked where a request does not say.
        hosts: Names that requests may address the server by. A server for this machine alone
            takes its own names only, or a web site could reach it under a name of its own.
    """
    service = Service(predictor, name=name, limits=limits, question=question)
    page = files("unet_keras.web").joinpath("page.html").read_text(encoding="utf-8")
    headers = {"Content-Security-Policy": _content_policy(page)}

    async def show_page(_: Request) -> Response:
        return HTMLResponse(page, headers=headers)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        service.worker.close()

    models = "/v1/models/{name}"
    routes = [
        Route("/", show_page),
        Route("/segment", service.segment, methods=["POST"]),
        Route("/model", service.about),
        Route(models + "/versions/{version}:predict", service.predict, methods=["POST"]),
        Route(models + ":predict", service.predict, methods=["POST"]),
        Route(models + "/metadata", service.signatures),
        Route(models + "/versions/{version}", service.status),
        Route(models, service.status),
    ]
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={
            Refusal: _refuse,
            HTTPException: _refuse,
            ClientDisconnect: _refuse,
            Exception: _fail,
        },
    )


async def _refuse(_: Request, error: Exception) -> Response:
    if isinstance(error, Refusal):
        headers = {"Retry-After": "5"} if error.status == 503 else {}
        return JSONResponse({"error": error.message}, error.status, headers)
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    return JSONResponse({"error": "the client has closed the connection"}, 499)


async def _fail(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return JSONResponse({"error": "the server failed on this request; its log says why"}, 500)


def _content_policy(page: str) -> str:
    """Allow the page its own script and style, its own server, and nothing else."""
    allowed = {}
    for tag in ("script", "style"):
        parts = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = (hashlib.sha256(part.encode()).digest() for part in parts)
        allowed[tag] = " ".join(f"'sha256-{base64.b64encode(d).decode()}'" for d in digests)
    return (
        f"default-src 'none'; script-src {allowed['script']}; style-src {allowed['style']}; "
        "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'self'"
    )

"""A web server on loopback that misbehaves as it is told."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Web:
    """What is served, how, and what was asked for.

    `cuts` holds, for each of the next responses, the number of bytes after which the connection is
    closed; `refusals` the statuses the next requests are answered with; `shifts` how far beside
    the wanted byte the next pieces say they begin.
    """

    files: dict[str, bytes]
    cuts: list[int] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    etags: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    shifts: list[int] = field(default_factory=list)
    states_length: bool = True
    server_name: str = "AmazonS3"
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    def etag(self, name: str) -> str:
        md5 = hashlib.md5(self.files[name], usedforsecurity=False).hexdigest()
        return self.etags.get(name, f'"{md5}"')


class Handler(BaseHTTPRequestHandler):
    web: Web

    def do_GET(self):
        web, name = self.web, self.path.removeprefix("/")
        asked = self.headers.get("Range")
        web.asked.append((name, asked))
        if web.refusals:
            self.send_error(web.refusals.pop(0))
            return
        if name not in web.files:
            self.send_error(404)
            return
        body, etag = web.files[name], web.etag(name)
        start = 0
        if asked and web.ranges and self.headers.get("If-Range") == etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            said = start + (web.shifts.pop(0) if web.shifts else 0)
            self.send_header("Content-Range", f"bytes {said}-{len(body) - 1}/{len(body)}")
        if web.states_length:
            self.send_header("Content-Length", str(len(body) - start))
        if etag:
            self.send_header("ETag", etag)
        self.end_headers()
        end = start + web.cuts.pop(0) if web.cuts else len(body)
        with suppress(ConnectionError):  # the other side has seen enough
            self.wfile.write(body[start:end])

    def version_string(self):
        return self.web.server_name

    def log_message(self, *_):
        pass


@contextmanager
def serving(files: dict[str, bytes], **named: object) -> Iterator[Web]:
    web = Web(files, **named)
    handler = type("Bound", (Handler,), {"web": web})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        web.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield web
        finally:
            server.shutdown()
            thread.join()

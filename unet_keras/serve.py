"""Command: segment images that others post, with a page to try it.

`python -m unet_keras.serve MODEL`
"""

import argparse
import importlib.util
import ipaddress
import logging
import re
import socket
from contextlib import ExitStack
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from unet_keras.command import import_tensorflow, run
from unet_keras.errors import InputError

if TYPE_CHECKING:
    from unet_keras.inference.loading import Predictor
    from unet_keras.web.answers import Question

logger = logging.getLogger(__name__)

# Distributions by the name they are imported by.
NEEDED = {"starlette": "starlette", "uvicorn": "uvicorn", "python_multipart": "python-multipart"}
CONNECTIONS = 256


def main() -> None:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m unet_keras.serve",
        description="Serve a trained network over HTTP: a page at /, images posted to /segment, "
        "and TensorFlow Serving's REST format at /v1/models/NAME:predict.",
        epilog="Example: curl --data-binary @cells.png 'http://127.0.0.1:8000/segment"
        "?output=json&outlines=polygons' (output: json, mask, labels, probability, overlay, all; "
        "outlines: rle, polygons, none). Places are x, y in pixels from the image's corner, half a "
        "pixel more than in predict's cells.csv. Stop it with Ctrl-C.",
    )
    parser.add_argument(
        "model", metavar="MODEL", help="run folder, .keras file, SavedModel or default"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (127.0.0.1: this machine only; 0.0.0.0: all that reach it)",
    )
    parser.add_argument(
        "--normalize", action=argparse.BooleanOptionalAction,
        help="match the grey values of each image to the training's, as predict does",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (8000)")
    parser.add_argument("--name", help="of the model, in addresses (that of its folder or file)")
    parser.add_argument(
        "--max-megabytes", type=float, default=64, metavar="N", help="of a request's body (64)"
    )
    parser.add_argument(
        "--max-megapixels",
        type=float,
        default=25,
        metavar="N",
        help="of its images together (25; in JSON never more than 4)",
    )
    parser.add_argument("--max-images", type=int, default=16, metavar="N", help="a request (16)")
    parser.add_argument(
        "--max-seconds", type=float, default=60, metavar="N", help="until its answer (60)"
    )
    parser.add_argument(
        "--max-waiting", type=int, default=16, metavar="N", help="requests in the queue (16)"
    )
    run(parser, _command)


def _command(arguments: argparse.Namespace) -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"serving needs {', '.join(NEEDED[name] for name in missing)}: "
            "pip install 'unet_keras[serve]'"
        )
    for name in ("max_megabytes", "max_megapixels", "max_images", "max_seconds"):
        value = getattr(arguments, name)
        if not 0 < value < inf:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} {value:g} must be a finite number above 0")
    if not 0 <= arguments.port < 2**16:
        raise InputError(f"--port {arguments.port} must be between 0 and 65535")
    if arguments.max_waiting < 0:
        raise InputError(f"--max-waiting {arguments.max_waiting} must be at least 0")
    # Before the network is loaded, so that a port in use is known at once.
    with open_socket(arguments.host, arguments.port) as listener:
        _serve(arguments, listener)


def _serve(arguments: argparse.Namespace, listener: socket.socket) -> None:
    """Load the network and answer until Ctrl-C."""
    from unet_keras.inference.asking import demand_model

    demand_model(arguments.model)
    import_tensorflow()
    import numpy as np
    import uvicorn

    from unet_keras.evaluation.tuning import tuned_overrides
    from unet_keras.inference.loading import open_predictor, place_of
    from unet_keras.web.app import make_app
    from unet_keras.web.limits import Limits

    model = place_of(arguments.model)
    predictor = open_predictor(
        model, overrides=tuned_overrides(model), normalize=arguments.normalize
    )
    name = arguments.name or name_of(model)
    if not re.fullmatch(r"[\w.-]+", name):
        raise InputError(f"--name {name!r} may hold letters, digits, '_', '-' and '.'")
    limits = Limits(
        body_bytes=round(arguments.max_megabytes * 2**20),
        pixels=round(arguments.max_megapixels * 1e6),
        images=arguments.max_images,
        seconds=arguments.max_seconds,
        waiting=arguments.max_waiting,
    )
    own = is_own_address(arguments.host)
    hosts = ("localhost", "127.0.0.1", "[::1]", arguments.host) if own else ("*",)
    question = question_for(predictor)
    app = make_app(predictor, name=name, limits=limits, question=question, hosts=hosts)
    # TensorFlow prepares what it does for the first time; better now than for the first client.
    predictor(np.zeros((64, 64, predictor.channels), predictor.image_dtype or np.uint8))
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_config=None, limit_concurrency=CONNECTIONS, timeout_graceful_shutdown=5
        )
    )
    host, port = listener.getsockname()[:2]
    logger.info("model:  %s, as %s", arguments.model, name)
    logger.info("page:   http://%s:%d/", f"[{host}]" if ":" in host else host, port)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        logger.info("stopped")


def open_socket(host: str, port: int) -> socket.socket:
    """Take an address; who connects waits for the server.

    Raises:
        InputError: It is in use, not this machine's, or not allowed.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with ExitStack() as unless_bound:
            listener = unless_bound.enter_context(socket.socket(family, kind))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)  # or another server that is starting could take the port too
            unless_bound.pop_all()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"cannot listen on {host}, port {port}: {reason}; give another --host or --port"
        ) from None
    return listener


def is_own_address(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def name_of(model: Path) -> str:
    """Name a model by its run's folder or its file."""
    path = model.resolve()
    name = path.parent.name if path.name == "saved_model" else path.name.removesuffix(".keras")
    return re.sub(r"[^\w.-]+", "_", name) or "model"


def question_for(predictor: "Predictor") -> "Question":
    """Return how the model's probabilities become instances where a request does not say."""
    from unet_keras.inference.instances import InstanceRules
    from unet_keras.web.answers import Question

    return Question(rules=InstanceRules.of(predictor.metadata))


if __name__ == "__main__":
    main()

"""A network as a compiled function from images to probabilities, of arrays.

    images         uint8, uint16 or float  (B, H, W, C)  raw grey values
    probabilities  float32  (B, H', W', K + T)  sigmoid (K = 1) or softmax; then the regression maps

It is compiled once a network and type of images, not for each size.
"""

from collections.abc import Callable
from weakref import WeakKeyDictionary, ref

import keras
import numpy as np
import tensorflow as tf

from unet_keras.model.geometry import map_channels

Predict = Callable[[np.ndarray], np.ndarray]

# A graph that holds its weights must stay below 2 GB to be loaded.
LARGEST_FIXED_BYTES = 2**30

# Held weakly: a network that nobody uses takes its compiled functions with it.
_compiled: WeakKeyDictionary[keras.Model, dict[tuple[str, bool], Predict]] = WeakKeyDictionary()


def compiled_prediction(model: keras.Model, dtype: np.dtype, *, fixed: bool = False) -> Predict:
    """Return the network's function from a batch of images to probabilities, compiled once.

    It is traced once for each of uint8, uint16 and float32 (which stands for the rest).

    Args:
        model: (B, H, W, C) -> logits (B, H', W', K + T).
        dtype: Of the images.
        fixed: Whether the weights will not change any more. If not, later changes are followed. If
            so, a CPU gets a graph that holds them, which it lays out for its registers once: at
            base width 64 an image took 1.5 s instead of 2.4, the first one 1.6 s more.

    Returns:
        Function from `dtype` (B, H, W, C) to float32 (B, H', W', K + T).
    """
    kind = dtype.name if dtype.name in ("uint8", "uint16") else "float32"
    fixed = fixed and not tf.config.list_physical_devices("GPU")
    fixed = fixed and 4 * model.count_params() < LARGEST_FIXED_BYTES
    functions = _compiled.setdefault(model, {})
    if (kind, fixed) not in functions:
        function = _traced(model, kind)
        functions[kind, fixed] = _holding_its_weights(function) if fixed else _arrays_of(function)
    run = functions[kind, fixed]
    return lambda batch: run(batch.astype(kind, copy=False))


def to_probabilities(logits: tf.Tensor, maps: int = 0) -> tf.Tensor:
    """Turn logits (..., K + T) into probabilities, float32, and leave the T maps as they are."""
    logits = tf.cast(logits, tf.float32)
    classes = logits.shape[-1] - maps
    scores = logits[..., :classes]
    probabilities = tf.sigmoid(scores) if classes == 1 else tf.nn.softmax(scores)
    return tf.concat([probabilities, logits[..., classes:]], axis=-1)


def _traced(model: keras.Model, kind: str) -> tf.types.experimental.PolymorphicFunction:
    weak_model, maps = ref(model), map_channels(model)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, model.input_shape[-1]), kind)])
    def run(images: tf.Tensor) -> tf.Tensor:
        network = weak_model()
        if network is None:
            raise ReferenceError("the model is gone: keep it as long as its function")
        logits = network(tf.cast(images, tf.float32), training=False)
        return to_probabilities(logits, maps)

    return run


def _arrays_of(function: tf.types.experimental.PolymorphicFunction) -> Predict:
    return lambda batch: function(batch).numpy()


def _holding_its_weights(function: tf.types.experimental.PolymorphicFunction) -> Predict:
    """Return the function with its weights as constants, in a session.

    oneDNN arranges weights in blocks that fit its kernels. TensorFlow lets it only where they are
    constants, and sees that in the graph of a session, not in one that is called as a function:
    there, even frozen weights stay as they are, and convolutions read them slowly.
    """
    traced = function.get_concrete_function()
    definition = traced.graph.as_graph_def()
    variables = {inner.op.name: outer for outer, inner in traced.graph.captures}
    weights = {}
    for node in definition.node:
        if node.op == "ReadVariableOp":
            variable, dtype = variables[node.input[0]], node.attr["dtype"].type
            read = tf.raw_ops.ReadVariableOp(resource=variable, dtype=dtype)
            weights[f"{node.name}:0"] = read.numpy()
        # Nothing here has effects that others would have to wait for; a function's end waits for
        # its variables to be read, which are none any more.
        inputs = [name for name in node.input if not name.startswith("^")]
        del node.input[:]
        node.input.extend(inputs)
    options = tf.compat.v1.ConfigProto()
    # The rewriter's second pass finds nothing, and takes two seconds at base width 64.
    options.graph_options.rewrite_options.meta_optimizer_iterations = 1
    with tf.Graph().as_default() as graph:
        constants = {name: tf.constant(value) for name, value in weights.items()}
        tf.graph_util.import_graph_def(definition, input_map=constants, name="")
    session = tf.compat.v1.Session(graph=graph, config=options)
    predict: Predict = session.make_callable(traced.outputs[0].name, [traced.inputs[0].name])
    return predict

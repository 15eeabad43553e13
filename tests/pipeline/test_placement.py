"""`augment.device`, tried with two logical CPUs; such a machine needs a process of its own."""

import subprocess
import sys

import pytest

SCRIPT = """
import numpy as np
import tensorflow as tf

[cpu] = tf.config.list_physical_devices("CPU")
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
tf.config.set_soft_device_placement(False)

from unet_keras.pipeline import augment

def transformed(device, compiled):
    augmentation = augment.Augmentation(device=device, jit_compile=compiled)
    crop = (16, 24)
    window = augment.window_size(augmentation, crop)

    def cut(number):
        image = tf.cast(tf.reshape(tf.range(90 * 80), [90, 80, 1]), tf.float32)
        parameters = augment.sample_parameters(augmentation, 1, number, (90, 80), crop)
        return augment.cut_windows(parameters, window, image)[0], parameters

    def transform(image, parameters):
        return augment.augment_batch(
            image, None, None, parameters, augmentation=augmentation, crop=crop
        )[0]

    data = tf.data.Dataset.range(4).map(cut).batch(2)
    return transform, data

for compiled in (True, False):
    transform, data = transformed("cpu:1", compiled)
    batch = next(iter(data))
    assert transform(*batch).device.endswith("CPU:1"), transform(*batch).device

    # Every operation of ours in the graph asks for the device ...
    operations = tf.function(transform).get_concrete_function(*batch).graph.get_operations()
    asked = {op.device for op in operations if op.type not in ("Placeholder", "Identity")}
    assert asked == {"/device:CPU:1"}, asked

    # ... the pipeline heeds it ...
    there = np.concatenate(list(data.map(transform).as_numpy_iterator()))
    transform, data = transformed("auto", compiled)
    assert transform(*batch).device.endswith("CPU:0")
    here = np.concatenate(list(data.map(transform).as_numpy_iterator()))
    np.testing.assert_array_equal(there, here)

# ... and fails where there is none.
augment.device_name = lambda device: "/CPU:7"
transform, data = transformed("auto", True)
try:
    next(iter(data.map(transform)))
except tf.errors.InvalidArgumentError as error:
    assert "explicitly assigned to /device:CPU:7" in str(error), error
else:
    raise AssertionError("placement was ignored")
"""


@pytest.mark.slow
def test_resampling_runs_on_the_device_that_is_asked_for():
    command = [sys.executable, "-c", SCRIPT]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]

"""The two published recipes: what their documents say is what their configs build and train."""

from pathlib import Path

import keras
import numpy as np
import pytest
from scipy.special import log_softmax

from unet_keras.config import Config, load
from unet_keras.evaluation.scoring import read_records
from unet_keras.model.geometry import geometry_of
from unet_keras.records.manifest import read_manifest
from unet_keras.targets.borders import border_map
from unet_keras.targets.labels import separate_touching
from unet_keras.training import fit
from unet_keras.training.resume import newest_state

CONFIGS = Path(__file__).parent.parent / "configs"
ISBI, LIVECELL = CONFIGS / "unet2015_isbi.yaml", CONFIGS / "unets2023_livecell.yaml"
# Equal networks in all but width, trained on the small records of the tests.
SHRUNK = [
    "model.base_filters=2", "train.precision=float32", "train.panel_epochs=0",
    "augment.jit_compile=false",
]  # fmt: skip


def model_of(config: Config, records: Path) -> keras.Model:
    """The config's network as training compiles it, for grey images with one class."""
    return fit.compiled_model(config, read_manifest(records), fit.plan(config, 1)[0])


@pytest.mark.slow
def test_the_network_of_2015(records: Path) -> None:
    model = model_of(load(ISBI), records)
    assert model.count_params() == 31_030_658
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("Conv2D") + kinds.count("Conv2DTranspose") == 23
    assert (kinds.count("Conv2DTranspose"), kinds.count("MaxPooling2D")) == (4, 4)
    assert (kinds.count("Cropping2D"), kinds.count("Concatenate")) == (4, 4)
    assert kinds.count("Dropout") == 2
    assert not [kind for kind in kinds if "BatchNorm" in kind or "GroupNorm" in kind]
    assert model.compute_output_shape((1, 572, 572, 1)) == (1, 388, 388, 2)
    assert geometry_of(model).margin_pixels == 92
    optimizer = model.optimizer
    assert (type(optimizer).__name__, optimizer.momentum) == ("SGD", 0.99)


def test_the_loss_of_2015_is_equation_1(records: Path) -> None:
    model = model_of(load(ISBI, SHRUNK), records)
    random = np.random.default_rng(0)
    logits, index = random.normal(size=(1, 9, 7, 2)), random.integers(0, 2, (1, 9, 7))
    weight = random.uniform(0, 12, (1, 9, 7))
    p = np.take_along_axis(log_softmax(logits, axis=-1), index[..., None], axis=-1)[..., 0]
    packed = np.stack([index, weight], axis=-1)
    assert float(model.loss(packed, logits)) == pytest.approx(-(weight * p).sum(), rel=1e-5)


def test_the_weights_of_2015_are_equation_2(records: Path) -> None:
    config = load(ISBI, [*SHRUNK, f"records.path={records}", "pipeline.crop=[332, 332]"])
    manifest = read_manifest(records)
    data = fit.validation_data(config, fit.plan(config, 1)[0], margin=92)
    packed = np.concatenate([batch[1].numpy() for batch in data])
    assert packed.shape == (2, 148, 148, 2), "the center of the tile"
    balanced = [1 / (2 * share) for share in manifest.class_frequencies]
    for found, record in zip(packed, read_records(records, manifest, "val"), strict=True):
        cells = separate_touching(record["labels"])[6:154, 22:170]
        border = border_map(separate_touching(record["labels"]), sigma_pixels=5)[6:154, 22:170]
        weight = np.where(cells > 0, balanced[1], balanced[0] + 10 * border)
        np.testing.assert_array_equal(found[..., 0], cells > 0)
        np.testing.assert_allclose(found[..., 1], weight, atol=1e-3)
        assert weight.max() > 9, "no cells touch: nothing was compared"


def test_training_of_2015_sees_these_weights_too(records: Path) -> None:
    config = load(ISBI, [*SHRUNK, f"records.path={records}", "pipeline.crop=[188, 188]"])
    data = fit.training_data(config, fit.plan(config, 1)[0], start_step=0, margin=92)
    packed = np.concatenate([batch[1].numpy() for batch in data.take(8)])
    assert packed.shape == (8, 4, 4, 2), "the center of the tile"
    frequencies = read_manifest(records).class_frequencies
    index, weight = packed[..., 0], packed[..., 1]
    assert weight[index == 1] == pytest.approx(1 / (2 * frequencies[1]))
    between = weight[index == 0] - 1 / (2 * frequencies[0])
    assert -1e-5 < between.min() < 1 < between.max() <= 10


@pytest.mark.slow
def test_the_network_of_2023(records: Path) -> None:
    config = load(LIVECELL)
    model = model_of(config, records)
    # Counted in PyTorch: DoubleConv without bias, BatchNorm2d, ConvTranspose2d, 1x1 output.
    assert sum(np.prod(weight.shape) for weight in model.trainable_weights) == 31_036_481
    blocks = ["down_1", "down_2", "down_3", "down_4", "bottleneck", "up_4", "up_1"]
    filters = [model.get_layer(f"{block}_conv_2").filters for block in blocks]
    assert filters == [64, 128, 256, 512, 1024, 512, 64]
    names = [layer.name for layer in model.layers]
    first = names.index("down_1_conv_1")
    assert names[first : first + 7] == [
        "down_1_conv_1", "down_1_norm_1", "down_1_relu_1",
        "down_1_conv_2", "down_1_norm_2", "down_1_relu_2", "down_1_pool",
    ]  # fmt: skip
    assert model.get_layer("logits").kernel.shape == (1, 1, 64, 1)
    assert config.pipeline.crop == (333, 434)
    assert config.pipeline.batch_size == 2
    assert model.compute_output_shape((2, 333, 434, 1)) == (2, 333, 434, 1)
    adam = model.optimizer
    assert (adam.amsgrad, adam.beta_1, adam.beta_2) == (True, 0.9, 0.999)


def test_the_loss_of_2023_is_pytorchs_and_monais(records: Path) -> None:
    """`BCEWithLogitsLoss(weight=w)` is a mean over pixels; equation 2 is the coefficient."""
    model = model_of(load(LIVECELL, SHRUNK), records)
    random = np.random.default_rng(0)
    logits, index = random.normal(size=(1, 9, 7)), random.integers(0, 2, (1, 9, 7))
    weight = np.where(index == 0, 2.0, 1.0)
    p = 1 / (1 + np.exp(-logits))
    entropy = -(weight * (index * np.log(p) + (1 - index) * np.log(1 - p))).mean()
    dice = 2 * (p * index).sum() / ((p**2).sum() + (index**2).sum())
    packed = np.stack([index, weight], axis=-1)
    assert float(model.loss(packed, logits[..., None])) == pytest.approx(entropy + 1 - dice, 1e-5)


def test_the_background_weighs_more_in_2023(records: Path) -> None:
    alone = ["loss.border_weight=0", "pipeline.crop=[64, 64]"]
    config = load(LIVECELL, [*SHRUNK, f"records.path={records}", *alone])
    data = fit.training_data(config, fit.plan(config, 1)[0], start_step=0, margin=0)
    index, weight = np.moveaxis(next(iter(data))[1].numpy(), -1, 0)
    np.testing.assert_array_equal(weight, np.where(index == 0, 2, 1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "overrides", "phases"),
    [
        (ISBI, ["pipeline.crop=[204, 188]", "train.steps_per_epoch=2"], [1]),
        (LIVECELL, ["pipeline.crop=[37, 50]", "train.steps_per_epoch=1"], [1, 2]),
    ],
    ids=["2015", "2023"],
)
def test_a_shrunk_recipe_trains(
    path: Path, overrides: list[str], phases: list[int], records: Path, tmp_path: Path
) -> None:
    epochs = [f"train.phases.{number}.epochs=1" for number in range(len(phases))]
    places = [f"records.path={records}", f"train.run_dir={tmp_path / 'run'}"]
    run = fit.train(load(path, [*SHRUNK, *overrides, *epochs, *places]))
    state = newest_state(run)
    assert state is not None
    assert [row["phase"] for row in state.history] == phases
    # The second phase of 2023 sees every crop twice: 1 + 2 steps.
    assert state.step == (2 if path == ISBI else 3)
    assert all(np.isfinite(list(row.values())).all() for row in state.history)
    model = keras.saving.load_model(run / "model.keras")
    assert model.output_shape[-1] == (2 if path == ISBI else 1)

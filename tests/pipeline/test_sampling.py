import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_keras.errors import InputError
from unet_keras.pipeline import fields, geometry
from unet_keras.pipeline.augment import NO_AUGMENTATION, Augmentation, coordinates_from
from unet_keras.pipeline.sampling import (
    field_degree,
    sample_displacements,
    sample_field,
    sample_noise,
    sample_parameters,
    window_size,
)

CROP = (24, 32)


def draw(augmentation: Augmentation, numbers: int, seed=7, size=(60, 70), crop=CROP) -> dict:
    data = tf.data.Dataset.range(numbers).map(
        lambda number: sample_parameters(augmentation, seed, number, size, crop)
    )
    return next(data.batch(numbers).as_numpy_iterator())


class TestField:
    def test_same_seed_same_field(self):
        np.testing.assert_array_equal(sample_field(3, (40, 50)), sample_field((3, 0), (40, 50)))
        assert not np.array_equal(sample_field(3, (40, 50)), sample_field(4, (40, 50)))

    def test_it_is_the_map_that_warp_takes(self):
        image = np.random.default_rng(0).random((40, 50), np.float32)
        still = sample_field(0, (40, 50), deviation_pixels=0.0)
        np.testing.assert_array_equal(geometry.warp(image, still), image)

    def test_its_corners_are_the_displacements_of_the_grid(self):
        moved = sample_field((1, 2), (40, 50), grid=(2, 4)) - geometry.identity_coordinates(
            (40, 50)
        )
        grid = sample_displacements(tf.constant([1, 2]), (2, 4), 10.0)
        np.testing.assert_allclose(moved[::39, ::49], grid[:, ::3], atol=1e-4)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"seed": (1, 2, 3)}, r"seed=\(1, 2, 3\) must be one number or two"),
            ({"deviation_pixels": math.nan}, "deviation_pixels=nan must be at least 0"),
            ({"deviation_pixels": -3.0}, r"deviation_pixels=-3\.0 must be at least 0"),
            ({"grid": (1, 3)}, r"grid=\(1, 3\) must have 2 rows"),
        ],
    )
    def test_mistakes_are_named(self, arguments, message):
        with pytest.raises(InputError, match=message):
            sample_field(**{"seed": 1, "size": (40, 50), **arguments})


def test_displacements_are_gaussian_cut_and_independent():
    draws = tf.data.Dataset.range(600).map(lambda k: sample_displacements([5, k], (3, 3), 10.0))
    drawn = np.stack(list(draws.as_numpy_iterator()))
    assert abs(drawn.mean()) < 0.5
    assert abs(drawn.std() - 10) < 0.3
    assert np.abs(drawn).max() <= 30
    # Keras' elastic_transform moves along the diagonal only.
    assert abs(np.corrcoef(drawn[..., 0].ravel(), drawn[..., 1].ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (300, 200)])
def test_noise_has_a_number_for_each_direction_in_every_pixel(size):
    noise = sample_noise([1, 2], size)
    assert noise.shape == (2, *size)
    assert noise.dtype == tf.int8


def test_noise_is_uniform_and_independent():
    noise = sample_noise([1, 2], (300, 200)).numpy().astype(int)
    share = np.bincount(noise.ravel() + 128, minlength=256) / noise.size
    np.testing.assert_allclose(share, 1 / 256, atol=1e-3)
    for one, other in (
        (noise[0], noise[1]),
        (noise[:, 1:], noise[:, :-1]),
        (noise[:, :, 1:], noise[:, :, :-1]),
    ):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.02


class TestParameters:
    def test_seed_and_number_decide(self):
        everything = Augmentation(noise=0.1, blur_pixels=1.0, gamma=(0.5, 2.0), zoom=(0.8, 1.2))
        first, again = draw(everything, 3), draw(everything, 3)
        for name in first:
            np.testing.assert_array_equal(first[name], again[name])
        other = draw(everything, 3, seed=8)
        for name in set(first) - {"crop_top_left", "window_top_left", "center"}:
            assert not np.array_equal(first[name], other[name]), name
            assert not np.array_equal(first[name][0], first[name][1]), name

    def test_a_setting_changes_only_what_it_is_about(self):
        plain = draw(Augmentation(), 3)
        more = draw(Augmentation(noise=0.1, blur_pixels=1.0), 3)
        for name in plain:
            np.testing.assert_array_equal(plain[name], more[name])

    def test_ranges(self):
        augmentation = Augmentation(
            deviation_pixels=0.0,
            rotation_degrees=20.0,
            zoom=(0.5, 2.0),
            brightness=0.3,
            contrast=0.4,
            gamma=(0.5, 3.0),
            blur_pixels=2.0,
        )
        drawn = draw(augmentation, 300)
        zoom = 1 / np.sqrt(np.abs(np.linalg.det(drawn["matrix"])))
        for values, low, high in (
            (drawn["brightness"], -0.3, 0.3),
            (drawn["contrast"], 0.6, 1.4),
            (drawn["gamma"], 0.5, 3.0),
            (drawn["blur"], 0.0, 2.0),
            (zoom, 0.5, 2.0),
        ):
            assert low - 1e-5 <= values.min() < low + 0.05 * (high - low)
            assert high - 0.05 * (high - low) < values.max() <= high + 1e-5
        # As often enlarged as made smaller.
        assert abs((zoom > 1).mean() - 0.5) < 0.1
        mirrored = np.linalg.det(drawn["matrix"]) < 0
        assert abs(mirrored.mean() - 0.5) < 0.1
        angle = np.degrees(np.arctan2(drawn["matrix"][..., 0, 1], drawn["matrix"][..., 0, 0]))
        assert np.abs((angle + 90) % 180 - 90).max() <= 20.001

    def test_crops_are_everywhere_in_the_image(self):
        drawn = draw(NO_AUGMENTATION, 400, size=(27, 34))["crop_top_left"]
        assert {tuple(place) for place in drawn} == {(r, c) for r in range(4) for c in range(3)}

    def test_an_image_smaller_than_the_crop_is_in_its_center(self):
        drawn = draw(NO_AUGMENTATION, 3, size=(20, 32))["crop_top_left"]
        np.testing.assert_array_equal(drawn, [[-2, 0]] * 3)


MOVING = st.builds(
    Augmentation,
    deviation_pixels=st.sampled_from([0.0, 4.0]),
    rotation_degrees=st.sampled_from([0.0, 10.0, 60.0, 180.0]),
    zoom=st.sampled_from([(1.0, 1.0), (0.7, 1.5), (1.3, 2.0)]),
    shift_pixels=st.sampled_from([0.0, 6.0]),
    flip=st.just(True),
)


class TestWindows:
    @settings(max_examples=30, deadline=None)
    @given(augmentation=MOVING, number=st.integers(0, 10**6))
    def test_no_pixel_comes_from_outside_the_window(self, augmentation, number):
        window = window_size(augmentation, CROP)
        parameters = sample_parameters(augmentation, 1, number, (2000, 2000), CROP)
        # As if the image went on for ever.
        parameters["center"] = tf.constant([(side - 1) / 2 for side in window])
        coordinates = coordinates_from(parameters, augmentation=augmentation, crop=CROP).numpy()
        assert coordinates.min() >= 0
        assert (coordinates <= np.array(window) - 1).all()

    @pytest.mark.parametrize("size", [(60, 70), (30, 40), (20, 28), (15, 23)])
    @pytest.mark.parametrize("moving", [False, True])
    def test_what_is_left_of_a_crop_lies_anywhere_in_the_image(self, size, moving):
        """Networks of valid convolutions learn the pixels at the image's edge too."""
        margin, middle = 5, (np.array(CROP) - 1) / 2
        augmentation = Augmentation(deviation_pixels=0.0) if moving else NO_AUGMENTATION
        window = window_size(augmentation, CROP, size)
        data = tf.data.Dataset.range(300).map(
            lambda number: sample_parameters(
                augmentation, 0, number, size, CROP, window=window, margin=margin
            )
        )
        drawn = next(data.batch(300).as_numpy_iterator())
        places = drawn["window_top_left"] + drawn.get("center", middle) - middle + margin
        room = np.array(size) - (np.array(CROP) - 2 * margin)
        np.testing.assert_array_equal(np.min(places, axis=0), np.minimum(0, room // 2))
        np.testing.assert_array_equal(np.max(places, axis=0), np.where(room < 0, room // 2, room))

    def test_without_movement_the_window_is_the_crop(self):
        assert window_size(NO_AUGMENTATION, CROP) == CROP

    def test_never_larger_than_images_of_one_size(self):
        assert window_size(Augmentation(), CROP, (40, 5000)) == (
            40,
            window_size(Augmentation(), CROP)[1],
        )

    @pytest.mark.parametrize("size", [(500, 400), (100, 30), (10, 12)])
    def test_windows_lie_inside_wherever_they_fit(self, size):
        augmentation = Augmentation(deviation_pixels=2.0)
        window = np.array(window_size(augmentation, CROP))
        fits = np.array(size) >= window
        for number in range(20):
            place = sample_parameters(augmentation, 0, number, size, CROP)["window_top_left"]
            inside = (place.numpy() >= 0) & (place.numpy() + window <= size)
            assert inside[fits].all()

    @pytest.mark.parametrize("sigma", [0.01, 0.3, 4.0])
    def test_smooth_fields_need_no_more_than_alpha_around_the_crop(self, sigma):
        augmentation = Augmentation(
            kind="smooth", alpha=20.0, sigma=sigma, rotation_degrees=0.0, flip=False
        )
        window = window_size(augmentation, CROP)
        assert max(side - crop for side, crop in zip(window, CROP, strict=True)) <= 2 * 22

    @pytest.mark.parametrize("sigma", [4.0, 6.5])
    def test_the_largest_displacement_of_smooth_fields(self, sigma):
        augmentation = Augmentation(
            kind="smooth", alpha=60.0, sigma=sigma, rotation_degrees=0.0, flip=False
        )
        crop = (48, 64)
        margin = (window_size(augmentation, crop)[0] - crop[0]) // 2
        rows = draw(augmentation, 20, crop=crop)["spline_rows"]
        degree = field_degree(augmentation, crop)
        assert degree == (1 if sigma < 6 else 5)
        moved = fields.add_spline_rows(0.0, rows, crop[0], degree=degree).numpy()
        assert np.abs(moved).max() <= margin
        # Noise uniform in [-1, 1) has the deviation 1 / sqrt(3); the Gaussian divides it.
        expected = 60 / math.sqrt(3) / (2 * math.sqrt(math.pi) * sigma)
        assert 0.8 * expected < moved[:, 12:-12, 12:-12].std() < 1.2 * expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"grid": (1, 3)}, "augment.grid=(1, 3) must be two numbers of at least 2"),
        ({"grid": (3,)}, "augment.grid=(3,) must be two numbers"),
        ({"kind": "spiral"}, "augment.kind='spiral' must be one of ('grid', 'smooth')"),
        ({"deviation_pixels": -1.0}, "augment.deviation_pixels=-1.0 must be at least 0"),
        ({"alpha": math.nan}, "augment.alpha=nan must be at least 0 and finite"),
        ({"sigma": 0.0}, "augment.sigma=0.0 must be above 0"),
        ({"zoom": (2.0, 1.0)}, "augment.zoom=(2.0, 1.0) must be two numbers above 0"),
        ({"gamma": (0.0, 1.0)}, "augment.gamma=(0.0, 1.0) must be two numbers above 0"),
        ({"image_order": 2}, "augment.image_order=2 must be one of (1, 3)"),
        ({"device": ""}, "augment.device is empty"),
    ],
)
def test_values_that_cannot_be(values, message):
    with pytest.raises(InputError) as raised:
        Augmentation(**values)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_lists_as_yaml_gives_them():
    assert Augmentation(grid=[3, 3], zoom=[1.0, 1.0]) == Augmentation()
    assert hash(Augmentation(zoom=[1.0, 1.0])) == hash(Augmentation())

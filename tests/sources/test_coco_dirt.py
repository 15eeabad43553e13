"""COCO as LIVECell is, and as it must not be."""

import json
import logging

import numpy as np
import pytest

from tests.sources.coco_files import (
    L_SHAPE,
    SIZE,
    annotation,
    coco,
    code_of,
    image,
    load_only,
    masks,
    plain,
    save_image,
    square,
    write,
)
from unet_keras.errors import InputError
from unet_keras.sources.coco import coco_references, read_coco


class TestDirt:
    """What the published files have, or were reported to have."""

    def test_images_listed_twice_are_merged_and_equal_instances_kept_once(self, tmp_path):
        content = coco(
            [image(7, "A172_1.png"), image(8, "B_1.png"), image(9, "A172_1.png")],
            [
                annotation(1, 7, L_SHAPE),
                annotation(2, 9, L_SHAPE),
                annotation(3, 9, square(20, 10)),
                annotation(4, 8, L_SHAPE),
            ],
        )
        samples, notes = load_only(tmp_path, content, ("A172_1.png", "B_1.png"))
        assert [len(sample.outlines) for sample in samples] == [2, 1]
        assert notes.merged_images == ("A172_1.png",)
        assert notes.repeated_instances == 1

    def test_an_image_annotated_twice_has_its_instances_once(self, tmp_path):
        listed = [annotation(k, 7, square(5 * (k % 3), 3)) for k in range(6)]
        (sample,), notes = load_only(tmp_path, coco([image(7, "A172_1.png")], listed))
        assert len(sample.outlines) == 3
        assert notes.repeated_instances == 3

    def test_leaks_are_reported_dropped_or_refused(self, tmp_path, caplog):
        both = coco(
            [image(1, "A_1.png"), image(2, "A_2.png")],
            [annotation(1, 1, L_SHAPE), annotation(2, 2, L_SHAPE)],
        )
        held = coco([image(5, "A_2.png")], [annotation(1, 5, L_SHAPE)])
        folders = write(tmp_path, train=both, val=held, images=["A_1.png", "A_2.png"])

        with caplog.at_level(logging.WARNING):
            references = coco_references(*folders)
        assert len(references) == 3
        assert "1 image in several splits: A_2.png" in caplog.text

        references, notes = read_coco(*folders, on_leak="drop")
        assert [(r.file_name, r.split) for r in references] == [
            ("A_1.png", "train"),
            ("A_2.png", "val"),
        ]
        assert notes.leaked_images == {"A_2.png": ("train", "val")}
        kept = "kept in the last of train, val, test only: A_2.png"
        assert any(kept in line for line in notes.lines())

        with pytest.raises(InputError, match=r"1 image in several splits: A_2\.png.*on_leak"):
            read_coco(*folders, on_leak="error")
        with pytest.raises(InputError, match="on_leak='ignore' must be one of warn, drop, error"):
            read_coco(*folders, on_leak="ignore")

    @pytest.mark.parametrize(
        "segmentation", [[], None, [[]], [[3, 4, 5, 6]], {"counts": [], "size": [*SIZE]}]
    )
    def test_instances_without_area_are_left_out(self, segmentation, tmp_path):
        content = coco(
            [image(7, "A172_1.png")], [annotation(1, 7, segmentation), annotation(2, 7, L_SHAPE)]
        )
        (sample,), notes = load_only(tmp_path, content)
        assert len(sample.outlines) == len(sample.classes) == 1
        assert notes.without_area == 1

    def test_short_polygons_with_half_a_point_are_named_as_malformed(self, tmp_path):
        listed = [
            annotation(11, 7, [[3, 4, 5]]),
            annotation(12, 7, [[3, 4, 5, 6, 7], *L_SHAPE]),
            annotation(13, 7, [[3, 4, 5, 6]]),
        ]
        (sample,), notes = load_only(tmp_path, coco([image(7, "A172_1.png")], listed))
        assert len(sample.outlines) == 1
        assert notes.without_area == 1
        name = "livecell_coco_train.json"
        assert notes.malformed == (f"annotation 11 in {name}", f"annotation 12 in {name}")
        (told,) = [line for line in notes.lines() if "malformed" in line]
        assert told.startswith("2 malformed polygons (an odd number of coordinates")
        assert told.endswith(f"annotation 11 in {name}, annotation 12 in {name}")

    def test_instances_without_a_pixel_are_left_out_when_loaded(self, tmp_path):
        thin = [[5.1, 5.1, 5.2, 5.1, 5.1, 5.2]]
        nothing = code_of(np.zeros(SIZE, bool), compressed=True)
        listed = [
            annotation(1, 7, thin, category_id=1),
            annotation(2, 7, L_SHAPE, category_id=2),
            annotation(3, 7, nothing),
        ]
        content = coco([image(7, "A172_1.png")], listed, categories=(1, 2))
        folders = write(tmp_path, train=content, images=["A172_1.png"])
        (reference,) = coco_references(*folders)
        assert reference.instance_count == 3
        assert reference.load().classes.tolist() == [2]

    def test_polygons_of_two_points_beside_others_are_left_out(self, tmp_path, shape):
        # pycocotools would take four numbers for a box.
        content = coco([image(7, "A172_1.png")], [annotation(1, 7, [[20, 10, 5, 5], *L_SHAPE, []])])
        (sample,), _ = load_only(tmp_path, content)
        np.testing.assert_array_equal(masks(sample), [shape])

    def test_crowds_are_left_out(self, tmp_path):
        content = coco(
            [image(7, "A172_1.png")],
            [annotation(1, 7, L_SHAPE), annotation(2, 7, square(0, 0, 15), iscrowd=1)],
        )
        (sample,), notes = load_only(tmp_path, content)
        assert len(sample.outlines) == 1
        assert notes.crowds == 1

    def test_crowds_may_be_told_by_texts(self, tmp_path):
        listed = [annotation(1, 7, L_SHAPE, iscrowd="0"), annotation(2, 7, L_SHAPE, iscrowd="1")]
        (sample,), notes = load_only(tmp_path, coco([image(7, "A172_1.png")], listed))
        assert len(sample.outlines) == 1
        assert notes.crowds == 1

    def test_instances_that_differ_by_one_coordinate_are_two(self, tmp_path):
        listed = [annotation(k, 7, [[-k, 0, 9, 0, 9, 9]]) for k in (1, 2)]  # of one hash in Python
        (sample,), notes = load_only(tmp_path, coco([image(7, "A172_1.png")], listed))
        assert len(sample.outlines) == 2
        assert notes.repeated_instances == 0

    def test_whole_ids_may_be_written_with_a_point(self, tmp_path):
        content = coco([image(7, "A172_1.png")], [annotation(1, 7.0, L_SHAPE, category_id=1.0)])
        (sample,), _ = load_only(tmp_path, content)
        assert sample.classes.tolist() == [1]

    def test_instances_of_absent_images_and_images_without_instances(self, tmp_path):
        content = coco([image(7, "A172_1.png")], [annotation(1, 99, L_SHAPE)])
        (sample,), notes = load_only(tmp_path, content)
        assert sample.outlines == ()
        assert sample.classes.shape == (0,)
        assert (notes.orphans, notes.empty_images) == (1, 1)

    def test_a_clean_source_has_only_missing_splits_to_report(self, tmp_path):
        _, notes = load_only(tmp_path, plain())
        assert notes.lines() == ["no JSON file for split val", "no JSON file for split test"]
        assert (notes.images, notes.instances) == ({"train": 1}, {"train": 1})


class TestMistakes:
    """One line that says what, where and how to mend it."""

    def test_missing_folders(self, tmp_path):
        images, annotations = write(tmp_path, train=plain(), images=["A172_1.png"])
        with pytest.raises(InputError, match=r"source\.images=.*absent is not a folder"):
            coco_references(tmp_path / "absent", annotations)
        with pytest.raises(InputError, match=r"source\.annotations=.*absent is not a folder"):
            coco_references(images, tmp_path / "absent")

    def test_missing_or_ambiguous_json(self, tmp_path):
        images, annotations = write(tmp_path)
        (annotations / "train.json").write_text("{}")
        with pytest.raises(InputError, match=r"No livecell_coco_train\.json.*there: train\.json"):
            coco_references(images, annotations)
        for name in "ab":
            (annotations / name).mkdir()
            (annotations / name / "livecell_coco_train.json").write_text("{}")
        with pytest.raises(InputError, match="Two files for split train"):
            coco_references(images, annotations)

    def test_missing_images_are_counted_and_one_is_named(self, tmp_path):
        content = coco([image(k, f"A_{k}.png") for k in range(4)], [])
        folders = write(tmp_path, train=content, images=["A_0.png"])
        pattern = r"3 of 4 images named in .*livecell_coco_train\.json are not in .*A_1\.png \(id 1"
        with pytest.raises(InputError, match=pattern):
            coco_references(*folders)

    def test_an_image_that_is_there_twice(self, tmp_path):
        folders = write(tmp_path, train=plain())
        for name in "ab":
            save_image(folders[0] / name / "A172_1.png")
        with pytest.raises(InputError, match=r"A172_1\.png \(image 7 of .* is there twice"):
            coco_references(*folders)

    def test_another_size_than_the_json_says(self, tmp_path):
        folders = write(tmp_path, train=plain())
        save_image(folders[0] / "A172_1.png", SIZE[::-1])
        (reference,) = coco_references(*folders)
        with pytest.raises(InputError, match=r"A172_1\.png is 20 x 30 .* says 30 x 20 for image 7"):
            reference.load()

    def test_sizes_may_be_left_out(self, tmp_path):
        content = plain()
        del content["images"][0]["height"]
        (sample,), _ = load_only(tmp_path, content)
        assert sample.size == SIZE

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "at byte 0 the file ends"),
            ("<html>not found</html>", "at byte 0 stands '<html>"),
            ("[1, 2]", "expected a JSON object"),
            ('{"images": [], "annotations": [}', "at byte 31"),
            ('{"images": [], "annotations": [{"id": 1, "image_id": 3, "segm', "at byte 56"),
            ('{"images": [] "annotations": []}', "expected ',' or '}'"),
            ('{"images": [], "annotations": []} x', "expected the end of the file"),
            ('{"images": [] ', "the file ends"),
            ('{"images": [1, "annotations": []}', "is not an object|is not COCO JSON"),
            ("{" + '"images":' + "[" * 100_000, "nested too deeply"),
        ],
    )
    def test_what_is_not_json(self, text, message, tmp_path):
        with pytest.raises(InputError, match=message) as caught:
            coco_references(*write(tmp_path, train=text))
        assert "livecell_coco_train.json is not COCO JSON" in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda c: c.pop("images"), "it has no 'images' .only annotations, categories"),
            (lambda c: c.pop("annotations"), "it has no 'annotations'"),
            (lambda c: c["images"][0].pop("id"), "in images, one at byte .* has no 'id'"),
            (lambda c: c["images"][0].pop("file_name"), "id 7 at byte .* has no 'file_name'"),
            (lambda c: c["annotations"][0].pop("image_id"), "id 1 at byte .* has no 'image_id'"),
            (lambda c: c["annotations"][0].pop("category_id"), "has no 'category_id'"),
            (lambda c: c["images"][0].update(id=[7]), r"id \[7\] at .* the id \[7\], which is no"),
            (lambda c: c["images"][0].update(id=None), "the id None, which is no whole number"),
            (lambda c: c["images"][0].update(id=7.5), "the id 7.5, which is no whole number"),
            (lambda c: c["images"][0].update(height="20"), "'20', 30., which are no whole"),
            (lambda c: c["annotations"][0].update(image_id={}), "the image_id {}, which is no"),
            (lambda c: c["annotations"][0].update(category_id=None), "the category_id None, which"),
            (lambda c: c["annotations"][0].update(category_id=True), "the category_id True, which"),
            (lambda c: c["annotations"][0].update(iscrowd="no"), "the iscrowd 'no', which is nei"),
            (lambda c: c["annotations"][0].update(iscrowd=[]), "the iscrowd .., which is neither"),
            (lambda c: c["annotations"].append(3), "in annotations, one .* is not an object"),
            (lambda c: c["annotations"][0].update(segmentation=[1, 2]), "neither polygons nor"),
            (lambda c: c["annotations"][0].update(segmentation={"size": [1]}), "neither polygons"),
            (lambda c: c["images"][0].update(file_name="\udce9"), r"the file_name '.*', no UTF-8"),
            (lambda c: c["images"].append(image(7, "b.png")), "id 7 to two images, A172_1.png and"),
            (lambda c: c["images"].append(image("7", "b.png")), "id 7 to two images, .* as texts"),
            (
                lambda c: c["images"].append(image(8, "A172_1.png", height=9)),
                "id 8 .* another size than 7",
            ),
        ],
    )
    def test_what_is_not_coco(self, change, message, tmp_path):
        content = plain()
        change(content)
        with pytest.raises(InputError, match=message) as caught:
            coco_references(*write(tmp_path, train=content, images=["A172_1.png", "b.png"]))
        assert "livecell_coco_train.json" in str(caught.value)

    @pytest.mark.parametrize(
        ("segmentation", "message"),
        [
            ([[[0, 0], [5, 0], [5, 5]]], "a polygon of points .x, y.; write its numbers one after"),
            ([[[0, 0], [5, 0], [5, 5], [0, 5], [0, 4], [0, 3]]], "a polygon of points .x, y."),
            ([[0, 0, 5, 0, 5, "x"]], "a coordinate that is no number"),
            ([[0, 0, 5, 0, 5, None]], "a coordinate that is no number"),
            ([[0, 0, 5, 0, 5, 10**400]], "a coordinate that is no number"),
            ({"size": [*SIZE], "counts": [600.5, "x"]}, "neither polygons nor run lengths"),
        ],
    )
    def test_outlines_that_are_no_numbers_are_named_at_once(self, segmentation, message, tmp_path):
        content = coco([image(7, "A172_1.png")], [annotation(31, 7, segmentation)])
        with pytest.raises(InputError, match=rf"train\.json .* id 31 at byte \d+ has .*{message}"):
            coco_references(*write(tmp_path, train=content, images=["A172_1.png"]))

    @pytest.mark.parametrize(
        "segmentation",
        [
            [[0, 0, 5, 0, 5, 5, 7]],
            [[0, 0, 5, 0, 5, 1e9]],
            [[0, 0, 5, 0, 5, float("nan")]],
            {"size": [*SIZE], "counts": [5, 5]},
            {"size": [*SIZE], "counts": [-5, 605]},
            {"size": [*SIZE], "counts": [99.5, 500.5]},
            {"size": [*SIZE[::-1]], "counts": [600]},
            {"size": [*SIZE], "counts": "zzzzz"},
            {"size": [*SIZE], "counts": "ß"},
            {"size": 3, "counts": [600]},
        ],
    )
    def test_damaged_outlines_are_named(self, segmentation, tmp_path):
        content = coco([image(7, "A172_1.png")], [annotation(31, 7, segmentation)])
        (reference,) = coco_references(*write(tmp_path, train=content, images=["A172_1.png"]))
        with pytest.raises(InputError, match=r"annotation 31 in .*livecell_coco_train\.json"):
            reference.load()

    @pytest.mark.parametrize("key", ["file_name", "note"])
    def test_a_json_in_another_encoding(self, key, tmp_path):
        content = plain()
        content["annotations"][0]["note"] = "?"
        folders = write(tmp_path, train=content, images=["A172_1.png"])
        file = folders[1] / "livecell_coco_train.json"
        value = {"file_name": b"A172_1", "note": b"?"}[key]
        file.write_bytes(file.read_bytes().replace(value, b"\xe9"))
        place = file.read_bytes().index(b"\xe9")
        with pytest.raises(InputError, match=rf"train\.json is no.* at byte {place}[ ,]") as caught:
            coco_references(*folders)[0].load()
        assert "text in UTF-8" in str(caught.value)

    def test_a_json_that_was_replaced_meanwhile(self, tmp_path):
        folders = write(tmp_path, train=plain(), images=["A172_1.png"])
        (reference,) = coco_references(*folders)
        write(tmp_path, train=json.dumps(plain(), indent=2))
        with pytest.raises(InputError, match="changed while it was being converted"):
            reference.load()
        (folders[1] / "livecell_coco_train.json").unlink()
        with pytest.raises(InputError, match="cannot be read anymore"):
            reference.load()

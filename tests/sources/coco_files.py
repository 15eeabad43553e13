"""COCO data sets small enough to be checked by eye."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from unet_keras.sources.coco import read_coco

SIZE = (20, 30)  # height, width: not square, so that exchanged axes show
L_SHAPE = [[3, 2, 12, 2, 12, 5, 6, 5, 6, 16, 3, 16]]  # x, y, ...: different in every direction


def square(x, y, side=4):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def image(image_id, name, **named):
    return {"id": image_id, "file_name": name, "height": SIZE[0], "width": SIZE[1], **named}


def annotation(number, image_id, segmentation, **named):
    values = {"id": number, "image_id": image_id, "category_id": 1, "iscrowd": 0}
    return {**values, "segmentation": segmentation, "area": 9.0, **named}


def coco(images, annotations, categories=(1,), **named):
    listed = [{"id": category, "name": f"type {category}"} for category in categories]
    return {"images": images, "annotations": annotations, "categories": listed, **named}


def plain():
    """One image with one L."""
    return coco([image(7, "A172_1.png")], [annotation(1, 7, L_SHAPE)])


def write(folder, *, train=None, val=None, test=None, images=(), subfolder=""):
    """Write a data set; return its folders of images and annotations."""
    (folder / "images" / subfolder).mkdir(parents=True, exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    for split, content in (("train", train), ("val", val), ("test", test)):
        if content is not None:
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / "annotations" / f"livecell_coco_{split}.json").write_text(
                text, encoding="utf-8"
            )
    for name in images:
        save_image(folder / "images" / subfolder / name)
    return folder / "images", folder / "annotations"


def save_image(path, size=SIZE, seed=0):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, size, np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def load_only(folder, content, names=("A172_1.png",)):
    references, notes = read_coco(*write(folder, train=content, images=names))
    return [reference.load() for reference in references], notes


def masks(sample):
    size = [*sample.size]
    codes = [{"size": size, "counts": counts} for counts in sample.outlines]
    return [coco_mask.decode(code).astype(bool) for code in codes]


def code_of(mask, *, compressed):
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    if compressed:
        return {"size": code["size"], "counts": code["counts"].decode()}
    columns = mask.T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(np.r_[0, columns, 1 - columns[-1]]))
    return {"size": list(mask.shape), "counts": np.diff(np.r_[0, edges]).tolist()}

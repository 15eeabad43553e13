"""What the network learns of instances (`targets.kind`), and how often each of its classes occurs.

cells              each instance's class; what parts touching ones is background
boundary           1 on the outermost pixels of instances, else 0 (2023 report, section 4.4)
cells_and_borders  0 background, 1 inside of an instance, 2 its outermost pixels

Records are the same for all three: the class of a pixel is drawn from the warped label map.
"""

from typing import Literal

from unet_keras.errors import InputError
from unet_keras.records.manifest import Manifest

Kind = Literal["cells", "boundary", "cells_and_borders"]

INSIDE = 1  # the class of `cells_and_borders` for all but a cell's outermost pixels


def class_names(manifest: Manifest, kind: Kind) -> tuple[str, ...]:
    """Return the name of each class index, the background first."""
    if kind == "boundary":
        return "background", "outline"
    if kind == "cells_and_borders":
        return "background", "cell", "border"
    return ("background", *(f"class {k}" for k in range(1, manifest.num_classes + 1)))


def parts_touching(manifest: Manifest, kind: Kind) -> bool:
    """Tell whether pixels between touching instances are background for the network.

    Outlines that are a class of their own belong to the cells, which meet there as they are.
    """
    return manifest.separate and kind != "cells_and_borders"


def num_outputs(
    manifest: Manifest, kind: Kind, output: Literal["sigmoid", "softmax"] = "sigmoid"
) -> int:
    """Return K, the channels of logits that tell the classes apart: 1 for two and a sigmoid."""
    classes = len(class_names(manifest, kind))
    return 1 if classes == 2 and output == "sigmoid" else classes


def class_frequencies(manifest: Manifest, kind: Kind) -> tuple[float, ...]:
    """Return the share of the training pixels of each class, in [0, 1]; they add up to 1.

    Raises:
        InputError: The records are older than what this is reckoned from.
    """
    if kind == "cells":
        return manifest.class_frequencies
    outline = manifest.outline_share
    if outline == 0:
        raise InputError(
            f"the records' manifest has no share of outlines, which targets.kind={kind} with "
            "loss.class_weights=balanced needs: make the records again"
        )
    if kind == "boundary":
        return 1 - outline, outline
    known = [manifest.splits["train"]]
    if not known[0].images:
        known = list(manifest.splits.values())
    labeled = sum(group.labeled_pixels for split in known for group in split.groups.values())
    share = labeled / sum(split.pixels for split in known)
    return 1 - share, share - outline, outline


def balanced_weights(manifest: Manifest, kind: Kind = "cells") -> tuple[float, ...]:
    """Return N / (K · N_k) for each class: all K classes weigh the same in sum.

    N pixels, N_k of them of class k, among the training images. King and Zeng (2001), Logistic
    regression in rare events data; scikit-learn's `class_weight="balanced"`.

    Raises:
        InputError: A class does not occur, so no weight would balance it.
    """
    frequencies = class_frequencies(manifest, kind)
    names = class_names(manifest, kind)
    absent = [name for name, share in zip(names, frequencies, strict=True) if share <= 0]
    if absent:
        raise InputError(
            f"loss.class_weights=balanced: the training images have no pixel of {absent[0]}; give "
            f"{len(names)} numbers instead, for {', '.join(names)}"
        )
    return tuple(1 / (len(names) * share) for share in frequencies)

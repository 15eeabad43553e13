"""What is irregular in a COCO data set, counted and said in sentences."""

from dataclasses import dataclass, field

from unet_keras.sources.base import counted


@dataclass(frozen=True)
class SourceNotes:
    """What is irregular in a source, and what was done about it.

    Attributes:
        images: Images by split.
        instances: Instances by split.
        missing_splits: Splits without a JSON file.
        merged_images: Names of images listed under several ids in one file; their annotations are
            united.
        leaked_images: Names in several splits, with those splits.
        dropped_leaks: How many of them were taken out of the training split.
        repeated_instances: Instances equal to another of the same image, left out.
        without_area: Instances without an outline of three points, left out.
        malformed: Annotations with a polygon of fewer than three points and an odd number of
            coordinates, which is left out.
        crowds: Instances that outline many cells at once, left out.
        orphans: Instances of images that are not listed, left out.
        unused_categories: Ids of categories that are listed, but have no instance in any split.
        empty_images: Images without an instance.
    """

    images: dict[str, int] = field(default_factory=dict)
    instances: dict[str, int] = field(default_factory=dict)
    missing_splits: tuple[str, ...] = ()
    merged_images: tuple[str, ...] = ()
    leaked_images: dict[str, tuple[str, ...]] = field(default_factory=dict)
    dropped_leaks: int = 0
    repeated_instances: int = 0
    without_area: int = 0
    malformed: tuple[str, ...] = ()
    crowds: int = 0
    orphans: int = 0
    unused_categories: tuple[str, ...] = ()
    empty_images: int = 0

    def lines(self) -> list[str]:
        """Say what is irregular, a sentence for each kind of it that there is."""
        kept = ", kept in the last of train, val, test only" if self.dropped_leaks else ""
        unused = some_of(self.unused_categories)
        merged, leaked = some_of(self.merged_images), some_of(tuple(self.leaked_images))
        found = (
            (len(self.merged_images), "image", f" listed under several ids, merged: {merged}"),
            (len(self.leaked_images), "image", f" in several splits{kept}: {leaked}"),
            (self.repeated_instances, "instance", " annotated twice, kept once"),
            (self.without_area, "instance", " without area, left out"),
            (
                len(self.malformed),
                "malformed polygon",
                " (an odd number of coordinates, fewer than three points), left out: "
                f"{some_of(self.malformed)}",
            ),
            (self.crowds, "crowd instance", ", left out"),
            (self.orphans, "instance", " of images that are not listed, left out"),
            (
                len(self.unused_categories),
                "category id",
                f" listed without an instance, no classes: {unused}",
            ),
            (self.empty_images, "image", " without an instance"),
        )
        missing = [f"no JSON file for split {split}" for split in self.missing_splits]
        return missing + [counted(number, noun) + what for number, noun, what in found if number]


def some_of(names: tuple[str, ...]) -> str:
    """Name the first three."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")

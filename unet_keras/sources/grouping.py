"""The group of an image, what scores are broken down by: the cell type in LIVECell."""

import re

UNGROUPED = "all"


def group_of(file_name: str, pattern: str) -> str:
    """Read the group from a file name.

    Args:
        file_name: The image's name, without folders.
        pattern: Regular expression whose first group is wanted; `A172_Phase_C7.tif` and
            `^([^_]+)_` give `A172`.

    Returns:
        The group, or `all` where the pattern does not match.
    """
    match = re.search(pattern, file_name)
    return match.group(1) if match and match.group(1) else UNGROUPED

"""The network that ships with the package, for a first look and for fine-tuning.

`default/` holds `model.keras`, `metadata.json` (as of an exported model) and its model card,
`README.md`. It was trained on synthetic cells alone, by `configs/default_model.yaml`.
"""

from pathlib import Path

DEFAULT = "default"


def resolve(model: Path | str) -> Path:
    """Return where a model lies: `default` is the one that ships, if nothing here is named so.

    Args:
        model: What a user gave: a path, or `default`.

    Returns:
        The path, or the folder of the network that ships.
    """
    path = Path(model)
    ships = str(path) == DEFAULT and not path.exists()
    return Path(__file__).parent / DEFAULT if ships else path

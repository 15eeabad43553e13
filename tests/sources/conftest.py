import numpy as np
import pytest

from tests.sources.coco_files import SIZE


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def shape():
    """The L, drawn by hand."""
    mask = np.zeros(SIZE, bool)
    mask[2:5, 3:12] = True
    mask[2:16, 3:6] = True
    return mask

import errno

import pytest

from unet_keras import locking


def test_one_opening_holds_a_file(tmp_path):
    pytest.importorskip("fcntl")
    path = tmp_path / "file"
    with path.open("w") as first, path.open() as second:
        assert locking.take(first)
        assert not locking.take(second)
        first.close()
        assert locking.take(second)


def test_a_file_that_was_removed_meanwhile_holds_nothing(tmp_path):
    path = tmp_path / "file"
    with path.open("w") as first:
        assert locking.take_place(first, path)
        path.unlink()
        assert not locking.take_place(first, path)
        with path.open("w") as second:
            assert locking.take_place(second, path)
            assert not locking.take_place(first, path)


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK])
def test_file_systems_without_locks_hinder_nobody(tmp_path, monkeypatch, number):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (tmp_path / "file").open("w") as file:
        assert locking.take(file)


def test_systems_without_locks_hinder_nobody(tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "fcntl", None)
    with (tmp_path / "file").open("w") as first, (tmp_path / "file").open("w") as second:
        assert locking.take(first)
        assert locking.take(second)

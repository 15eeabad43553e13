"""What is written is whole, and what cannot be written is named as the user knows it."""

import pytest

from unet_keras.errors import InputError
from unet_keras.evaluation.files import demand_writable, write_text


def test_a_folder_is_made_and_left_empty(tmp_path):
    demand_writable(tmp_path / "a" / "b")
    assert not list((tmp_path / "a" / "b").iterdir())


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_place_that_takes_nothing_is_named(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=rf"{place} cannot be written \(.*\): give --output"):
        demand_writable(tmp_path / place, mend="give --output")


def test_the_final_path_is_named_and_nothing_is_left_beside_it(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(
        InputError, match=r"report\.html cannot be written \(Is a directory\): make"
    ):
        write_text(tmp_path / "report.html", "page")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(InputError, match=r"absent/report\.html cannot be written"):
        write_text(tmp_path / "absent" / "report.html", "page")


def test_a_read_only_folder_is_noticed(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "/tmp/of-another-name")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    with pytest.raises(InputError) as said:
        demand_writable(tmp_path)
    assert str(said.value).startswith(f"{tmp_path} cannot be written (Permission denied)")

"""What tests of commands share: how they are run, and what they must say of a mistake."""

from collections.abc import Callable

Run = Callable[..., tuple[int, str]]
SMALL = ["records.path=records", "records.workers=1"]


def assert_one_line(result: tuple[int, str], *parts: str) -> None:
    status, text = result
    assert status == 2, text
    assert text.startswith("error: "), text
    assert "\n" not in text
    for part in parts:
        assert part in text

"""Whatever the network does, a file arrives whole or not at all."""

import hashlib
import shutil
from collections import namedtuple

import numpy as np
import pytest

from tests.sources.web import serving
from unet_keras.errors import InputError
from unet_keras.sources.fetching import ATTEMPTS, fetch

BODY = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(BODY).hexdigest()


def get(web, folder, name="big.zip", **named):
    fetch(f"{web.url}/{name}", folder / "data" / "big.zip", wait_seconds=0, **named)
    return (folder / "data" / "big.zip").read_bytes()


def left(folder):
    return sorted(path.name for path in (folder / "data").iterdir())


def test_a_file_arrives_and_nothing_else_stays(tmp_path):
    seen = []
    with serving({"big.zip": BODY}) as web:
        data = get(web, tmp_path, sha256=SHA256.upper(), progress=lambda *one: seen.append(one))
    assert data == BODY
    assert left(tmp_path) == ["big.zip"]
    assert {(name, total) for name, _, total in seen} == {("big.zip", len(BODY))}
    assert [done for _, done, _ in seen] == sorted({done for _, done, _ in seen})
    assert seen[-1][1] == len(BODY)


def test_cut_connections_are_taken_up_where_they_were(tmp_path):
    with serving({"big.zip": BODY}, cuts=[1_000_000, 7, 500_000]) as web:
        assert get(web, tmp_path) == BODY
    starts = [None, "bytes=1000000-", "bytes=1000007-", "bytes=1500007-"]
    assert web.asked == [("big.zip", start) for start in starts]


def test_a_second_run_goes_on_where_the_first_gave_up(tmp_path):
    with serving({"big.zip": BODY}, cuts=[1_234_567] + [0] * ATTEMPTS) as web:
        with pytest.raises(InputError, match=r"cut off at 1234567 of 3000000 .*1234567 bytes are"):
            get(web, tmp_path)
        assert left(tmp_path) == ["big.zip.part", "big.zip.part.json"]
        web.asked.clear()
        assert get(web, tmp_path) == BODY
    assert web.asked == [("big.zip", "bytes=1234567-")]
    assert left(tmp_path) == ["big.zip"]


def test_another_version_in_between_is_fetched_from_its_start(tmp_path):
    newer = BODY[::-1]
    with serving({"big.zip": BODY}, cuts=[1_000_000] + [0] * ATTEMPTS) as web:
        with pytest.raises(InputError, match="continues"):
            get(web, tmp_path)
        web.files["big.zip"] = newer
        assert get(web, tmp_path) == newer


def test_a_shorter_version_in_between(tmp_path):
    with serving({"big.zip": BODY}, cuts=[1_000_000] + [0] * ATTEMPTS) as web:
        with pytest.raises(InputError, match="continues"):
            get(web, tmp_path)
        web.files["big.zip"] = b"short"
        assert get(web, tmp_path) == b"short"


@pytest.mark.parametrize("named", [{"ranges": False}, {"etags": {"big.zip": 'W/"weak"'}}])
def test_servers_that_cannot_resume_begin_anew(named, tmp_path):
    with serving({"big.zip": BODY}, cuts=[1_000_000], **named) as web:
        assert get(web, tmp_path) == BODY


def test_a_server_that_never_gets_further_is_given_up(tmp_path):
    with serving({"big.zip": BODY}, cuts=[1_000_000] * 99, ranges=False) as web:
        with pytest.raises(InputError, match=r"cut off at 1000000 of 3000000 bytes"):
            get(web, tmp_path)
        assert len(web.asked) == 1 + ATTEMPTS


def test_a_piece_that_was_not_asked_for_is_not_used(tmp_path):
    with serving({"big.zip": BODY}, cuts=[1_000_000], shifts=[5]) as web:
        assert get(web, tmp_path) == BODY
    assert [start for _, start in web.asked] == [None, "bytes=1000000-", None]


def test_passing_trouble_is_waited_out_and_lasting_trouble_named(tmp_path):
    with serving({"big.zip": BODY}, refusals=[503, 429, 500]) as web:
        assert get(web, tmp_path) == BODY
        for status, message in ((403, "403 Forbidden for .*big.zip; check source.url"),):
            web.refusals.append(status)
            (tmp_path / "data" / "big.zip").unlink()
            with pytest.raises(InputError, match=message):
                get(web, tmp_path)
        with pytest.raises(InputError, match=r"404 Not Found for .*/other; check source\.url"):
            get(web, tmp_path, "other")
        web.refusals += [503] * ATTEMPTS
        with pytest.raises(InputError, match=r"the server answers 503 .*0 bytes are kept"):
            get(web, tmp_path)
    with pytest.raises(InputError, match=r"could not be downloaded \(.*refused.*\)"):
        get(web, tmp_path)


def test_a_server_that_states_no_length_is_not_trusted(tmp_path):
    with (
        serving({"big.zip": BODY}, states_length=False) as web,
        pytest.raises(InputError, match="does not say how long"),
    ):
        get(web, tmp_path)


@pytest.mark.parametrize(
    ("sha256", "etag", "message"),
    [
        ("0" * 64, "", rf"SHA-256 {SHA256}, but source.sha256 says 0000"),
        (SHA256, f'"{"0" * 32}"', r"MD5 \w{32}, but the server says 0000"),
    ],
)
def test_a_wrong_checksum_leaves_nothing(sha256, etag, message, tmp_path):
    with serving({"big.zip": BODY}, etags={"big.zip": etag}) as web:
        with pytest.raises(InputError, match=message):
            get(web, tmp_path, sha256=sha256)
        assert left(tmp_path) == []
        web.etags.clear()
        assert get(web, tmp_path, sha256=SHA256) == BODY


@pytest.mark.parametrize(
    "named",
    [
        {"etags": {"big.zip": f'"{"0" * 32}-12"'}},  # uploaded to S3 in 12 pieces
        {"etags": {"big.zip": f'"{"0" * 32}"'}, "server_name": "nginx"},
        {"etags": {"big.zip": ""}},
    ],
)
def test_tags_that_are_no_md5_are_not_taken_for_one(named, tmp_path):
    with serving({"big.zip": BODY}, **named) as web:
        assert get(web, tmp_path) == BODY


def test_damage_on_the_way_is_found(tmp_path):
    """A second piece of other content, under the tag of the first."""
    tag = f'"{hashlib.md5(BODY, usedforsecurity=False).hexdigest()}"'
    with serving({"big.zip": BODY}, cuts=[1_000_000] + [0] * ATTEMPTS) as web:
        with pytest.raises(InputError, match="continues"):
            get(web, tmp_path)
        web.files["big.zip"], web.etags["big.zip"] = BODY[:-1] + b"?", tag
        with pytest.raises(InputError, match="changed on the way"):
            get(web, tmp_path)
    assert left(tmp_path) == []


def test_a_full_disk_is_named_and_what_came_is_kept(tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with serving({"big.zip": BODY}) as web:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, limits[1]))
        try:
            with pytest.raises(InputError, match=r"cannot be written \(File too large\).* is kept"):
                get(web, tmp_path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert (tmp_path / "data" / "big.zip.part").stat().st_size == 2_000_000
        assert get(web, tmp_path) == BODY
    assert web.asked[-1] == ("big.zip", "bytes=2000000-")


def test_a_disk_that_is_too_small_is_named_before_anything_is_fetched(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1_000_000))
    with (
        serving({"big.zip": BODY}) as web,
        pytest.raises(InputError, match=r"needs 0\.00 GB more, but only 0\.00 GB are free"),
    ):
        get(web, tmp_path)
    assert (tmp_path / "data" / "big.zip.part").stat().st_size == 0


@pytest.mark.parametrize(
    "url", ["http://example..invalid", "http://[::1", "http://localhost/ü", "http://a:b"]
)
def test_what_is_no_address_is_named(url, tmp_path):
    with pytest.raises(InputError, match=r"source\.url=http.* is no address of a server"):
        fetch(f"{url}/a.zip", tmp_path / "a.zip")


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "data").write_text("a file")
    with (
        serving({"big.zip": BODY}) as web,
        pytest.raises(InputError, match="cannot be written"),
    ):
        get(web, tmp_path)


def test_two_downloads_of_one_file_do_not_meet(tmp_path):
    pytest.importorskip("fcntl")
    seen = []

    def intrude(*_):
        with pytest.raises(InputError, match="Another process is downloading"):
            fetch(f"{web.url}/big.zip", tmp_path / "data" / "big.zip")
        seen.append(1)

    with serving({"big.zip": BODY}) as web:
        assert get(web, tmp_path, progress=intrude) == BODY
    assert seen

"""Where egress may be, which headers go further, and which Host headers are taken."""

import pytest

from central.application.reach import Place, checked_host, passed_on
from central.problems import ApiProblem
from shared.errors import SettingsError


def test_the_place_of_egress_is_scheme_host_and_port() -> None:
    assert Place.read("http://egress:8087") == Place("http", "egress", 8087)
    assert Place.read("https://[::1]/") == Place("https", "::1", 443)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "egress:8087",
        "ftp://egress",
        "http://",
        "http://a/b",
        "http://u:p@a",
        "http://a:x",
        "//a",
    ],
)
def test_any_other_place_is_refused_with_the_settings_name(text: str) -> None:
    with pytest.raises(SettingsError, match="SPINE_EGRESS_URL"):
        Place.read(text)


def test_headers_of_one_connection_stay_behind() -> None:
    given = [
        ("Connection", "close, X-Mine"),
        ("X-Mine", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Cookie", "a=b"),
        ("Authorization", "Bearer x"),
        ("Content-Length", "1"),
    ]
    assert passed_on(given, "content-length") == [("Cookie", "a=b"), ("Authorization", "Bearer x")]


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "[::1]:1", "10.0.0.1", "a-b.c_d"])
def test_names_and_addresses_are_taken(host: str) -> None:
    assert checked_host(host) == host


@pytest.mark.parametrize(
    "host", ["", "a b", "localhost:1/x", "a@b", "localhost:", "[::1", "a:123456"]
)
def test_a_host_that_could_lead_elsewhere_is_refused(host: str) -> None:
    with pytest.raises(ApiProblem, match="wrong_host"):
        checked_host(host)

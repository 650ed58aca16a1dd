"""Where a stream stands, by what its events tell."""

from __future__ import annotations

from migrate.sync.place import Place
from migrate.sync.stream import Stream

START = {"file": "bin.000003", "offset": "5000", "gtid_set": "", "server_uuid": "a"}
LARGE = {**START, "offset": str(5 << 32)}


def at(place: Place) -> tuple[str, str, str]:
    position = place.position()
    return position["file"], position["offset"], position["server_uuid"]


def test_what_the_server_says_counts_as_read() -> None:
    place = Place(START, "a", by_place=True)
    place.heard("bin.000003", 6000)
    assert at(place) == ("bin.000003", "5000", "a")  # before the file is described, nothing was sent
    place.describe(7, 120)
    place.heard("bin.000003", 6000)
    place.heard("bin.000003", 5500)
    place.heard("", 7000)
    place.heard("bin.000004", 7000)  # of which nothing has come
    assert at(place) == ("bin.000003", "6000", "a")
    assert place.position()["created"] == "7"
    place.file = "bin.000004"
    place.describe(8, 120)
    assert at(place) == ("bin.000004", "120", "a")
    place.heard("bin.000004", 1 << 33)
    place.passed(99)
    assert at(place) == ("bin.000004", str((1 << 33) + 99), "a")
    assert place.position()["created"] == "8"


def test_by_gtids_the_start_stays_until_the_server_tells_more() -> None:
    place = Place(START, "b", by_place=False)
    place.file = "bin.000001"
    place.describe(7, 120)
    assert at(place) == ("bin.000003", "5000", "a")
    place.heard("bin.000001", 400)
    assert at(place) == ("bin.000001", "400", "b")


def test_the_offset_of_another_servers_file_says_nothing() -> None:
    """A transaction that ends before it isn't one behind the fourth gigabyte."""
    place = Place(START, "b", by_place=False)
    place.describe(7, 120)
    place.passed(300)
    assert at(place) == ("bin.000003", "300", "b")


def test_by_gtids_on_the_same_file_it_still_does() -> None:
    place = Place(LARGE, "a", by_place=False)
    place.describe(7, 120)
    place.passed(300)
    assert at(place) == ("bin.000003", str((5 << 32) + 300), "a")


def test_streams_have_server_ids_of_their_own() -> None:
    """Of a follower, of a held table's, and of a cutover that reads along; and another's than what people choose."""
    names = [("pay", "m1", ""), ("pay", "m2", ""), ("pay", "m1", "p.entry"), ("pay", "m1", "", "changed")]
    found = {Stream.server_id(*some) for some in names}
    assert len(found) == len(names)
    assert all(0x7000_0000 <= number < 1 << 31 for number in found)

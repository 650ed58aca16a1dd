"""Keys of single rows as conditions, and how the night is bounded."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from migrate.config import Config, Cutover, Run, parse_url
from migrate.cutover.brisk import brisk
from migrate.model import Interleave, Shard
from verify.ranges import Keys
from verify.totals import fitting

ONE, TWO = Shard("m1", "s", "t_0"), Shard("m2", "s", "t_1")


@given(st.integers(-(2**40), 2**40), st.integers(1, 20), st.data())
def test_a_merged_key_is_looked_for_as_the_old_one(old: int, bits: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, 2**bits - 1))
    keys = Keys(("Id",), {ONE: ((str((old << bits) + number),),)})
    assert keys.on(ONE, {"id": Interleave(bits, number)}) == f"`Id` IN ({old})"
    assert keys.condition == f"`Id` IN ({(old << bits) + number})"


def test_keys_of_several_columns() -> None:
    keys = Keys(("a", "b"), {ONE: (("1", "X'00'"), ("5", "''")), TWO: (("1", "X'00'"),)})
    assert keys.condition == "((`a` = 1 AND `b` = X'00') OR (`a` = 5 AND `b` = ''))"
    assert keys.on(TWO, {"a": Interleave(1, 1)}) == "((`a` = 0 AND `b` = X'00'))"
    assert keys.everywhere([TWO]).on(TWO, {}) == keys.condition


def test_no_key_is_no_row() -> None:
    assert Keys(("a",), {}).on(ONE, {}) == "`a` IN (NULL)"
    assert Keys(("a", "b"), {}).condition == "(NULL)"


def test_in_a_freeze_no_server_is_waited_for_longer_than_it_lasts() -> None:
    server = parse_url("mysql://u:p@h", "m1", {})
    config = Config(Path("x.toml"), "x", None, (server,), server, (), (), Run(patience_s=300),
                    cutover=Cutover(freeze_s=8))  # fmt: skip
    found = brisk(config)
    assert found.run.patience_s == 2
    assert [e.answer_s for e in (*found.sources, found.target)] == [8, 8]
    assert config.run.patience_s == 300


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 100), max_size=8), st.floats(0, 300))
def test_as_many_tables_as_fit_are_read_again(seconds: dict[str, float], within_s: float) -> None:
    found = fitting(seconds, within_s)
    assert sum(sorted(seconds[n] for n in found)) <= within_s * (1 + 1e-9) + 1e-9
    rest = [s for n, s in seconds.items() if n not in found]
    assert all(seconds[n] <= s for n in found for s in rest), "a slower one was taken"
    if rest:
        assert sum(seconds[n] for n in found) + min(rest) >= within_s * (1 - 1e-9) - 1e-9, "one more would have fitted"

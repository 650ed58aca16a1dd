"""Dates and times in their binary form."""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Callable
from functools import lru_cache


class _Days(dict[int, bytes]):
    """Texts of dates by year << 9 | month << 5 | day, for years of months or, as DATETIME has them, of thirteen."""

    def __init__(self, months: int):
        self._months = months

    def __missing__(self, packed: int) -> bytes:
        months, day = packed >> 5, packed & 31
        year, month = divmod(months, self._months)
        text = b"%04d-%02d-%02d" % (year, month, day)
        if packed and not (1 <= month <= 12 and 1 <= day <= _month_days(year, month)):
            raise ValueError(f"there is no day {text.decode()}, the target would store 0000-00-00")
        if len(self) > 50_000:
            self.clear()
        self[packed] = text
        return text


class _Epoch(dict[int, bytes]):
    """Texts of dates by days since 1970."""

    def __missing__(self, days: int) -> bytes:
        text = self[days] = datetime.date.fromordinal(719_163 + days).isoformat().encode()
        return text


def _month_days(year: int, month: int) -> int:
    return 29 if month == 2 and year and calendar.isleap(year) else (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[
        month - 1]  # fmt: skip


_DATES, _DATETIMES, _EPOCH = _Days(16), _Days(13), _Epoch()
_DATETIME_SIGN = 1 << 39


def date_text(value: bytes) -> bytes:
    return _DATES[int.from_bytes(value, "little")]


def adopt_time(value: bytes) -> bytes:
    number = int.from_bytes(value, "little", signed=True)
    minutes, seconds = divmod(abs(number), 100)
    hours, minutes = divmod(minutes, 100)
    packed = hours << 12 | minutes << 6 | seconds
    return (0x800000 + (packed if number >= 0 else -packed)).to_bytes(3, "big")


def adopt_datetime(value: int) -> bytes:
    parts = []
    for base in (100, 100, 100, 100, 100):
        value, part = divmod(value, base)
        parts.append(part)
    second, minute, hour, day, month = parts
    days = (value * 13 + month) << 5 | day
    return (_DATETIME_SIGN | days << 17 | hour << 12 | minute << 6 | second).to_bytes(5, "big")


def _fraction(digits: int) -> tuple[int, int, int]:
    """(bits that a fraction takes, their mask, what divides it: two digits lie in a byte)."""
    bits = 8 * ((digits + 1) // 2)
    return bits, (1 << bits) - 1, 10 if digits % 2 else 1


@lru_cache
def datetime_text(digits: int) -> Callable[[bytes], bytes]:
    """Big-endian: a bit that is always set, year * 13 + month in 17 bits, day, hour, minute, second, fraction."""
    bits, mask, over = _fraction(digits)
    sign, form = 1 << 22, b"%%b %%02d:%%02d:%%02d.%%0%dd" % digits
    from_bytes, days = int.from_bytes, _DATETIMES

    def whole(value: bytes) -> bytes:
        n = from_bytes(value, "big")
        return b"%b %02d:%02d:%02d" % (days[n >> 17 ^ sign], n >> 12 & 31, n >> 6 & 63, n & 63)

    def text(value: bytes) -> bytes:
        n = from_bytes(value, "big")
        fraction = (n & mask) // over
        n >>= bits
        return form % (days[n >> 17 ^ sign], n >> 12 & 31, n >> 6 & 63, n & 63, fraction)

    return text if digits else whole


@lru_cache
def timestamp_text(digits: int) -> Callable[[bytes], bytes]:
    """Big-endian seconds since 1970, and the fraction. Second 0 is the zero date."""
    bits, mask, over = _fraction(digits)
    tail = b".%%0%dd" % digits if digits else b""
    zero = b"0000-00-00 00:00:00" + (tail % 0 if digits else b"")

    def text(value: bytes) -> bytes:
        n = int.from_bytes(value, "big")
        seconds = n >> bits
        if not seconds:
            return zero
        days, seconds = divmod(seconds, 86400)
        minutes, second = divmod(seconds, 60)
        hour, minute = divmod(minutes, 60)
        shown = b"%b %02d:%02d:%02d" % (_EPOCH[days], hour, minute, second)
        return shown + tail % ((n & mask) // over) if digits else shown

    return text


@lru_cache
def time_text(digits: int) -> Callable[[bytes], bytes]:
    """Big-endian from an offset: hours in 10 bits (after two that are 0), minutes, seconds, and the fraction."""
    bits, mask, over = _fraction(digits)
    offset = 0x800000 << bits
    tail = b".%%0%dd" % digits

    def text(value: bytes) -> bytes:
        n = int.from_bytes(value, "big") - offset
        sign = b"-" if n < 0 else b""
        n = abs(n)
        clock = n >> bits
        shown = b"%b%02d:%02d:%02d" % (sign, clock >> 12 & 1023, clock >> 6 & 63, clock & 63)
        return shown + tail % ((n & mask) // over) if digits else shown

    return text

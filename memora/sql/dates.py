"""SQLite's date and time functions: date, time, datetime, julianday, unixepoch, strftime, timediff.

A moment is a whole number of milliseconds since noon of 24 November 4714 BC (proleptic Gregorian), SQLite's own unit, so that
conversions round as it does. `now` comes from the statement's clock: it is one moment in the whole statement.
"""
from __future__ import annotations

import re
import time as _time

DAY_MS = 86400000
UNIX_MS = 210866760000000        # 1970-01-01 00:00
LEAST_MS, MOST_MS = 0, 464269060799999

_DATE = re.compile(r"(-?\d{4})-(\d\d)-(\d\d)(?:[ \tT]*(.*))?\Z", re.S)
_TIME = re.compile(r"(\d\d):(\d\d)(?::(\d\d)(\.\d+)?)?\s*(Z|[+-]\d\d:\d\d)?\s*\Z", re.I)
_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*\Z")
_SHIFT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(second|minute|hour|day|month|year)s?\Z", re.I)
_DATES = re.compile(r"([+-])(\d{4})-(\d\d)-(\d\d)(?: (\d\d):(\d\d)(?::(\d\d)(\.\d+)?)?)?\Z")
_CLOCK = re.compile(r"([+-])(\d\d):(\d\d)(?::(\d\d)(\.\d+)?)?\Z")
_UNITS = {"second": 1000.0, "minute": 60000.0, "hour": 3600000.0, "day": 86400000.0}


def from_civil(year, month, day, hour=0, minute=0, second=0.0):
    """Milliseconds of a date and time; a day past the month's end runs over into the next."""
    if month <= 2:
        year -= 1
        month += 12
    a = year // 100
    b = 2 - a + a // 4
    days = 36525 * (year + 4716) // 100 + 306001 * (month + 1) // 10000 + day + b
    return int((days - 1524.5) * DAY_MS) + hour * 3600000 + minute * 60000 + int(second * 1000 + 0.5)


def to_civil(ms):
    """(year, month, day, hour, minute, seconds as float)."""
    z = (ms + 43200000) // DAY_MS
    alpha = int((z - 1867216.25) / 36524.25)
    a = z + 1 + alpha - alpha // 4
    b = a + 1524
    c = int((b - 122.1) / 365.25)
    d = 36525 * (c & 32767) // 100
    e = int((b - d) / 30.6001)
    day = b - d - int(30.6001 * e)
    month = e - 1 if e < 14 else e - 13
    year = c - 4716 if month > 2 else c - 4715
    rest = (ms + 43200000) % DAY_MS
    return year, month, day, rest // 3600000, rest // 60000 % 60, rest % 60000 / 1000.0


def _local_offset(ms):
    """Milliseconds to add for local time; years that the C library may not know borrow one that it does."""
    seconds = (ms - UNIX_MS) // 1000
    if not 0 <= seconds <= 2145916800:
        year, month, day, hour, minute, second = to_civil(ms)
        seconds = (from_civil(2000 + year % 4, month, day, hour, minute, second) - UNIX_MS) // 1000
    return _time.localtime(seconds).tm_gmtoff * 1000


class _Moment:
    """ms: the moment; raw: the number that it was given as; over: days that it lies past the end of the month that was meant."""

    __slots__ = ("ms", "raw", "subsecond", "over")

    def __init__(self, ms, raw=None):
        self.ms, self.raw, self.subsecond, self.over = ms, raw, False, 0


def _days_over(year, month, day):
    """Days by which a day lies past its month's end."""
    if month == 2:
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        return max(0, day - (29 if leap else 28))
    return max(0, day - (30 if month in (4, 6, 9, 11) else 31))


def _start(value, now):
    """The moment of a first argument, or None."""
    if isinstance(value, (int, float)):
        return _number(float(value))
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    text = value.strip(" \t\n\r\v\f") if isinstance(value, str) else ""
    if text.lower() == "now":
        return _Moment(now)
    match = _DATE.match(text)
    if match:
        year, month, day = int(match[1]), int(match[2]), int(match[3])
        if not (1 <= month <= 12 and 1 <= day <= 31):
            return None
        clock = (0, 0, 0.0, 0)
        if match[4]:
            clock = _clock(match[4])
            if clock is None:
                return None
        moment = _Moment(from_civil(year, month, day, *clock[:3]) - clock[3])
        moment.over = _days_over(year, month, day)
        return moment
    clock = _clock(text)
    if clock is not None:
        return _Moment(from_civil(2000, 1, 1, *clock[:3]) - clock[3])
    if _NUMBER.match(text):
        return _number(float(text))
    return None


def _clock(text):
    match = _TIME.match(text)
    if not match:
        return None
    hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
    if hour > 24 or minute > 59 or second > 59:
        return None
    zone = 0
    if match[5] and match[5] not in "zZ":
        zone = (int(match[5][1:3]) * 60 + int(match[5][4:6])) * 60000 * (-1 if match[5][0] == "-" else 1)
    return hour, minute, second + float(match[4] or 0), zone


def _number(number):
    if not 0.0 <= number < 5373484.5:
        return _Moment(None, number)
    return _Moment(int(number * DAY_MS + 0.5), number)


def _modify(moment, modifier):
    """Applies one modifier; False if it is none."""
    text = modifier.strip().lower()
    if text == "unixepoch":
        if moment.raw is None:
            return False
        moment.ms, moment.raw = int(round(moment.raw * 1000)) + UNIX_MS, None
        return True
    if text == "auto":
        if moment.raw is not None and moment.ms is None:
            moment.ms, moment.raw = int(round(moment.raw * 1000)) + UNIX_MS, None
        return True
    if text == "julianday":
        return moment.raw is not None and moment.ms is not None
    if moment.ms is None:
        return False
    moment.raw = None
    if text in ("floor", "ceiling"):
        if text == "floor":
            moment.ms -= moment.over * DAY_MS
        moment.over = 0
        return True
    if text in ("subsec", "subsecond"):
        moment.subsecond = True
        return True
    if text == "localtime":
        moment.ms += _local_offset(moment.ms)
        return True
    if text == "utc":
        guess = moment.ms - _local_offset(moment.ms)
        moment.ms -= _local_offset(guess)
        return True
    if text.startswith("start of "):
        year, month, day = to_civil(moment.ms)[:3]
        if text == "start of day":
            moment.ms = from_civil(year, month, day)
        elif text == "start of month":
            moment.ms = from_civil(year, month, 1)
        elif text == "start of year":
            moment.ms = from_civil(year, 1, 1)
        else:
            return False
        return True
    if text.startswith("weekday"):
        try:
            wanted = float(text[7:])
        except ValueError:
            return False
        if wanted != int(wanted) or not 0 <= wanted <= 6:
            return False
        today = (moment.ms + 129600000) // DAY_MS % 7
        moment.ms += (int(wanted) - today) % 7 * DAY_MS
        return True
    match = _SHIFT.match(text)
    if match:
        return _shift(moment, float(match[1]), match[2])
    match = _DATES.match(text)
    if match:
        return _shift_date(moment, match)
    match = _CLOCK.match(text)
    if match:
        ms = (int(match[2]) * 60 + int(match[3])) * 60000 + int((int(match[4] or 0) + float(match[5] or 0)) * 1000 + 0.5)
        moment.ms += -ms if match[1] == "-" else ms
        return True
    return False


def _shift(moment, amount, unit):
    if unit in _UNITS:
        ms = amount * _UNITS[unit]
        if abs(ms) > 2 * MOST_MS:
            return False
        moment.ms += int(ms + (0.5 if ms > 0 else -0.5))
        return True
    if abs(amount) > 200000:
        return False
    year, month, day, hour, minute, second = to_civil(moment.ms)
    whole = int(amount)
    if unit == "month":
        total = year * 12 + month - 1 + whole
        year, month = total // 12, total % 12 + 1
        rest = (amount - whole) * 30.0 * DAY_MS
    else:
        year += whole
        rest = (amount - whole) * 365.0 * DAY_MS
    moment.ms = from_civil(year, month, day, hour, minute, second) + int(rest + (0.5 if rest > 0 else -0.5 if rest else 0))
    moment.over = _days_over(year, month, day)
    return True


def _shift_date(moment, match):
    """+YYYY-MM-DD HH:MM:SS: years and months first, then days and time."""
    sign = -1 if match[1] == "-" else 1
    months, days = int(match[3]), int(match[4])
    if months > 11 or days > 30:
        return False
    year, month, day, hour, minute, second = to_civil(moment.ms)
    total = (year + sign * int(match[2])) * 12 + month - 1 + sign * months
    year, month = total // 12, total % 12 + 1
    rest = days * DAY_MS
    if match[5]:
        if int(match[5]) > 24 or int(match[6]) > 59 or int(match[7] or 0) > 59:
            return False
        rest += (int(match[5]) * 60 + int(match[6])) * 60000 + int((int(match[7] or 0) + float(match[8] or 0)) * 1000 + 0.5)
    moment.ms = from_civil(year, month, day, hour, minute, second) + sign * rest
    moment.over = _days_over(year, month, day)
    return True


def _moment(args, now):
    if not args:
        return _Moment(now)
    if any(a is None for a in args):
        return None
    moment = _start(args[0], now)
    if moment is None:
        return None
    for modifier in args[1:]:
        if isinstance(modifier, bytes):
            modifier = modifier.decode("utf-8", "replace")
        if not _modify(moment, str(modifier)):
            return None
    if moment.ms is None or not LEAST_MS <= moment.ms <= MOST_MS:
        return None
    return moment


def now_ms():
    """The clock, as `now` of a statement."""
    return UNIX_MS + _time.time_ns() // 1000000


def _seconds(moment, second):
    return f"{second:06.3f}" if moment.subsecond else f"{int(second):02d}"


def _date_text(year, month, day):
    return f"{year:04d}-{month:02d}-{day:02d}" if year >= 0 else f"-{-year:04d}-{month:02d}-{day:02d}"


def date(now, *args):
    moment = _moment(args, now)
    return None if moment is None else _date_text(*to_civil(moment.ms)[:3])


def time(now, *args):
    moment = _moment(args, now)
    if moment is None:
        return None
    _, _, _, hour, minute, second = to_civil(moment.ms)
    return f"{hour:02d}:{minute:02d}:{_seconds(moment, second)}"


def datetime_(now, *args):
    moment = _moment(args, now)
    if moment is None:
        return None
    year, month, day, hour, minute, second = to_civil(moment.ms)
    return f"{_date_text(year, month, day)} {hour:02d}:{minute:02d}:{_seconds(moment, second)}"


def julianday(now, *args):
    moment = _moment(args, now)
    return None if moment is None else moment.ms / DAY_MS


def unixepoch(now, *args):
    moment = _moment(args, now)
    if moment is None:
        return None
    if moment.subsecond:
        return (moment.ms - UNIX_MS) / 1000.0
    return moment.ms // 1000 - UNIX_MS // 1000


def timediff(now, first, second):
    """What is to be added to the second moment to get the first one, as +YYYY-MM-DD HH:MM:SS.SSS."""
    a, b = _moment((first,), now), _moment((second,), now)
    if a is None or b is None:
        return None
    sign = 1 if a.ms >= b.ms else -1
    year, month = to_civil(a.ms)[:2]
    other = to_civil(b.ms)
    months = sign * ((year - other[0]) * 12 + month - other[1])
    while True:
        total = other[0] * 12 + other[1] - 1 + sign * months
        ms = from_civil(total // 12, total % 12 + 1, *other[2:])
        if (a.ms - ms) * sign >= 0:
            break
        months -= 1
    rest = abs(a.ms - ms)
    return (f"{'+' if sign > 0 else '-'}{months // 12:04d}-{months % 12:02d}-{rest // DAY_MS:02d} {rest // 3600000 % 24:02d}:"
            f"{rest // 60000 % 60:02d}:{rest % 60000 / 1000:06.3f}")


def _iso_week(ms, weekday):
    """(year, week) after ISO 8601: those of the week's Thursday."""
    thursday = ms + (4 - (weekday or 7)) * DAY_MS
    year = to_civil(thursday)[0]
    return year, (thursday - from_civil(year, 1, 1)) // DAY_MS // 7 + 1


def strftime(now, form, *args):
    moment = _moment(args, now)
    if moment is None or form is None:
        return None
    form = form.decode("utf-8", "replace") if isinstance(form, bytes) else str(form)
    ms = moment.ms
    year, month, day, hour, minute, second = to_civil(ms)
    out = []
    i = 0
    while i < len(form):
        c = form[i]
        i += 1
        if c != "%":
            out.append(c)
            continue
        if i == len(form):
            return None
        c = form[i]
        i += 1
        first = from_civil(year, 1, 1)
        yday = (ms - first + 43200000 - 43200000) // DAY_MS
        weekday = (ms + 129600000) // DAY_MS % 7
        if c == "d":
            out.append(f"{day:02d}")
        elif c == "e":
            out.append(f"{day:2d}")
        elif c == "f":
            out.append(f"{min(second, 59.999):06.3f}")
        elif c == "F":
            out.append(_date_text(year, month, day))
        elif c == "G":
            out.append(f"{_iso_week(ms, weekday)[0]:04d}")
        elif c == "g":
            out.append(f"{_iso_week(ms, weekday)[0] % 100:02d}")
        elif c == "V":
            out.append(f"{_iso_week(ms, weekday)[1]:02d}")
        elif c == "U":
            out.append(f"{(yday + 7 - weekday) // 7:02d}")
        elif c == "H":
            out.append(f"{hour:02d}")
        elif c == "I":
            out.append(f"{(hour + 11) % 12 + 1:02d}")
        elif c == "j":
            out.append(f"{yday + 1:03d}")
        elif c == "J":
            out.append(f"{ms / DAY_MS:.16g}")
        elif c == "k":
            out.append(f"{hour:2d}")
        elif c == "l":
            out.append(f"{(hour + 11) % 12 + 1:2d}")
        elif c == "m":
            out.append(f"{month:02d}")
        elif c == "M":
            out.append(f"{minute:02d}")
        elif c in "pP":
            half = "AM" if hour < 12 else "PM"
            out.append(half if c == "p" else half.lower())
        elif c == "R":
            out.append(f"{hour:02d}:{minute:02d}")
        elif c == "s":
            out.append(str((ms - UNIX_MS) / 1000.0 if moment.subsecond else ms // 1000 - UNIX_MS // 1000))
        elif c == "S":
            out.append(f"{int(second):02d}")
        elif c == "T":
            out.append(f"{hour:02d}:{minute:02d}:{int(second):02d}")
        elif c == "u":
            out.append(str(weekday or 7))
        elif c == "w":
            out.append(str(weekday))
        elif c == "W":
            monday = (ms + 43200000) // DAY_MS % 7
            out.append(f"{(yday + 7 - monday) // 7:02d}")
        elif c == "Y":
            out.append(f"{year:04d}")
        elif c == "%":
            out.append("%")
        else:
            return None
    return "".join(out)

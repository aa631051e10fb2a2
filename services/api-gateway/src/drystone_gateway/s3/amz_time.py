# SPDX-License-Identifier: Apache-2.0
"""Times as S3 writes and reads them, by integer arithmetic (no locale, no datetime objects on hot paths).

Seconds are Unix seconds, milliseconds Unix milliseconds, all UTC. Parsers return None for what they do not understand.
"""

import re

_DAYS = ("Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed")
_LONG_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBER = {name: index + 1 for index, name in enumerate(_MONTHS)}
_AMZ = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z\Z", re.ASCII)
_RFC1123 = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (\d\d) ([A-Z][a-z]{2}) (\d{4}) (\d\d):(\d\d):(\d\d) (?:GMT|UTC|\+0000|-0000)\Z",
    re.ASCII,
)
_RFC850 = re.compile(
    rf"(?:{'|'.join(_LONG_DAYS)}), (\d\d)-([A-Z][a-z]{{2}})-(\d\d) (\d\d):(\d\d):(\d\d) GMT\Z", re.ASCII
)
_ASCTIME = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) ([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d):(\d\d) (\d{4})\Z", re.ASCII
)
_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.\d{1,9})?(?:Z|\+00:00)\Z", re.ASCII)


def days_from_civil(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 of a Gregorian date (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms")."""
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def civil_from_days(days: int) -> tuple[int, int, int]:
    """(year, month, day); the inverse of `days_from_civil`."""
    days += 719468
    era = days // 146097
    of_era = days - era * 146097
    years = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * years + years // 4 - years // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + (3 if shifted < 10 else -9)
    return years + era * 400 + (month <= 2), month, of_year - (153 * shifted + 2) // 5 + 1


def _seconds(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int | None:
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60):
        return None
    days = days_from_civil(year, month, day)
    if civil_from_days(days) != (year, month, day):
        return None
    return days * 86400 + hour * 3600 + minute * 60 + second


def parse_amz_date(text: str) -> int | None:
    """Seconds of `20261123T141841Z`."""
    match = _AMZ.match(text)
    return _seconds(*map(int, match.groups())) if match else None


def amz_date(seconds: int) -> str:
    """`20261123T141841Z`."""
    days, rest = divmod(seconds, 86400)
    year, month, day = civil_from_days(days)
    return f"{year:04d}{month:02d}{day:02d}T{rest // 3600:02d}{rest // 60 % 60:02d}{rest % 60:02d}Z"


def parse_http_date(text: str) -> int | None:
    """Seconds of an HTTP date in any of the three forms of RFC 9110 §5.6.7."""
    if match := _RFC1123.match(text):
        day, month, year, hour, minute, second = match.groups()
    elif match := _ASCTIME.match(text):
        month, day, hour, minute, second, year = match.groups()
    elif match := _RFC850.match(text):
        day, month, year, hour, minute, second = match.groups()
        year = ("19" if year >= "70" else "20") + year
    else:
        return None
    number = _MONTH_NUMBER.get(month)
    if number is None:
        return None
    return _seconds(int(year), number, int(day), int(hour), int(minute), int(second))


def http_date(seconds: int) -> str:
    """`Mon, 23 Nov 2026 14:18:41 GMT`."""
    days, rest = divmod(seconds, 86400)
    year, month, day = civil_from_days(days)
    return (
        f"{_DAYS[days % 7]}, {day:02d} {_MONTHS[month - 1]} {year:04d} "
        f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d} GMT"
    )


def iso_date(seconds: int) -> str:
    """`2026-11-23T14:18:41.000Z`, the form of XML answers (same instant as Last-Modified, s3-surface §5 #23)."""
    days, rest = divmod(seconds, 86400)
    year, month, day = civil_from_days(days)
    return f"{year:04d}-{month:02d}-{day:02d}T{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}.000Z"


def parse_iso_date(text: str) -> int | None:
    """Seconds of an ISO 8601 UTC time; fractions are dropped."""
    match = _ISO.match(text)
    return _seconds(*map(int, match.groups())) if match else None

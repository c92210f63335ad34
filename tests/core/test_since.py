"""`--since` and `--for` are read unambiguously or refused."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.errors import UsageError
from watcher.logs.since import parse, span

NOW = datetime(2026, 11, 27, 13, 20, 30, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("3h", timedelta(hours=3)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("1d12h", timedelta(days=1, hours=12)),
        ("1.5h", timedelta(hours=1, minutes=30)),
        ("20s", timedelta(seconds=20)),
        ("2w", timedelta(weeks=2)),
        ("1w2d3h4m5s", timedelta(weeks=1, days=2, hours=3, minutes=4, seconds=5)),
        ("5 minutes ago", timedelta(minutes=5)),
        ("1 hour 30 min ago", timedelta(hours=1, minutes=30)),
        ("30 minutes", timedelta(minutes=30)),
        ("1d ago", timedelta(days=1)),
        (" 2 hrs ", timedelta(hours=2)),
        ("0s", timedelta(0)),
    ],
)
def test_a_duration_is_counted_back_from_now(text: str, span: timedelta):
    assert parse(text, NOW) == NOW - span


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T10:00Z", datetime(2026, 11, 20, 10, tzinfo=UTC)),
        ("2026-11-20T10:00", datetime(2026, 11, 20, 10, tzinfo=UTC)),
        ("2026-11-20 10:00:15 UTC", datetime(2026, 11, 20, 10, 0, 15, tzinfo=UTC)),
        ("2026-11-20 10:00:15.25Z", datetime(2026, 11, 20, 10, 0, 15, 250_000, tzinfo=UTC)),
        ("2026-11-20T10:00+05:30", datetime(2026, 11, 20, 4, 30, tzinfo=UTC)),
        ("2026-11-20T10:00-0800", datetime(2026, 11, 20, 18, tzinfo=UTC)),
        ("2026-11-27T13:20:30Z", NOW),
    ],
)
def test_a_date_or_time_is_in_utc_unless_it_names_a_zone(text: str, moment: datetime):
    assert parse(text, NOW) == moment


@pytest.mark.parametrize(
    "text",
    [
        "3 months ago",
        "2 years",
        "20 dec 2026",
        "20 nov 2026 10:00",
        "yesterday",
        "last week",
        "now",
        "-5m",
        "+5m",
        "5",
        "1609459200",
        "5M",
        "3H",
        "1e3s",
        "1,5h",
        ".5h",
        "1h 30",
        "30m1h",
        "1h2h",
        "\u0663h",
        "3hago",
        "ago",
        "",
        " ",
        "3h from now",
        "3h ago ago",
        "10:00",
        "2026-11",
        "20261120",
        "2026-W47-5",
        "2026-11-20x10:00",
        "2026-11-20Z",
        "2026-11-20T10",
        "2026-11-20T10:00 Berlin",
        "2026-11-20T10:00+5",
    ],
)
def test_an_ambiguous_time_is_refused_with_examples(text: str):
    with pytest.raises(UsageError, match=re.escape(f"--since {text!r}: write how long ago, such as 30m, ")):
        parse(text, NOW)


@pytest.mark.parametrize("text", ["2026-02-30", "2026-13-01", "2026-11-20T25:00", "2026-11-20T10:00+99:00"])
def test_a_time_that_does_not_exist_is_refused(text: str):
    with pytest.raises(UsageError, match=re.escape(f"--since {text!r}: there is no such date or time")):
        parse(text, NOW)


@pytest.mark.parametrize(
    "text", ["2026-11-28", "2026-12-20T10:00Z", "2026-11-27T13:20:31", "9999-12-31T23:59-12:00"]
)
def test_the_future_is_refused(text: str):
    with pytest.raises(UsageError) as refused:
        parse(text, NOW)

    assert str(refused.value) == f"--since {text!r} is in the future: it is 2026-11-27 13:20 UTC now"


@pytest.mark.parametrize("text", ["1914-06-28", "99999999w", "9" * 400 + "d", "0001-01-01T00:00+14:00"])
def test_a_time_before_1970_becomes_1970_because_there_are_no_earlier_logs(text: str):
    assert parse(text, NOW) == EPOCH


UNITS = {
    "weeks": ("w", " week", " weeks"),
    "days": ("d", " day", " days"),
    "hours": ("h", " hr", " hrs", " hour", " hours"),
    "minutes": ("m", " min", " mins", " minute", " minutes"),
    "seconds": ("s", " sec", " secs", " second", " seconds"),
}


@st.composite
def spans(draw: st.DrawFn) -> tuple[str, timedelta]:
    chosen = draw(st.sets(st.sampled_from(list(UNITS)), min_size=1))
    amounts = {unit: draw(st.integers(0, 60)) for unit in UNITS if unit in chosen}
    between = draw(st.sampled_from(["", " ", "  "]))
    words = [f"{amount}{draw(st.sampled_from(UNITS[unit]))}" for unit, amount in amounts.items()]
    return between.join(words) + draw(st.sampled_from(["", " ago"])), timedelta(**amounts)


@given(spans())
def test_a_duration_is_the_sum_of_its_parts_in_any_notation(written: tuple[str, timedelta]):
    text, span = written

    assert parse(text, NOW) == NOW - span


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(2026, 11, 26)),  # noqa: DTZ001 - the zone is drawn below
    st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_isoformat_output_is_read_as_the_same_moment(naive: datetime, zone: timezone):
    moment = naive.replace(tzinfo=zone)

    assert parse(moment.isoformat(), NOW) == moment
    assert parse(naive.isoformat(" "), NOW) == naive.replace(tzinfo=UTC)


PIECES = [*"0123456789.:-+TZ ", "ago", "2026-", "11-", "20", *UNITS, *"wdhms", "months", "UTC"]


@given(st.text() | st.lists(st.sampled_from(PIECES)).map("".join))
def test_any_other_text_is_refused_and_no_result_is_in_the_future(text: str):
    try:
        moment = parse(text, NOW)
    except UsageError:
        return
    assert EPOCH <= moment <= NOW


@given(spans())
def test_a_span_ahead_is_read_as_one_that_is_past_without_ago(written: tuple[str, timedelta]):
    text, length = written

    assert span(text) == (None if text.endswith("ago") else length)


@pytest.mark.parametrize("text", ["", "2", "soon", "2026-11-20", "1h -30m", "2 months", "ago"])
def test_any_other_text_is_no_span(text: str):
    assert span(text) is None


def test_a_span_that_no_calendar_holds_is_the_longest_there_is():
    assert span("99999999999 weeks") == timedelta.max

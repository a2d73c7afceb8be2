"""500,000 real ticks, served by a played Yahoo that cuts the socket, in both dialects.

Expected values: the file by pandas, bars by pandas, indicators by TA-Lib on those bars. DateTime in
the file has no zone; it is read as UTC here, by the player and by pandas alike.
"""

import json
import os
from pathlib import Path
from urllib.parse import quote

import numpy
import pandas
import pytest
import talib
from harness import lake
from harness.broker import Broker, wait_for
from harness.topics import read_all
from harness.yahoo import Yahoo, ticks

pytestmark = [pytest.mark.needs("tick_data.csv"), pytest.mark.odradek_only]
TICKS, WINDOWS = 500_000, 2_264
SYMBOL = "ES=F"
KILLS = 60 if os.environ.get("ODRADEK_TEST_FULL") else 10
TOLERANCE = 1e-9


def pipeline(url, dir):
    return f"""
[[source]]
name = "stocks"
type = "websocket"
preset = "yahoo"
url = "{url}"
symbols = ["{SYMBOL}"]
topic = "stocks"
backoff = {{ min = "50ms", max = "300ms", reset_after = "1s" }}

[[window]]
name = "bars"
input = "stocks"
output = "stocks.bars.1m"
price = "price"
volume = "dayVolume"
volume_kind = "cumulative"

[[indicator]]
name = "indicators"
input = "stocks.bars.1m"
output = "stocks.indicators.1m"

[[parquet]]
name = "stocks-lake"
input = "stocks"
dir = "{dir}"
rows = 100000
every = "1s"
"""


@pytest.fixture(scope="module")
def rows():
    return ticks(Path(os.environ["ODRADEK_TEST_DATA"]) / "tick_data.csv")


@pytest.fixture(scope="module")
def frame(rows):
    frame = pandas.DataFrame(rows, columns=["time_ms", "price", "total", "volume"])
    assert len(frame) == TICKS and frame["volume"].sum() == 1_844_058
    return frame


@pytest.fixture(scope="module")
def bars(frame):
    """One row per non-empty minute. The first tick of a running total tells no volume."""
    volume = frame["total"].diff().fillna(0)
    grouped = frame.assign(volume=volume).groupby(frame["time_ms"] // 60_000 * 60_000)
    bars = grouped.agg(
        open=("price", "first"), high=("price", "max"), low=("price", "min"),
        close=("price", "last"), volume=("volume", "sum"), ticks=("price", "size"))
    assert len(bars) == WINDOWS
    first = list(bars.iloc[0][["open", "high", "low", "close"]])
    assert first == [1640.25, 1641.0, 1639.0, 1639.75]
    return bars


@pytest.fixture(scope="module", params=["bare", "envelope"])
def streamed(request, folders, rows):
    """A broker to which all ticks have come, over a socket that was cut six times."""
    folder = folders()
    with Yahoo(SYMBOL, rows, request.param, cuts=6) as yahoo:
        broker = Broker(folder=folder, pipeline=pipeline(yahoo.url, folder / "lake"))
        with broker:
            wait_for("all frames to be ponged", yahoo.done, 240, 0.2)
            broker.yahoo = yahoo
            yield broker


def test_all_ticks_are_in_the_topic_once_and_in_order(streamed, rows):
    assert streamed.yahoo.connections == 7
    assert streamed.yahoo.resent > 0, "the cuts left nothing to send again"
    assert streamed.count("stocks") == TICKS
    check_topic(streamed, rows)


def check_topic(broker, rows):
    got = []
    for _, _, timestamp, key, value in read_all(broker.bootstrap, "stocks"):
        document = json.loads(value)
        assert key.decode() == document["id"] == SYMBOL
        assert timestamp == document["timestamp"]
        got.append((timestamp, document["price"], document["dayVolume"]))
    wanted = [(milliseconds, price, total) for milliseconds, price, total, _ in rows]
    assert len(got) == len(wanted)
    assert got == wanted


def test_a_document_has_the_keys_of_yliveticker(streamed):
    page = streamed.get_json("/api/v1/topics/stocks/records?from=2013-09-01&to=2013-09-02&limit=1")
    value = page["records"][0]["value"]
    document = json.loads(value) if isinstance(value, str) else value
    assert list(document) == [
        "id", "exchange", "quoteType", "price", "timestamp", "marketHours", "changePercent",
        "dayVolume", "dayHigh", "dayLow", "change", "openPrice", "priceHint"]
    assert (document["exchange"], document["quoteType"], document["priceHint"]) == ("CME", 18, 2)


@pytest.mark.parametrize("first, last", [
    ("2013-09-03T08:31:00Z", "2013-09-03T08:32:00Z"),
    ("2013-09-01T22:00:00.000Z", "2013-09-02T03:30:00.250Z"),
    ("2013-09-02T17:00:00.083Z", "2013-09-02T17:00:00.083Z"),
    ("1999-01-01T00:00:00Z", "2013-09-01T17:00:05Z"),
])
def test_a_range_read_between_two_instants_gives_what_pandas_gives(streamed, frame, first, last):
    status, headers, body = streamed.get(
        f"/api/v1/topics/stocks/records?from={quote(first)}&to={quote(last)}",
        {"Accept": "application/x-ndjson"})
    assert status == 200 and headers["Content-Type"].startswith("application/x-ndjson")
    records = [json.loads(line) for line in body.splitlines()]
    from_ms, to_ms = (pandas.Timestamp(one).value // 1_000_000 for one in (first, last))
    wanted = frame[(frame["time_ms"] >= from_ms) & (frame["time_ms"] < to_ms)]
    values = [one["value"] if isinstance(one["value"], dict) else json.loads(one["value"])
              for one in records]
    got = [(one["timestamp_ms"], value["price"], value["dayVolume"])
           for one, value in zip(records, values)]
    assert got == list(wanted[["time_ms", "price", "total"]].itertuples(index=False, name=None))


def test_pages_of_a_range_read_make_the_same_whole(streamed, frame):
    query = "/api/v1/topics/stocks/records?from=2013-09-03T08:31:00Z&to=2013-09-03T08:32:00Z"
    got, cursor = [], None
    while True:
        more = f"&cursor={quote(cursor)}" if cursor else ""
        page = streamed.get_json(f"{query}&limit=1000{more}")
        got += [record["offset"] for record in page["records"]]
        cursor = page.get("next")
        if not cursor:
            break
    assert len(got) == 5472 and got == sorted(set(got))


def latest_by_start(broker, topic):
    latest = {}
    for _, _, timestamp, key, value in read_all(broker.bootstrap, topic):
        document = json.loads(value)
        assert key.decode() == document["symbol"] == SYMBOL
        assert timestamp == document["start"]
        latest[document["start"]] = document
    return pandas.DataFrame.from_dict(latest, orient="index").sort_index()


def check_bars(broker, bars):
    def complete():
        if broker.count("stocks.bars.1m") < WINDOWS:
            return None
        found = latest_by_start(broker, "stocks.bars.1m")
        return [found] if found["ticks"].sum() == TICKS else None

    [found] = wait_for("all bars", complete, 120, 0.5)
    assert len(found) == WINDOWS
    assert list(found.index) == list(bars.index)
    assert (found["end"] == found["start"] + 60_000).all()
    for column in ("open", "high", "low", "close", "volume", "ticks"):
        wrong = numpy.abs(found[column].to_numpy(float) - bars[column].to_numpy(float)) > TOLERANCE
        assert not wrong.any(), f"{column}: {found[wrong][:3]}\n{bars[wrong][:3]}"
    return found


def check_indicators(broker, bars):
    close = bars["close"].to_numpy(float)
    upper, middle, lower = talib.BBANDS(close, timeperiod=20, nbdevup=2, nbdevdn=2, matype=0)
    oscillator = talib.AROONOSC(
        bars["high"].to_numpy(float), bars["low"].to_numpy(float), timeperiod=14)
    wanted = {"bb_upper": upper, "bb_middle": middle, "bb_lower": lower, "aroon_osc": oscillator,
              "close": close}

    def differences():
        if broker.count("stocks.indicators.1m") < WINDOWS:
            return ["not all there"]
        found = latest_by_start(broker, "stocks.indicators.1m")
        if list(found.index) != list(bars.index):
            return ["other windows"]
        return [f"{name}: {difference(found[name], values)}" for name, values in wanted.items()
                if difference(found[name], values) is not None]

    last = None
    try:
        wait_for("the indicators", lambda: not differences(), 60, 1)
    except AssertionError:
        last = differences()
    assert not last, last


def difference(found, wanted):
    """The first place where two columns differ; null stands where TA-Lib has NaN."""
    found = pandas.to_numeric(found).to_numpy(float)
    same = (numpy.abs(found - wanted) <= TOLERANCE) | (numpy.isnan(found) & numpy.isnan(wanted))
    if same.all():
        return None
    at = int(numpy.argmin(same))
    return f"at {at}: {found[at]}, not {wanted[at]} ({int((~same).sum())} differ)"


def test_windows_equal_pandas_and_indicators_equal_talib(streamed, bars):
    check_bars(streamed, bars)
    check_indicators(streamed, bars)


def test_the_parquet_files_hold_each_tick_once(streamed):
    folder = streamed.folder / "lake"
    wait_for("all rows in Parquet", lambda: lake.rows(folder) >= TICKS, 120, 0.5)
    assert lake.holds_each_offset_once(folder, streamed.end_offsets("stocks"))


def test_the_source_tells_its_reconnects(streamed):
    sources = streamed.get_json("/api/v1/sources")["sources"]
    source = next(one for one in sources if one["name"] == "stocks")
    assert source["reconnects"] >= 6 and source["errors"] == 0, source
    assert source["dead_letters"] == 0, source


def test_kill_9_during_the_stream_loses_nothing_and_doubles_nothing(
        make_broker, folders, rows, bars):
    folder = folders()
    # At 40,000 frames a second the stream lasts long enough to be killed in it ten times.
    with Yahoo(SYMBOL, rows, "envelope", cuts=3, seed=2, frames_a_second=40_000) as yahoo:
        broker = make_broker(folder=folder, pipeline=pipeline(yahoo.url, folder / "lake")).start()
        for kill in range(1, KILLS + 1):
            wait_for(f"progress for kill {kill}",
                     lambda: yahoo.progress() >= kill / (KILLS + 1) or yahoo.failure, 120, 0.01)
            acknowledged = yahoo.ponged * 100
            broker.kill()
            broker.start()
            assert broker.count("stocks") >= acknowledged, "a ponged frame is gone"
        wait_for("all frames to be ponged", yahoo.done, 240, 0.2)
        assert broker.count("stocks") == TICKS
        check_topic(broker, rows)
        check_bars(broker, bars)
        check_indicators(broker, bars)
        wait_for("all rows in Parquet", lambda: lake.rows(folder / "lake") >= TICKS, 120, 0.5)
        assert lake.holds_each_offset_once(folder / "lake", broker.end_offsets("stocks"))

"""A week of 100 symbols' ticks in an hour: nothing lost, nothing doubled, and nothing that grows.

What runs: a live ticker of 50 symbols (the played Yahoo, which cuts its socket) and a csv replay of
50 more at `event_time×168`; bars of a minute and indicators of both; a Parquet sink; retention by
time (a simulated day) and by size; a compacted topic; two members of a group that read everything
along and commit; and each simulated hour a topic that a transaction fills, that a group reads, and
that is deleted an hour later. In the first days the process is killed by kill -9 and, after
that, restarted; then it lives on to the end, so that growth would show.

Event time runs 168 times as fast as the clock, and what goes by the clock is divided by 168 as
well: retention, offsets of groups that are gone, producers that went silent. Expected values are
the generator's (harness/market.py), and pandas' of it. No speed is asserted.

Without --full it is seconds long and proves the counting. ODRADEK_TEST_SOAK_MINUTES sets how long.
"""

import os
import random
import threading
import time
from pathlib import Path

import confluent_kafka
import confluent_kafka.admin
import numpy
import pandas
import pyarrow.parquet
import pytest
from harness import lake, usage
from harness.broker import Broker, wait_for
from harness.load import QUIET
from harness.market import BEGIN_MS, DAY_MS, MINUTE_MS, SPEED, STEP_MS, Market, scaled_ms
from harness.reading import Ledger, Member
from harness.topics import read_all
from harness.yahoo import Yahoo

pytestmark = pytest.mark.odradek_only
FULL = os.environ.get("ODRADEK_TEST_FULL")
MINUTES = float(os.environ.get("ODRADEK_TEST_SOAK_MINUTES") or (60 if FULL else 0.08))
SECONDS = MINUTES * 60
SYMBOLS, PARTITIONS = 100, 3
HOUR_SECONDS = 3600 / SPEED
SAMPLE_SECONDS = min(HOUR_SECONDS, SECONDS / 8)
LAKE_SECONDS = round(max(1, min(60, SECONDS / 10)))  # a Parquet file is closed so often
KILL_AT, RESTART_AT = SECONDS / 8, SECONDS / 6
MIB = 1 << 20
# Of what is compared between two quarters: so much of itself, and so much on top. Threads for work
# that blocks (tokio's, sled's) come with the largest demand so far, and stay while they are used.
TOLERANCES = {
    "rss": (0.10, 4 * MIB), "threads": (0, 8), "handles": (0.05, 8), "records": (0.10, 8 * MIB),
    "side": (0.20, MIB), "own": (0.25, 8 * MIB), "journal": (0, 0), "sled": (0.25, 4 * MIB),
    "other": (0.10, MIB),
}
BY_SIZE = {"retention.ms": "-1", "retention.bytes": str(8 * MIB), "segment.bytes": str(MIB)}
# Whatever goes by the time of a record goes by that of its arrival; see harness/market.py.
ARRIVAL = {"message.timestamp.type": "LogAppendTime"}
TOPICS = {
    "ticks": {**ARRIVAL, "retention.ms": str(scaled_ms(DAY_MS)), "segment.bytes": str(4 * MIB)},
    "trades": {**ARRIVAL, **BY_SIZE},
    "ticks.bars": BY_SIZE, "trades.bars": BY_SIZE,
    "ticks.indicators": BY_SIZE, "trades.indicators": BY_SIZE,
    "quotes": {"cleanup.policy": "compact", "segment.bytes": str(MIB)},
}
PROPERTIES = {
    "log.retention.check.interval.ms": str(scaled_ms(300_000)),
    "log.cleaner.backoff.ms": "1000",
    "log.cleaner.delete.retention.ms": str(scaled_ms(DAY_MS)),
    "producer.id.expiration.ms": str(scaled_ms(DAY_MS)),
    "transactional.id.expiration.ms": str(scaled_ms(DAY_MS)),
    "offsets.retention.minutes": "1",
    "offsets.retention.check.interval.ms": str(scaled_ms(600_000)),
}


def pipeline(yahoo, names, csv, dir):
    symbols = ", ".join(f'"{name}"' for name in names)
    analytics = "".join(f"""
[[window]]
name = "{name}-bars"
input = "{name}"
output = "{name}.bars"
time = "timestamp"
price = "price"
volume = "{volume}"
volume_kind = "{kind}"
idle = "1s"

[[indicator]]
name = "{name}-indicators"
input = "{name}.bars"
output = "{name}.indicators"
""" for name, volume, kind in [("ticks", "dayVolume", "cumulative"), ("trades", "size", "delta")])
    return f"""
[[source]]
name = "ticker"
type = "websocket"
preset = "yahoo"
url = "{yahoo.url}"
symbols = [{symbols}]
topic = "ticks"
backoff = {{ min = "50ms", max = "300ms", reset_after = "1s" }}

[[source]]
name = "replay"
type = "csv"
path = "{csv}"
topic = "trades"
key = "{{symbol}}"
types = "auto"
time = {{ field = "timestamp", unit = "ms" }}
pace = "event_time×{SPEED}"
{analytics}
[[parquet]]
name = "lake"
input = "ticks"
dir = "{dir}"
every = "{LAKE_SECONDS}s"
"""


class Expected:
    """What readers of one source's topics check each record against, and what they keep."""

    def __init__(self, market, part, volume):
        self.market, self.part, self.volume = market, part, volume
        self.next = dict.fromkeys(part.symbols, 0)
        shape = (len(part.symbols), market.minutes)
        names = ("open", "high", "low", "close", "volume", "ticks", "final")
        self.bars = {name: numpy.full(shape, numpy.nan) for name in names}
        names = ("close", "bb_upper", "bb_middle", "bb_lower")
        self.indicators = {name: numpy.full(shape, numpy.nan) for name in names}
        self.indicators_seen = numpy.zeros(shape, bool)

    def handlers(self, name):
        return {name: self.tick, f"{name}.bars": self.bar, f"{name}.indicators": self.indicator}

    def tick(self, key, document):
        symbol = self.market.index[key]
        step = self.next[symbol]
        if step == self.market.steps:
            return f"{key} has more ticks than were sent: {document}"
        self.next[symbol] += 1
        time_ms, price, size, total = self.market.tick(symbol, step)
        wanted = (time_ms, price, total if self.volume == "dayVolume" else size)
        found = (document["timestamp"], document["price"], document[self.volume])
        return None if found == wanted else f"{key}: {found}, not {wanted}"

    def place(self, key, document):
        minute, rest = divmod(document["start"] - BEGIN_MS, MINUTE_MS)
        assert rest == 0, document
        return self.market.index[key] - self.part.symbols.start, minute

    def bar(self, key, document):
        at = self.place(key, document)
        for name, column in self.bars.items():
            column[at] = document[name]

    def indicator(self, key, document):
        at = self.place(key, document)
        self.indicators_seen[at] = True
        for name, column in self.indicators.items():
            column[at] = numpy.nan if document[name] is None else document[name]

    def all_ticks(self):
        return set(self.next.values()) == {self.market.steps}

    def all_bars(self):
        return numpy.nansum(self.bars["ticks"]) == self.part.ticks

    def all_indicators(self):
        return self.indicators_seen.all() and (
            self.indicators["close"] == self.bars["close"]).all()


class Quotes:
    """Writes to the compacted topic, and knows the last acknowledged value of each key."""

    KEYS, A_SECOND = 500, 100

    def __init__(self, bootstrap):
        self.latest, self.errors, self.stop, self.count = {}, [], threading.Event(), 0
        self.chance = random.Random(20261128)
        self.producer = confluent_kafka.Producer({
            **QUIET, "bootstrap.servers": bootstrap, "enable.idempotence": True,
            "message.timeout.ms": 120_000,
        })
        self.thread = threading.Thread(target=self.go, daemon=True)
        self.thread.start()

    def go(self):
        while not self.stop.wait(0.05):
            for _ in range(self.A_SECOND // 20):
                self.put()
            self.producer.poll(0)

    def put(self):
        key = b"quote-%d" % self.chance.randrange(self.KEYS)
        value = None if self.chance.random() < 0.02 else self.chance.randbytes(200)
        self.producer.produce("quotes", value, key, on_delivery=self.note)

    def note(self, error, message):
        if error is not None:
            self.errors.append(error)
            return
        self.count += 1
        self.latest[message.key()] = message.value()

    def finish(self):
        self.stop.set()
        self.thread.join()
        assert self.producer.flush(90) == 0, "the last quotes were never acknowledged"
        assert self.errors == []
        return {key: value for key, value in self.latest.items() if value is not None}


class Passing:
    """Topics that come and go: one an hour, filled by a transaction, read by a group of its own,
    deleted with that group an hour later."""

    COUNT, VALUE_BYTES = 1000, 1000

    def __init__(self, bootstrap):
        self.bootstrap, self.made, self.there = bootstrap, 0, []
        self.admin = confluent_kafka.admin.AdminClient({**QUIET, "bootstrap.servers": bootstrap})

    def hour(self):
        name = f"hour-{self.made}"
        self.made += 1
        create(self.admin, name, {}, partitions=2)
        self.there.append(name)
        self.fill(name)
        self.read(name)
        if len(self.there) > 1:
            self.remove(self.there.pop(0))

    def fill(self, name):
        producer = confluent_kafka.Producer({
            **QUIET, "bootstrap.servers": self.bootstrap, "transactional.id": name})
        producer.init_transactions(30)
        for word, end in (("no", producer.abort_transaction), ("yes", producer.commit_transaction)):
            producer.begin_transaction()
            for number in range(self.COUNT):
                value = f"{word} {number} ".encode().ljust(self.VALUE_BYTES, b".")
                producer.produce(name, value, partition=number % 2)
            producer.flush(30)
            end(30)

    def read(self, name):
        consumer = confluent_kafka.Consumer({
            **QUIET, "bootstrap.servers": self.bootstrap, "group.id": name,
            "auto.offset.reset": "earliest", "enable.auto.commit": False,
            "isolation.level": "read_committed",
        })
        consumer.subscribe([name])
        found = []
        try:
            deadline = time.monotonic() + 60
            while len(found) < self.COUNT and time.monotonic() < deadline:
                found += [message.value().split()[:2] for message in consumer.consume(500, 0.2)
                          if message.error() is None]
            consumer.commit(asynchronous=False)
        finally:
            consumer.close()
        wanted = [[b"yes", b"%d" % number] for number in range(self.COUNT)]
        assert sorted(found) == sorted(wanted), f"{name}: {len(found)} of {self.COUNT} records"

    def remove(self, name):
        # The group first: one whose offsets went with their topic goes by itself.
        self.admin.delete_consumer_groups([name])[name].result(30)
        self.admin.delete_topics([name])[name].result(30)


def create(admin, name, config, partitions=PARTITIONS):
    new = confluent_kafka.admin.NewTopic(name, partitions, 1, config=config)
    admin.create_topics([new])[name].result(30)


class Soak:
    """The run, and what it left to be looked at."""

    def __init__(self, folder):
        # Whole minutes of the market, and no more of them than there is time for.
        self.market = Market(SYMBOLS, max(2, int(SECONDS * SPEED / 60)))
        self.live, self.file = self.market.part(0, 50), self.market.part(50, 50)
        self.csv, self.lake = folder / "trades.csv", folder / "lake"
        self.file.write_csv(self.csv)
        self.expected = {
            "ticks": Expected(self.market, self.live, "dayVolume"),
            "trades": Expected(self.market, self.file, "size"),
        }
        handlers = [one.handlers(name) for name, one in self.expected.items()]
        self.ledger = Ledger({**handlers[0], **handlers[1]})
        self.samples, self.acknowledged, self.members = [], 0, []
        self.yahoo = Yahoo(
            self.live.names[0], None, "bare", cuts=min(20, int(MINUTES) + 1), seed=20261128,
            frames_a_second=self.live.ticks_a_second, chunks=self.live.frames())
        self.broker = Broker(folder=folder, properties=PROPERTIES)

    def begin(self):
        with self.broker:
            admin = confluent_kafka.admin.AdminClient({
                **QUIET, "bootstrap.servers": self.broker.bootstrap})
            for name, config in TOPICS.items():
                create(admin, name, config)
        self.broker.pipeline = pipeline(self.yahoo, self.live.names, self.csv, self.lake)
        self.broker.start()
        self.members = [self.member(), self.member()]
        self.quotes = Quotes(self.broker.bootstrap)
        self.passing = Passing(self.broker.bootstrap)
        self.began = time.monotonic()

    def member(self):
        return Member(self.broker.bootstrap, "readers", self.ledger)

    def elapsed(self):
        return time.monotonic() - self.began

    def go(self):
        """Until the sources have sent everything."""
        due = [
            (KILL_AT, self.kill), (RESTART_AT, self.broker.restart),
            *((day * SECONDS / 7, self.change_member) for day in range(1, 7)),
            *((at * SAMPLE_SECONDS, self.look) for at in range(1, int(SECONDS / SAMPLE_SECONDS))),
        ]
        for at, what in sorted(due, key=lambda one: one[0]):
            wait_for(f"{at:.0f} s", lambda: self.elapsed() >= at or self.goes_on(),
                     SECONDS + 60, pause=0.01)
            what()
        wait_for("the sources to end", self.sent, 120 + SECONDS, 0.2)

    def goes_on(self):
        """Says at once what is wrong, instead of waiting for the end."""
        assert self.yahoo.failure is None, self.yahoo.failure
        assert not self.ledger.problems, self.ledger.problems
        for member in self.members:
            assert member.failed is None, member.failed

    def sent(self):
        self.goes_on()
        return self.yahoo.done() and self.broker.count("trades") >= self.file.ticks

    def kill(self):
        acknowledged = self.yahoo.ponged * 100
        self.broker.kill()
        self.broker.start()
        assert self.broker.count("ticks") >= min(acknowledged, self.live.ticks)

    def change_member(self):
        """The one that has been there for longest leaves; another one comes."""
        self.members.pop(0).leave()
        self.members.append(self.member())

    def look(self):
        """A sample, and what happens each hour."""
        self.samples.append({
            "hour": self.elapsed() / HOUR_SECONDS, **usage.process(self.broker.process.pid),
            **usage.disk(self.broker.data, self.lake),
            "produced": self.broker.count("ticks") + self.broker.count("trades"),
            "consumed": self.ledger.count("ticks") + self.ledger.count("trades"),
            "passing": sum(usage.of_topic(self.broker.data, name) for name in self.passing.there),
            "cpu": self.broker.cpu_seconds(),
        })
        assert self.broker.get("/metrics")[0] == 200
        page = self.broker.get_json("/api/v1/topics/ticks.bars/records?limit=100")
        assert len(page["records"]) <= 100
        self.passing.hour()

    def committed(self):
        consumer = confluent_kafka.Consumer({
            **QUIET, "bootstrap.servers": self.broker.bootstrap, "group.id": "readers"})
        places = [confluent_kafka.TopicPartition(*place) for place in self.ledger.next]
        found = {(at.topic, at.partition): at.offset for at in consumer.committed(places, 30)}
        consumer.close()
        return found

    def end(self):
        """Everything is sent; until everything is read, too."""
        for what in ("all_ticks", "all_bars", "all_indicators"):
            for name, one in self.expected.items():
                wait_for(f"{what} of {name}", lambda: getattr(one, what)() or self.goes_on(),
                         120, 0.2)
        wait_for("all rows in Parquet", lambda: lake.rows(self.lake) >= self.live.ticks, 120, 0.5)
        for member in self.members:
            member.leave()
        self.latest = self.quotes.finish()


@pytest.fixture(scope="module")
def soak(folders):
    soak = Soak(folders())
    try:
        with soak.yahoo:
            soak.begin()
            soak.go()
            soak.end()
            yield soak
    except BaseException:
        print("\n".join(soak.broker.log().splitlines()[-60:]))
        raise
    finally:
        soak.broker.stop()
        keep(soak.samples)


def megabytes(size):
    return f"{size / MIB:.0f}" if size >= 10 * MIB else f"{size / MIB:.1f}"


def table(samples):
    """Medians of each simulated day."""
    lines = [
        "| day | memory, MiB (peak) | threads | handles | records | side files | own topics | "
        "journal | sled | Parquet | produced | consumed |",
        "| ---: " * 12 + "|",
    ]
    frame = pandas.DataFrame(samples)
    for day, rows in frame.groupby((frame["hour"] // 24).astype(int)):
        one, last = rows.median(), rows.iloc[-1]
        sizes = [megabytes(one[kind]) for kind in usage.KINDS[:5]]
        records, side, own, journal, sled = sizes
        lines.append(
            f"| {day + 1} | {megabytes(one.rss)} ({megabytes(last.peak)}) | {one.threads:.0f} | "
            f"{one.handles:.0f} | {records} | {side} | {own} | {journal} | {sled} | "
            f"{megabytes(last.lake)} | {last.produced:,.0f} | {last.consumed:,.0f} |")
    return "\n".join(lines)


def keep(samples):
    """The long run's table and samples go to tests/results/, also when it broke off."""
    if not samples:
        return
    told = table(samples)
    print(told)
    if not FULL:
        return
    results = Path(__file__).resolve().parent.parent / "results"
    results.mkdir(exist_ok=True)
    stem = f"{time.strftime('%Y-%m-%d')}-soak"
    (results / f"{stem}.md").write_text(told + "\n")
    pandas.DataFrame(samples).to_csv(results / f"{stem}.csv", index=False)


def test_every_tick_is_read_once_and_in_order_by_a_group_that_commits(soak):
    assert soak.ledger.problems == []
    assert soak.yahoo.connections >= 3 and soak.broker.starts == 4
    for name, expected in soak.expected.items():
        # Counted against the generator: each symbol's ticks in order, none more, none less.
        assert expected.all_ticks()
        assert soak.ledger.count(name) == expected.part.ticks == soak.broker.count(name)
    assert soak.committed() == soak.ledger.next


@pytest.mark.parametrize("name", ["ticks", "trades"])
def test_bars_and_bands_equal_those_of_pandas(soak, name):
    expected = soak.expected[name]
    wanted = soak.market.bars(expected.part)
    assert wanted["ticks"].sum() == expected.part.ticks
    for column, values in wanted.items():
        wrong = ~numpy.isclose(expected.bars[column], values, rtol=1e-12, atol=0)
        assert not wrong.any(), f"{column} at {numpy.argwhere(wrong)[:3]}: {wrong.sum()} differ"
    # All but each symbol's last bar, and what is not two seconds behind it, are closed.
    assert (expected.bars["final"][:, :-1] == 1).all()
    closes = pandas.DataFrame(wanted["close"].T).rolling(20)
    middle, deviation = closes.mean().to_numpy().T, closes.std(ddof=0).to_numpy().T
    for column, values in [
        ("bb_middle", middle), ("bb_upper", middle + 2 * deviation),
        ("bb_lower", middle - 2 * deviation),
    ]:
        same = numpy.isclose(expected.indicators[column], values, rtol=1e-9, equal_nan=True)
        assert same.all(), f"{column}: {(~same).sum()} differ"


def test_the_parquet_files_hold_each_tick_once(soak):
    assert lake.holds_each_offset_once(soak.lake, soak.broker.end_offsets("ticks"))
    found = numpy.zeros(2)
    for path in soak.lake.rglob("*.parquet"):
        columns = pyarrow.parquet.read_table(path, columns=["price", "dayVolume"])
        found += [columns[name].to_numpy().sum() for name in ("price", "dayVolume")]
    rows = slice(soak.live.symbols.start, soak.live.symbols.stop)
    wanted = [soak.market.price[rows].sum(), soak.market.total[rows].sum()]
    assert list(found) == wanted  # exact: quarters and whole numbers below 2^53


def test_the_compacted_topic_ends_with_the_last_value_of_each_key(soak):
    found = {}
    for _, _, _, key, value in read_all(soak.broker.bootstrap, "quotes"):
        found[key] = value
    assert {key: value for key, value in found.items() if value is not None} == soak.latest
    assert soak.quotes.count > 0


def test_topics_that_were_deleted_leave_nothing_on_the_disk(soak):
    assert soak.passing.made >= 5
    gone = [name for name in map("hour-{}".format, range(soak.passing.made))
            if name not in soak.passing.there]
    wait_for("the folders to go", lambda: not [
        name for name in gone if usage.of_topic(soak.broker.data, name)])
    wait_for("deleted files to be closed", lambda: not usage.held(soak.broker.process.pid))


def test_nothing_was_wrong_in_the_sources_and_no_record_passed_analytics_by(soak):
    for source in soak.broker.get_json("/api/v1/sources")["sources"]:
        assert source["errors"] == 0 and source["dead_letters"] == 0, source
    processors = soak.broker.get_json("/api/v1/processors")["processors"]
    assert len(processors) == 5
    for one in processors:
        assert one["late"] == one["gap_records"] == one["skipped"] == 0, one


def test_the_disk_holds_what_is_kept_and_one_segment_a_partition_and_256_mib(soak):
    """The bound of broker/log/README.md. Whole segments go, so one may be kept for its last
    records; a tenth is for headers and blocks that are not full."""
    a_day = 0.5 * SYMBOLS * DAY_MS / STEP_MS * soak.ledger.bytes["ticks"] / soak.live.ticks
    sized = [name for name, config in TOPICS.items() if "retention.bytes" in config]
    passing = 2 * 2 * Passing.COUNT * Passing.VALUE_BYTES
    kept = a_day + len(sized) * PARTITIONS * 8 * MIB + Quotes.KEYS * 200 + passing
    segments = {name: int(config["segment.bytes"]) for name, config in TOPICS.items()}
    bound = kept * 1.1 + 256 * MIB + 2 * PARTITIONS * sum(segments.values())
    most = max(sum(one[kind] for kind in usage.KINDS if kind != "lake") for one in soak.samples)
    assert most <= bound, f"{most:,} bytes, and at most {bound:,.0f}"


@pytest.mark.skipif(MINUTES < 20, reason="quarters of a short run say nothing about growth")
def test_memory_handles_and_disk_are_flat(soak):
    quarter = len(soak.samples) // 4
    second = usage.medians(soak.samples[quarter:2 * quarter])
    last = usage.medians(soak.samples[-quarter:])
    grown = {}
    for name, (share, more) in TOLERANCES.items():
        bound = second[name] * (1 + share) + more
        if last[name] > bound:
            grown[name] = f"second quarter {second[name]:,.0f}, last {last[name]:,.0f}"
    assert not grown, grown

"""What grows when a server's data does, and what must not: bytes read by a start, memory, open
files, what a look-up reads. Counts are judged; times are printed, as Markdown.

With `--full` the sizes are 10,000 partitions with 100 million small records, 20 GB in 12 partitions
and 2,000 connections, written by Kafka's own producer; otherwise some hundredths of that.
"""

import os
import random
import shutil
import time
from pathlib import Path

import pytest
from bench import clients
from bench.contestants import drop_cached
from bench.growth import (
    KILLED, POWER_CUT, STOPPED, Grown, Many, Watch, fill, look_up_offsets, look_up_times, mib,
    start_after)
from bench.measuring import MIB, forget_peak, peak_bytes, percentile, resident_bytes
from bench.race import allow_open_files
from harness import wire
from harness.broker import http_get

pytestmark = pytest.mark.odradek_only

FULL = bool(os.environ.get("ODRADEK_TEST_FULL"))
# The default of odradek.memory.max.bytes.
MEMORY_BYTES_MAX = 256 * MIB
JOURNAL_BYTES = 2 * 64 * MIB
CHUNK_BYTES = 64 << 10
# An index entry of a side file, and the largest of a record batch here.
ENTRY_BYTES, BATCH_BYTES_MAX = 40, 64 << 10
# A start reads so much whatever there is, and so much more for a partition.
START_BYTES, START_BYTES_PER_PARTITION = 4 * MIB, 4 << 10
# Open files besides those of connections and of segments that are being written.
FILES_MAX = 256
KIB_PER_CONNECTION_MAX = 20
WAYS = (STOPPED, KILLED, POWER_CUT)
LOAD_SECONDS = 3 if FULL else 0.1

PARTITIONS = 10_000 if FULL else 300
SMALL_RECORDS, SMALL_BYTES, TURNS = 100_000_000, 16, 4
LARGE_PARTITIONS, LARGE_RECORDS, LARGE_BYTES = 12, 20_000_000, 1024
CONNECTIONS, REQUESTS_EACH = (2_000, 20) if FULL else (200, 3)
LOOK_UPS = 2_000 if FULL else 50
SEGMENT_BYTES = 128 * MIB if FULL else MIB
STARTS, LOADS, LOOKS = [], [], []
RESULTS = Path(__file__).resolve().parent.parent / "results" / "growth"


@pytest.fixture(scope="module", autouse=True)
def tables():
    """What was seen, as Markdown; that of whole sizes is kept."""
    yield
    text = "\n".join([
        "| store | after | start, ms | read, MiB | open files | memory, MiB: peak / then |",
        "| --- | --- | ---: | ---: | ---: | ---: |", *STARTS, "",
        "| load | records/s | MB/s | p50 / p99, ms | peak, MiB | open files | sled, MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |", *LOADS, "",
        "| look-up | cold p50 / p99, ms | warm | read, KiB: cold / warm |",
        "| --- | ---: | ---: | ---: |", *LOOKS])
    print(f"\n{text}")
    if FULL:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{time.strftime('%Y-%m-%d-%H%M')}.md").write_text(text + "\n")


@pytest.fixture
def grow(folders):
    """Makes servers; their data goes at the end in any case, as it may be large."""
    made = []

    def start(**options):
        made.append(Grown(folders(), **options))
        made[-1].start()
        return made[-1]

    yield start
    for store in made:
        store.stop()
        shutil.rmtree(store.broker.data, ignore_errors=True)


# Judging.

def start_and_judge(label, store, topic, partitions, ways=WAYS):
    """A start must read the index, the journal after a kill, and of each partition the sides of
    two segments; the segment that is being written only when the power went. Never all there is."""
    sides = 2 * (SEGMENT_BYTES // CHUNK_BYTES * ENTRY_BYTES)
    for way in ways:
        found = start_after(store, way, topic, partitions, LOAD_SECONDS)
        STARTS.append(
            f"| {label} | {way} | {1000 * found.seconds:,.0f} | {mib(found.read_bytes)} | "
            f"{found.open_files} | {mib(found.peak_bytes)} / {mib(found.resident_bytes)} |")
        print(STARTS[-1], flush=True)
        read_max = START_BYTES + 2 * found.sled_bytes
        read_max += partitions * (START_BYTES_PER_PARTITION + sides)
        if way != STOPPED:
            read_max += 2 * JOURNAL_BYTES
        if way == POWER_CUT:
            read_max += found.unsealed_bytes + JOURNAL_BYTES
        assert found.read_bytes <= read_max, f"{mib(found.read_bytes)} MiB were read"
        assert found.peak_bytes <= MEMORY_BYTES_MAX, f"{mib(found.peak_bytes)} MiB"


class Loaded:
    """A load under watch; what it cost goes into the table and is judged."""

    def __init__(self, label, store, partitions=0, connections=0):
        self.label, self.store = label, store
        self.files_max = FILES_MAX + partitions + connections
        self.watch = Watch(store.broker)

    def __enter__(self):
        forget_peak(self.store.pid)
        self.watch.__enter__()
        return self

    def __exit__(self, kind, *_):
        self.watch.__exit__()
        if kind is None:
            self.judge()

    def judge(self):
        peak = peak_bytes(self.store.pid)
        assert peak <= MEMORY_BYTES_MAX, f"{self.label}: {mib(peak)} MiB at the peak"
        found = self.watch.open_files
        assert found <= self.files_max, f"{self.label}: {found} files were open"

    def line(self, rate=None, megabytes=None, latency=""):
        cells = ["" if value is None else f"{value:,.0f}" for value in (rate, megabytes)]
        LOADS.append(f"| {self.label} | {' | '.join(cells)} | {latency} | "
                     f"{mib(peak_bytes(self.store.pid))} | {self.watch.open_files} | "
                     f"{mib(self.store.sled_bytes())} |")
        print(LOADS[-1], flush=True)


def produce_by_kafka(label, store, topic, partitions, records, record_bytes):
    """Kafka's own producer; its figures into the table."""
    with Loaded(label, store, partitions) as loaded:
        found = clients.java_produce(store.bootstrap, topic, records, record_bytes)
        store.settle()
        loaded.line(found["records/s"], found["MB/s"],
                    f"{found['p50 ms']:.0f} / {found['p99 ms']:.0f}")


def look_up_and_judge(label, store, topic, partitions, begun_ms, ended_ms):
    """By time and by offset, at random: first what is on the disk, then again."""
    ends = store.ends(topic, partitions)
    chance = random.Random(7)
    # Kafka's producer may leave some without a record.
    written = [partition for partition, end in ends.items() if end]
    places = [chance.choice(written) for _ in range(LOOK_UPS)]
    times = [(place, chance.randint(begun_ms, ended_ms)) for place in places]
    offsets = [(place, chance.randrange(ends[place])) for place in places]
    store.broker.stop()
    drop_cached(store.broker.data)
    store.start()
    index = SEGMENT_BYTES // CHUNK_BYTES * ENTRY_BYTES
    for kind, look_up, questions in (
            ("time", lambda *all: look_up_times(*all)[0], times),
            ("offset", look_up_offsets, offsets)):
        cold, warm = look_up(store, topic, questions), look_up(store, topic, questions)
        LOOKS.append(f"| {label}, by {kind} | {cold} | {warm} | {cold.read_bytes / 1024:.0f} / "
                     f"{warm.read_bytes / 1024:.0f} |")
        print(LOOKS[-1], flush=True)
        # Two chunks, the index of its segment, and where sled has to look for that.
        read_max = 2 * CHUNK_BYTES + 2 * BATCH_BYTES_MAX + 4 * index
        for looked in (cold, warm):
            assert looked.read_bytes <= read_max, f"{label}: {looked.read_bytes} bytes read by one"
    assert peak_bytes(store.pid) <= MEMORY_BYTES_MAX


def wall_ms():
    return int(time.time() * 1000)


def marked(number):
    """A batch of 30 records of 1 KiB of one time of its own."""
    return wire.batch([bytes(1000)] * 30, 1_700_000_000_000 + 1000 * number)


# The tests.

@pytest.mark.needs("kafka-4.3.0")
def test_a_start_reads_the_index_and_not_the_records(grow):
    store = grow(log_segment_bytes=str(SEGMENT_BYTES))
    topic, partitions = "large", LARGE_PARTITIONS
    start_and_judge("empty", grow(), "__consumer_offsets", 1, [STOPPED])
    store.create_topic(topic, partitions)
    begun, parts = wall_ms(), (10, 30, 60) if FULL else (20, 60)
    for turn, part in enumerate(parts):
        label = f"{sum(parts[:turn + 1]) * LARGE_RECORDS * LARGE_BYTES / 1e11:.0f} GB"
        if FULL:
            produce_by_kafka(f"{label} in {partitions} partitions, 1 KiB", store, topic, partitions,
                             LARGE_RECORDS * part // 100, LARGE_BYTES)
        else:
            label = f"part {turn + 1}"
            first = sum(parts[:turn])
            fill(store.bootstrap, topic, partitions, map(marked, range(first, first + part)))
            store.settle()
        if turn != 1 or not FULL:
            start_and_judge(f"{label} in {partitions} partitions", store, topic, partitions)
    if FULL:
        look_up_and_judge(label, store, topic, partitions, begun, wall_ms())
        return
    assert store.log_bytes() > 2 * (START_BYTES + 2 * store.sled_bytes()), "too little to tell"
    # 30 records each second; the load before each kill is of today.
    asked = [(place, 1_700_000_000_000 + 1000 * number - 500)
             for place in range(partitions) for number in range(1, sum(parts))]
    _, offsets = look_up_times(store, topic, asked)
    assert [offset % 30 for offset in offsets] == [0] * len(offsets)
    look_up_and_judge(label, store, topic, partitions, 1_700_000_000_000,
                      1_700_000_000_000 + 1000 * sum(parts))


def test_many_partitions_cost_neither_memory_nor_open_files_without_end(grow):
    allow_open_files()
    store = grow()
    with Loaded(f"{PARTITIONS:,} partitions made", store, PARTITIONS) as loaded:
        begun = time.monotonic()
        store.create_topic("many", PARTITIONS)
        loaded.line(PARTITIONS / (time.monotonic() - begun))
    start_and_judge(f"{PARTITIONS:,} partitions", store, "many", PARTITIONS)
    begun = wall_ms()
    for turn in range(TURNS if FULL else 1):
        label = f"{(turn + 1) * SMALL_RECORDS // TURNS // 1_000_000} M" if FULL else "some"
        if FULL:
            produce_by_kafka(f"{label} records of {SMALL_BYTES} B in {PARTITIONS:,} partitions",
                             store, "many", PARTITIONS, SMALL_RECORDS // TURNS, SMALL_BYTES)
        else:
            batches = (wire.batch([bytes(SMALL_BYTES)] * 10, wall_ms()) for _ in range(4))
            with Loaded(f"{PARTITIONS} partitions written", store, PARTITIONS) as loaded:
                fill(store.bootstrap, "many", PARTITIONS, batches)
                loaded.line()
    ended = wall_ms()
    least = SMALL_RECORDS if FULL else 40 * PARTITIONS
    assert sum(store.ends("many", PARTITIONS).values()) >= least
    start_and_judge(f"{label} records in {PARTITIONS:,} partitions", store, "many", PARTITIONS)
    assert sum(store.ends("many", PARTITIONS).values()) >= least
    look_up_and_judge(f"{PARTITIONS:,} partitions", store, "many", PARTITIONS, begun, ended)
    status, _, body = http_get(store.broker.http + "/metrics", timeout=60)
    assert status == 200 and body.count(b"kafka_topic_partition_current_offset{") > PARTITIONS
    assert peak_bytes(store.pid) <= MEMORY_BYTES_MAX


def test_more_partitions_than_a_process_may_have_files_are_served_through_kills(grow):
    partitions, open_files_max = 600, 400
    store = grow(open_files_max=open_files_max)
    store.create_topic("more", partitions)
    batch = wire.batch([bytes(100)] * 3, wall_ms())
    fill(store.bootstrap, "more", partitions, [batch] * 2)
    for turn in range(3):
        store.broker.kill()
        store.start()
        assert set(store.ends("more", partitions).values()) == {3 * (2 + turn)}
        fill(store.bootstrap, "more", partitions, [batch])
    assert store.broker.stop() == 0
    store.start()
    assert set(store.ends("more", partitions).values()) == {15}
    log = store.broker.log()
    assert "Too many open files" not in log and "the log failed" not in log, log[-2000:]


@pytest.mark.needs("kafka-4.3.0")
def test_many_connections_cost_little_and_each_is_served(grow):
    allow_open_files()
    most = str(CONNECTIONS + 100)
    store = grow(**{"max.connections": most, "max.connections.per.ip": most})
    store.create_topic("busy", 12)
    records = 5_000_000 if FULL else 2_000
    produce_by_kafka(f"by one connection, {SMALL_BYTES} B", store, "busy", 12, records, SMALL_BYTES)
    before = resident_bytes(store.pid)
    with Many(store.bootstrap, CONNECTIONS) as many:
        grown = resident_bytes(store.pid) - before
        with Loaded(f"{CONNECTIONS:,} connections, idle: {grown / 1024 / CONNECTIONS:.1f} KiB each",
                    store, connections=CONNECTIONS + 100) as loaded:
            loaded.line()
        assert grown <= CONNECTIONS * KIB_PER_CONNECTION_MAX * 1024, f"{mib(grown)} MiB"
        produce_by_kafka(f"by one connection beside {CONNECTIONS:,} idle ones", store, "busy",
                         12 + CONNECTIONS, records, SMALL_BYTES)
        with Loaded(f"by {CONNECTIONS:,} connections at once, a record each", store, 12,
                    CONNECTIONS + 100) as loaded:
            rate, times = many.produce("busy", 12, REQUESTS_EACH)
            loaded.line(rate, rate * 100 / 1e6,
                        f"{percentile(times, 50):.0f} / {percentile(times, 99):.0f}")
    ends = store.ends("busy", 12)
    assert sum(ends.values()) == 2 * records + CONNECTIONS * REQUESTS_EACH

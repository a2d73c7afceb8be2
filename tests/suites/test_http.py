"""The HTTP API: ranges that are complete, streams that resume, metrics, health."""

import csv
import gzip
import http.client
import io
import json
import random
import re
import subprocess
import threading
import time
from urllib.parse import quote, urlsplit

import pytest
import zstandard
from harness.broker import Broker, wait_for
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic

pytestmark = pytest.mark.odradek_only
BASE_MS = 1_700_000_000_000
RECORDS = 30_000


@pytest.fixture(scope="module")
def shuffled():
    """(timestamp, key, value) whose times run wildly out of order."""
    chance = random.Random(3)
    made = []
    for index in range(RECORDS):
        milliseconds = BASE_MS + chance.randrange(0, 86_400_000)
        value = {"n": index, "price": round(chance.uniform(1, 100), 2), "pad": "x" * (index % 200)}
        made.append((milliseconds, b"k%d" % (index % 7), value))
    return made


@pytest.fixture(scope="module")
def broker(folders, shuffled):
    pipeline = '[GetKafkaData]\ntopic = "shuffled"\n'
    properties = {"log.retention.ms": "-1", "log.segment.bytes": "1048576"}
    with Broker(folder=folders(), pipeline=pipeline, properties=properties) as broker:
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
        admin.create_topics([NewTopic("shuffled", 3, 1)])
        admin.close()
        producer = KafkaProducer(bootstrap_servers=broker.bootstrap, acks="all", linger_ms=20,
                                 compression_type="lz4")
        for milliseconds, key, value in shuffled:
            producer.send("shuffled", json.dumps(value).encode(), key=key,
                          timestamp_ms=milliseconds,
                          headers=[("same", b"1"), ("same", b"2")])
        producer.close()
        yield broker


def value_of(record):
    return record["value"] if isinstance(record["value"], dict) else json.loads(record["value"])


def ndjson(broker, query, headers=None):
    status, _, body = broker.get(f"/api/v1/topics/shuffled/records?{query}",
                                 {"Accept": "application/x-ndjson", **(headers or {})})
    assert status == 200, body[:500]
    return [json.loads(line) for line in body.splitlines()]


HOUR = 3_600_000


@pytest.mark.parametrize("from_ms, to_ms", [
    (BASE_MS, BASE_MS + 24 * HOUR), (BASE_MS + 5 * HOUR, BASE_MS + 5 * HOUR + 60_000),
    (BASE_MS + 7 * HOUR, BASE_MS + 7 * HOUR), (0, BASE_MS + 1000),
])
def test_a_range_is_complete_though_times_run_out_of_order(broker, shuffled, from_ms, to_ms):
    wanted = sorted(value["n"] for milliseconds, _, value in shuffled
                    if from_ms <= milliseconds < to_ms)
    records = ndjson(broker, f"from={from_ms}&to={to_ms}")
    assert sorted(value_of(record)["n"] for record in records) == wanted
    for record in records[:50]:
        milliseconds, key, _ = shuffled[value_of(record)["n"]]
        assert (record["timestamp_ms"], record["key"]) == (milliseconds, key.decode())
        assert [list(header) for header in record["headers"]] == [["same", "1"], ["same", "2"]]


def test_pages_csv_and_ndjson_hold_the_same_records(broker, shuffled):
    query = f"from={BASE_MS}&to={BASE_MS + HOUR}"
    wanted = sorted(value["n"] for milliseconds, _, value in shuffled
                    if BASE_MS <= milliseconds < BASE_MS + HOUR)
    paged, cursor = [], None
    while True:
        more = f"&cursor={quote(cursor)}" if cursor else ""
        page = broker.get_json(f"/api/v1/topics/shuffled/records?{query}&limit=100{more}")
        assert page["timezone"] == "UTC" and len(page["records"]) <= 100
        paged += [value_of(record)["n"] for record in page["records"]]
        cursor = page["next"]
        if not cursor:
            break
    assert sorted(paged) == wanted
    status, headers, body = broker.get(f"/api/v1/topics/shuffled/records?{query}",
                                       {"Accept": "text/csv"})
    assert status == 200 and headers["Content-Type"].startswith("text/csv")
    assert len(list(csv.DictReader(io.StringIO(body.decode())))) == len(wanted)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_answers_are_compressed_when_the_client_takes_it(broker, encoding):
    query = f"/api/v1/topics/shuffled/records?from={BASE_MS}&to={BASE_MS + HOUR}"
    accept = {"Accept": "application/x-ndjson"}
    plain = broker.get(query, accept)[2]
    status, headers, body = broker.get(query, {**accept, "Accept-Encoding": encoding})
    assert status == 200 and headers["Content-Encoding"] == encoding
    assert len(body) < len(plain) / 2
    unpacked = gzip.decompress(body) if encoding == "gzip" else \
        zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body)).read()
    assert unpacked == plain


def test_errors_are_problems_that_say_what_to_do(broker):
    for path, wanted in (("/api/v1/topics/nothing/records", 404),
                         ("/api/v1/topics/shuffled/records?from=yesterdayish", 400),
                         ("/api/v1/topics/shuffled/records?frm=0", 400),
                         ("/api/v1/nothing", 404)):
        status, headers, body = broker.get(path)
        assert status == wanted, path
        assert headers["Content-Type"].startswith("application/problem+json"), path
        problem = json.loads(body)
        assert problem["status"] == wanted and problem["title"], problem


def test_get_kafka_data_answers_with_values_in_time_order(broker, shuffled):
    """The old service's two addresses; `[from, to)`, a JSON array of the values."""
    from_ms, to_ms = BASE_MS + 2 * HOUR, BASE_MS + 3 * HOUR
    inside = sorted((milliseconds, value["n"]) for milliseconds, _, value in shuffled
                    if from_ms <= milliseconds < to_ms)
    times = {value["n"]: milliseconds for milliseconds, _, value in shuffled}
    stamp = "%Y-%m-%dT%H:%M:%SZ"
    first, last = (time.strftime(stamp, time.gmtime(one / 1000)) for one in (from_ms, to_ms))
    assert (from_ms % 1000, to_ms % 1000) == (0, 0)
    status, headers, body = broker.get(f"/api/v1/GetKafkaData/{quote(first)}/{quote(last)}")
    assert status == 200 and headers["Content-Type"].startswith("application/json")
    values = json.loads(body)
    assert sorted(value["n"] for value in values) == sorted(n for _, n in inside)
    order = [times[value["n"]] for value in values]
    assert order == sorted(order)
    everything = json.loads(broker.get("/api/v1/GetKafkaData/stream", timeout=60)[2])
    assert sorted(value["n"] for value in everything) == list(range(RECORDS))
    order = [times[value["n"]] for value in everything]
    assert order == sorted(order)


# Streams


class Stream:
    """A server-sent events client that can be cut anywhere and come back."""

    def __init__(self, broker, path):
        self.address, self.path = urlsplit(broker.http).netloc, path
        self.last_id, self.events = None, []

    def read(self, condition, bytes_max=None):
        """Reads until the condition holds, or this many bytes have come; then cuts."""
        connection = http.client.HTTPConnection(self.address, timeout=20)
        headers = {"Accept": "text/event-stream"}
        if self.last_id:
            headers["Last-Event-ID"] = self.last_id
        connection.request("GET", self.path, headers=headers)
        reply = connection.getresponse()
        assert reply.status == 200, reply.read(500)
        assert reply.headers["Content-Type"].startswith("text/event-stream")
        buffer, came = b"", 0
        while not condition():
            more = reply.read1(4096)
            if not more:
                break
            came += len(more)
            if bytes_max and came > bytes_max:
                more = more[:len(more) - (came - bytes_max)]
            buffer += more
            *blocks, buffer = buffer.split(b"\n\n")
            for block in blocks:
                self.take(block.decode())
            if bytes_max and came >= bytes_max:
                break
        connection.close()

    def take(self, block):
        data = []
        for line in block.split("\n"):
            name, _, content = line.partition(":")
            content = content.removeprefix(" ")
            if name == "id":
                self.last_id = content
            elif name == "data":
                data.append(content)
        if data:
            self.events.append(json.loads("\n".join(data)))


def test_a_cut_stream_resumes_without_loss_or_repetition_while_records_come(broker):
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.create_topics([NewTopic("growing", 3, 1)])
    admin.close()
    total, chance = 6000, random.Random(5)

    def produce():
        producer = KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=1)
        for index in range(total):
            producer.send("growing", json.dumps({"n": index}).encode(), partition=index % 3)
            if index % 20 == 0:
                producer.flush()
        producer.close()

    thread = threading.Thread(target=produce)
    thread.start()
    stream = Stream(broker, "/api/v1/topics/growing/stream?from=0")
    cuts = 0
    deadline = time.monotonic() + 120
    while len(stream.events) < total and time.monotonic() < deadline:
        stream.read(lambda: len(stream.events) >= total, chance.randrange(200, 60_000))
        cuts += 1
    thread.join()
    assert cuts > 5
    places = [(event["partition"], event["offset"]) for event in stream.events]
    assert len(places) == len(set(places)), "a record was repeated"
    assert sorted(value_of(event)["n"] for event in stream.events) == list(range(total))
    for partition in range(3):
        offsets = [offset for where, offset in places if where == partition]
        assert offsets == list(range(total // 3)), "a partition's records are out of order"


def test_a_stream_resumes_over_kill_9_of_the_broker(make_broker):
    broker = make_broker().start()

    def produce(first, last):
        producer = KafkaProducer(bootstrap_servers=broker.bootstrap, acks="all")
        for index in range(first, last):
            producer.send("kept", json.dumps({"n": index}).encode())
        producer.close()

    produce(0, 500)
    stream = Stream(broker, "/api/v1/topics/kept/stream?from=0")
    stream.read(lambda: len(stream.events) >= 300)
    broker.kill()
    broker.start()
    produce(500, 600)
    stream.read(lambda: len(stream.events) >= 600)
    assert [value_of(event)["n"] for event in stream.events] == list(range(600))


# Operations


def test_health_is_told(broker):
    assert broker.get("/healthz")[0] == 200
    assert broker.get("/readyz")[0] == 200


def test_groups_topics_and_the_overview_are_told(broker):
    consumer = KafkaConsumer("shuffled", bootstrap_servers=broker.bootstrap, group_id="told",
                             auto_offset_reset="earliest", max_poll_records=100,
                             enable_auto_commit=False)
    wait_for("records", lambda: consumer.poll(timeout_ms=1000), 20)
    consumer.commit()
    groups = {one["group"]: one for one in broker.get_json("/api/v1/groups")["groups"]}
    told = groups["told"]
    assert told["members"] == 1 and told["lag"] > 0, told
    assert {one["topic"] for one in told["partitions"]} == {"shuffled"}
    consumer.close()
    topics = {one["name"]: one for one in broker.get_json("/api/v1/topics")["topics"]}
    assert sum(one["end_offset"] for one in topics["shuffled"]["partitions"]) == RECORDS
    overview = broker.get_json("/api/v1/overview")
    assert overview["memory"]["rss"] > 1 << 20 and overview["disk"]["free"] > 0
    parts = {part["name"]: part for part in overview["memory"]["parts"]}
    assert 0 < parts["tail_cache"]["bytes"] <= parts["tail_cache"]["bytes_max"]
    assert sum(part["bytes_max"] for part in parts.values()) <= overview["memory"]["cap"]
    assert overview["listeners"][0]["protocol"] == "PLAINTEXT"
    assert overview["listeners"][0]["address"].endswith(f":{broker.port}")


EXPORTER = [
    "kafka_brokers", "kafka_topic_partitions", "kafka_topic_partition_current_offset",
    "kafka_topic_partition_oldest_offset", "kafka_topic_partition_leader",
    "kafka_topic_partition_replicas", "kafka_topic_partition_in_sync_replica",
    "kafka_topic_partition_leader_is_preferred",
    "kafka_topic_partition_under_replicated_partition", "kafka_consumergroup_current_offset",
    "kafka_consumergroup_current_offset_sum", "kafka_consumergroup_lag",
    "kafka_consumergroup_lag_sum", "kafka_consumergroup_members",
]


def test_metrics_have_the_names_of_kafka_exporter(broker):
    consumer = KafkaConsumer("shuffled", bootstrap_servers=broker.bootstrap, group_id="measured",
                             auto_offset_reset="earliest")
    wait_for("records", lambda: consumer.poll(timeout_ms=1000), 20)
    consumer.commit()
    text = broker.get("/metrics")[2].decode()
    consumer.close()
    for name in EXPORTER:
        assert re.search(rf"^{name}(\{{.*\}})? \d", text, re.M), f"{name} is missing"
    assert re.search(
        r'^kafka_topic_partition_current_offset\{partition="\d+",topic="shuffled"\} \d+', text,
        re.M)
    assert re.search(r'^kafka_consumergroup_lag\{consumergroup="measured",partition="\d+",'
                     r'topic="shuffled"\} \d+', text, re.M)
    assert re.search(r"^odradek_\w+", text, re.M)


@pytest.mark.needs("promtool")
def test_promtool_reports_nothing_but_the_suffix_that_kafka_exporter_chose(broker):
    metrics = broker.get("/metrics")[2]
    done = subprocess.run(["promtool", "check", "metrics"], input=metrics,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    allowed = ("kafka_consumergroup_lag_sum ", "kafka_consumergroup_current_offset_sum ")
    lines = done.stdout.decode().splitlines()
    others = [line for line in lines if not (line.startswith(allowed) and "_sum" in line)]
    assert others == []


def test_the_console_page_allows_nothing_from_elsewhere(broker):
    status, headers, body = broker.get("/")
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy or "default-src 'none'" in policy, policy
    assert "unsafe-eval" not in policy and "http:" not in policy and "https:" not in policy
    # A link that a person may follow is no asset.
    assets = re.findall(rb'<(?:script|link|img|iframe)[^>]*(?:src|href)="([^"]*)"', body)
    assert assets and not [asset for asset in assets if asset.startswith((b"http", b"//"))]

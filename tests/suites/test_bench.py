"""The benchmarks, with tiny numbers: that they run, measure, judge and tidy up. No figure of theirs
is asserted that depends on the machine."""

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench import clients, floors, measuring, race, slow_flush, table
from bench.contestants import Contestant, io_bytes
from bench.loads import Topic
from harness import wire
from harness.broker import wait_for

pytestmark = pytest.mark.odradek_only
RUN = Path(__file__).resolve().parent.parent / "bench" / "run"
FLUSH = {"flush p50 ms": 0.5}


def odradek_bench(*arguments, **options):
    return subprocess.Popen(
        [os.environ["ODRADEK_BIN"], "bench", *map(str, arguments)], text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def are_writes_counted(folder):
    """Not where the folder lies in memory; the page cache of a real disk is counted."""
    before = io_bytes("self")["write_bytes"]
    with open(folder / "probe", "wb") as file:
        file.write(bytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())
    (folder / "probe").unlink()
    return io_bytes("self")["write_bytes"] - before >= 1 << 20


def ended(process, code):
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, out + err
    return out, err


def test_odradek_bench_has_every_figure_and_leaves_nothing_behind(tmp_path):
    out, err = ended(odradek_bench("--data", tmp_path, "--seconds", 1, "--json"), 0)
    report, least = json.loads(out), 1 if are_writes_counted(tmp_path) else 0
    assert err == ""  # progress is for terminals
    assert report["flush"]["p50_ms"] > 0 and report["sequence_write_mb_per_s"] > 0
    assert report["one_core"]["crc32c_mb_per_s"] > 0 and report["one_core"]["zstd_ratio"] > 1
    loads = {(load["producers"], load["record_bytes"]): load for load in report["broker"]["loads"]}
    assert loads.keys() == {(1, 100), (32, 100), (1, 1024)}, loads
    for load in report["broker"]["loads"]:
        assert load["records"] > 0 and 0 < load["p50_ms"] <= load["p99_ms"], load
        # Whoever claims that a record is durable has written it.
        assert load["written_per_byte"] >= least, load
        assert load["broker_cores"] > 0, load
    assert report["broker"]["consumed"]["records"] > 0
    assert report["broker"]["memory_bytes_peak"] > 1 << 20
    assert not report["server_runs"] and report["verdict"]
    assert list(tmp_path.iterdir()) == []


def test_odradek_bench_says_what_limits_the_machine_in_words(tmp_path):
    missing = tmp_path / "not" / "there"
    out, _ = ended(odradek_bench("--data", missing, "--seconds", 0.5), 0)
    assert f"Disk of {tmp_path}" in out and "What this means" in out, out
    assert "A single producer that waits for each record waits" in out.replace("\n  ", " "), out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_odradek_bench_that_is_interrupted_removes_what_it_wrote(tmp_path, how):
    process = odradek_bench("--data", tmp_path, "--seconds", 600)
    wait_for("the benchmark to write", lambda: list(tmp_path.glob("*/flushed")), 30, 0.01)
    process.send_signal(how)
    _, err = ended(process, 1)
    assert "interrupted; what was written is removed" in err
    assert list(tmp_path.iterdir()) == []


def test_odradek_bench_refuses_a_disk_with_too_little_room(tmp_path):
    reserve = 1 << 60  # an exbibyte is free nowhere
    more = f"odradek.disk.reserve.bytes={reserve}"
    process = odradek_bench("--data", tmp_path, "--override", more)
    _, err = ended(process, 1)
    assert "too little room" in err and "1024 MiB" in err, err
    assert list(tmp_path.iterdir()) == []


def test_odradek_bench_leaves_a_running_server_alone_and_says_that_it_shares(make_broker):
    with make_broker() as broker:
        path = broker.folder / "server.properties"
        before = sorted(one.name for one in broker.data.iterdir())
        out, _ = ended(odradek_bench("--config", path, "--seconds", 0.5, "--json"), 0)
        report = json.loads(out)
        assert report["server_runs"] and "stop it" in report["verdict"][-1], report["verdict"]
        assert sorted(one.name for one in broker.data.iterdir()) == before
        assert broker.ready()


@pytest.mark.needs("kafka-4.3.0")
def test_the_benchmark_measures_judges_and_writes_down_what_it_saw(tmp_path):
    loads = ["produce-1k-12", "connections", "start"]
    results, data = tmp_path / "results", tmp_path / "data"
    data.mkdir()
    subprocess.run(
        [sys.executable, str(RUN), *loads, "--only", "odradek", "--scale", "0.01", "--name", "tiny",
         "--results", str(results), "--data-dir", str(data)],
        check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=120)
    assert list(data.iterdir()) == []
    found = json.loads((results / "tiny.json").read_text())
    assert list(found["loads"]) == loads
    [produced] = found["loads"]["produce-1k-12"]["odradek"]
    assert produced["records/s"] > 0 and produced["server CPU ms/MB"] > 0
    # On the disk when it is acknowledged, so written at least once.
    assert produced["written x"] >= (1 if are_writes_counted(tmp_path) else 0)
    [started] = found["loads"]["start"]["odradek"]
    assert started["start ms"] > 0 and started["idle memory MiB"] > 1
    judged = {(one["load"], one["figure"]) for one in found["floors"]}
    assert {("start", "start ms"), ("produce-1k-12", "peak memory MiB")} <= judged
    text = (results / "tiny.md").read_text()
    assert "## produce-1k-12" in text and "0.01 times their records" in text


# What the programs print, as they printed it.

PRODUCED = """\
99991 records sent, 19998.2 records/sec (19.53 MB/sec), 9.6 ms avg latency, 402.0 ms max latency.
30000 records sent, 15000.0 records/sec (14.65 MB/sec), 4.10 ms avg latency, 402.00 ms max \
latency, 2 ms 50th, 9 ms 95th, 40 ms 99th, 300 ms 99.9th.
27000 steady state records sent, 20000.5 records/sec (19.53 MB/sec), 2.50 ms avg latency, \
31.00 ms max latency, 1 ms 50th, 3 ms 95th, 7 ms 99th, 20 ms 99.9th.
"""
CONSUMED = """\
start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, \
rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec
2026-01-01 10:00:00:000, 2026-01-01 10:00:04:000, 100.0, 25.0, 102400, 25600.0, 3000, 1000, 100.0, \
102400.0
"""
END_TO_END = "0\t1.5\nAvg latency: 2.6012 ms\nPercentiles: 50th = 2, 99th = 17, 99.9th = 30\n"


def test_what_kafkas_tools_say_is_read():
    produced = clients.produced(PRODUCED, 1024)
    # The steady state's line: 20000.5 x 1024 / 10^6.
    assert produced["records/s"] == 20000.5 and produced["MB/s"] == pytest.approx(20.480512)
    assert (produced["p50 ms"], produced["p99 ms"], produced["p99.9 ms"]) == (1, 7, 20)
    assert clients.consumed(CONSUMED)["records/s"] == 102400
    assert clients.consumed(CONSUMED)["MB/s"] == pytest.approx(104.8576)
    assert clients.end_to_end_latency(END_TO_END) == {
        "mean ms": 2.6012, "p50 ms": 2, "p99 ms": 17, "p99.9 ms": 30}


def test_what_librdkafkas_program_says_is_read():
    line = ("% 500 messages produced (512000 bytes), 500 delivered (offset 499, 0 failed) in "
            "{}ms: 1000 msgs/s and 1.02 MB/s, 0 produce failures, 0 in queue, no compression")
    both = clients.natively_produced([line.format(250), line.format(500)], [1.0, 2.0, 9.0], 1024)
    # 1,000 records in the longer one's half second.
    assert both["records/s"] == 2000 and both["p50 ms"] == 2.0 and both["p99 ms"] == 9.0
    text = "% 1000 messages (1024000 bytes) consumed in 500ms: 2000 msgs/s (2.05 MB/s)"
    assert clients.natively_consumed([text, text])["records/s"] == 4000


def test_a_program_that_says_much_goes_on_before_anybody_listens(monkeypatch, tmp_path):
    monkeypatch.setenv("ODRADEK_TEST_RDKAFKA_PERFORMANCE", sys.executable)
    line, done = "% Consumer reached end of a partition", tmp_path / "done"
    program = clients.Program(
        "-c", f"print('{line}\\n' * 10_000, flush=True); open('{done}', 'w')")
    try:
        wait_for("the program to come to its end", done.exists, 20)
        assert program.output().count(line) == 10_000
    finally:
        program.kill()


def test_a_percentile_is_a_value_that_was_seen():
    values = list(range(1, 101))
    assert [measuring.percentile(values, share) for share in (50, 99, 99.9)] == [50, 99, 100]
    assert measuring.percentile([7], 99) == 7


@pytest.mark.parametrize("load, ours, theirs, met", [
    ("produce-1k-12", {"records/s": 120.0}, {"records/s": 100.0}, True),
    ("produce-1k-12", {"records/s": 119.0}, {"records/s": 100.0}, False),
    ("steady-20000", {"p99 ms": 7.0}, {"p99 ms": 7.0}, True),
    ("steady-20000", {"p99 ms": 7.1}, {"p99 ms": 7.0}, False),
    # Half a millisecond is this disk's flush.
    ("steady-2000", {"p50 ms": 1.5}, {"p50 ms": 1.0}, True),
    ("steady-2000", {"p50 ms": 1.6}, {"p50 ms": 1.0}, False),
])
def test_a_floor_is_met_or_not_by_kafkas_figure_of_the_same_run(load, ours, theirs, met):
    figures = {"odradek": {"peak memory MiB": 97, **ours}, "kafka": theirs}
    verdicts = {one.figure: one for one in floors.judge(load, figures, FLUSH)}
    [figure] = ours
    assert verdicts[figure].met is met, verdicts
    assert verdicts["peak memory MiB"].met is False
    assert [one.figure for one in floors.judge(load, {"kafka": theirs}, FLUSH)] == []


def test_the_table_has_the_middle_of_the_rounds_and_the_worst_memory():
    rounds = {
        "odradek": [{"records/s": rate, "peak memory MiB": peak}
                    for rate, peak in ((300, 40), (100, 60), (200, 50))],
        "kafka": [{"records/s": 100, "peak memory MiB": 400}],
    }
    found = table.medians(rounds)
    assert found["odradek"] == {"records/s": 200, "peak memory MiB": 60}
    lines = table.of_load(found)
    assert "| records/s | 200 | 100 | 2.00x |" in lines, lines


# Warm servers.

@pytest.mark.parametrize("costs, warm", [
    ([], False),
    ([10.0, 10.0], False),
    ([10.0, 9.6, 9.6], True),
    ([10.0, 9.6, 9.5], False),  # 5 % saved
    ([10.0, 12.0, 11.0], True),
    ([10.0, 9.0, 10.0], False),  # one of the two saved something
    ([10.0, 5.0, 5.0], False),
    ([10.0, 5.0, 6.0, 5.0], True),
    # Kafka, as it was seen: by its third run alone it would have been taken for warm.
    ([8.03, 3.86, 4.18], False),
    ([8.03, 3.86, 4.18, 3.10, 3.32], False),
    ([8.03, 3.86, 4.18, 3.10, 3.32, 3.52], True),
])
def test_a_server_is_warm_when_two_runs_in_a_row_cost_it_no_less(costs, warm):
    assert race.is_warm(costs) is warm


class Falling:
    """A load that costs each contestant this much, one run after the other; the last for good."""

    what, cost, suits_sink = "a load", "server CPU ms/MB", True

    def __init__(self, **costs):
        self.costs = {key: itertools.chain(these, itertools.repeat(these[-1]))
                      for key, these in costs.items()}

    def run(self, contestant, scale, scratch):
        contestant.said.append("run")
        cost = next(self.costs[contestant.key])
        if not cost:
            raise AssertionError("the load broke")
        return {"records/s": 1000 / cost, self.cost: cost}


class Noted:
    """A contestant of which only what happens to it is of interest."""

    def __init__(self, key, folder, flush_ms):
        assert flush_ms == 0
        self.key, self.said = key, []
        FIELD.append(self)

    def takes(self, load):
        return self.key != "sink" or load.suits_sink

    def start(self):
        self.said.append("start")

    def start_anew(self):
        self.said.append("start anew")

    def stop(self):
        pass


FIELD = []


def raced(monkeypatch, tmp_path, loads, **more):
    """The results of a race of such contestants, and {contestant: what happened to it}."""
    FIELD.clear()
    monkeypatch.setattr(race, "Contestant", Noted)
    monkeypatch.setattr(race, "LOADS", loads)
    monkeypatch.setattr(table, "LOADS", loads)
    options = argparse.Namespace(**{
        "only": ["odradek", "kafka"], "loads": list(loads), "rounds": 2, "scale": 1, "warm": True,
        "flush_ms": 0, "data_dir": tmp_path, "note": "", **more})
    results = race.run(options, keep=lambda _: None)
    assert list(tmp_path.iterdir()) == []
    return results, {one.key: one.said for one in FIELD}


def costs(part):
    return {key: [one[Falling.cost] for one in runs] for key, runs in part.items()}


def test_each_contestant_gets_warm_in_a_new_process_before_it_is_measured(monkeypatch, tmp_path):
    load = Falling(odradek=[2, 2, 2, 3, 4], kafka=[20, 10, 5, 5, 5, 6, 7])
    results, said = raced(monkeypatch, tmp_path, {"one": load})
    assert costs(results["warming"]["one"]) == {"odradek": [2, 2, 2], "kafka": [20, 10, 5, 5, 5]}
    assert costs(results["loads"]["one"]) == {"odradek": [3, 4], "kafka": [6, 7]}
    assert said == {"odradek": ["start anew"] + 5 * ["run"], "kafka": ["start anew"] + 7 * ["run"]}
    text = table.markdown(results)
    assert "**Warm servers**" in text and "Kafka 4.3 20.0, 10.0, 5.00, 5.00, 5.00." in text, text


def test_a_server_that_never_gets_warm_is_measured_after_eight_runs(monkeypatch, tmp_path):
    halved = [2 ** -number for number in range(10)]
    load = Falling(odradek=[1], kafka=halved)
    results, _ = raced(monkeypatch, tmp_path, {"one": load})
    assert costs(results["warming"]["one"])["kafka"] == halved[:8]
    assert costs(results["loads"]["one"])["kafka"] == halved[8:]


def test_each_load_begins_cold_and_has_its_rounds_at_once(monkeypatch, tmp_path):
    loads = {"one": Falling(odradek=[1]), "two": Falling(odradek=[1])}
    _, said = raced(monkeypatch, tmp_path, loads, only=["odradek"])
    assert said == {"odradek": 2 * (["start anew"] + 5 * ["run"])}


def test_a_load_that_breaks_while_it_warms_up_is_told_and_the_others_go_on(monkeypatch, tmp_path):
    load = Falling(odradek=[1], kafka=[0, 2])
    results, _ = raced(monkeypatch, tmp_path, {"one": load}, rounds=1)
    assert results["failures"] == ["one: kafka: AssertionError: the load broke"]
    assert costs(results["loads"]["one"]) == {"odradek": [1], "kafka": [2]}


def test_without_warming_up_every_run_is_measured(monkeypatch, tmp_path):
    load = Falling(odradek=[1, 2], kafka=[3, 4])
    results, said = raced(monkeypatch, tmp_path, {"one": load}, warm=False)
    assert costs(results["loads"]["one"]) == {"odradek": [1, 2], "kafka": [3, 4]}
    assert said["kafka"] == ["start", "run", "run"] and results["warming"] == {}
    text = table.markdown(results)
    assert "Warm servers" not in text and "While it got warm" not in text, text


def test_a_floor_has_beside_it_what_cold_servers_and_one_that_does_nothing_had():
    def figures(rate):
        return {"records/s": rate, "peak memory MiB": 60, "server CPU ms/MB": 1, "written x": 2}
    results = {
        "run": FLUSH,
        "loads": {"produce-1k-12": {"odradek": [figures(105.0)], "kafka": [figures(100.0)],
                                    "sink": [figures(110.0)]}},
        "warming": {"produce-1k-12": {"odradek": [figures(100.0), figures(105.0)],
                                      "kafka": [figures(50.0), figures(100.0)]}},
    }
    rows = {row["figure"]: row for row in table.judged(results)}
    assert rows["records/s"] == {
        "load": "produce-1k-12", "figure": "records/s", "floor": "at least 1.2x Kafka's",
        "measured": "1.05x", "met": False, "cold": "2.00x", "sink": "1.10x"}
    # Nobody asks what a server that does nothing writes.
    assert "sink" not in rows["written x"] and rows["written x"]["cold"] == "2.0"
    lines = table.summary(results)
    assert lines[0].endswith("| measured | | cold | a server that does nothing, instead |")
    assert ("| produce-1k-12 | records/s | at least 1.2x Kafka's | 1.05x | **not met** | 2.00x "
            "| 1.10x |") in lines, lines


class Gone:
    """A contestant that was there when the load began."""

    def create_topic(self, name, partitions):
        pass

    def delete_topic(self, name):
        raise ConnectionRefusedError(name)


@pytest.mark.parametrize("ended", [SystemExit, KeyboardInterrupt])
def test_whoever_is_told_to_end_ends_though_the_servers_are_gone_already(ended):
    with pytest.raises(ended), Topic(Gone(), 1):
        raise ended
    with pytest.raises(ConnectionRefusedError), Topic(Gone(), 1):
        raise AssertionError("the load broke")


SYNCS = """
import os, sys, time
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
for sync in os.fsync, os.fdatasync:
    os.write(file, b"something")
    begun = time.monotonic()
    sync(file)
    print(round(1e3 * (time.monotonic() - begun)))
os.close(file)
try:
    os.fdatasync(file)
except OSError as error:
    print(error.strerror)
"""


def test_a_slow_flush_makes_each_sync_longer_and_lets_a_failed_one_fail(tmp_path):
    command = [sys.executable, "-c", SYNCS, str(tmp_path / "synced")]
    environment = {**os.environ, **slow_flush.environment(40)}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    *milliseconds, failed = said.stdout.splitlines()
    assert len(milliseconds) == 2 and all(int(took) >= 40 for took in milliseconds)
    assert failed == "Bad file descriptor"
    assert slow_flush.environment(0) == {}


# The server that does nothing.

@pytest.fixture(scope="module")
def sink(tmp_path_factory):
    server = Contestant("sink", tmp_path_factory.mktemp("sink"))
    server.start()
    yield server
    server.stop()


def test_the_sink_counts_acknowledges_and_gives_back_as_many_records(sink):
    sink.create_topic("counted", 2)
    small, large = (wire.batch([b"v"] * count, 1) for count in (3, 5))
    with wire.Connection(sink.bootstrap) as connection:
        assert [connection.produce("counted", 1, one) for one in (small, large, small)] == [
            (0, 0), (0, 3), (0, 8)]
        assert connection.produce("counted", 0, large) == (0, 0)
        assert connection.produce("counted", 2, large)[0] == 3  # there is no such partition
        assert connection.init_producer_id()[0] >= 0
        error, end, stored = connection.fetch("counted", 1, 2)
        # 11 records in all, so from 2 on the larger batch twice: 2 to 6 and 7 to 11.
        assert (error, end) == (0, 11)
        assert [wire.struct.unpack_from(">q", one)[0] for one in wire.batches(stored)] == [2, 7]
        assert {one[8:] for one in wire.batches(stored)} == {large[8:]}
        # As much as fits, and one at least.
        assert connection.fetch("counted", 1, 2, bytes_max=1)[2] == stored[:len(large)]
        assert connection.fetch("counted", 1, 11, wait_ms=1) == (0, 11, b"")
    sink.delete_topic("counted")
    with wire.Connection(sink.bootstrap) as connection:
        assert connection.produce("counted", 1, large)[0] == 3


def test_a_reader_at_the_sinks_end_is_answered_when_there_is_more(sink):
    sink.create_topic("awaited", 1)
    batch = wire.batch([b"v"], 1)
    with wire.Connection(sink.bootstrap) as reader, wire.Connection(sink.bootstrap) as writer:
        body = wire.struct.pack(">iiiib", -1, 60_000, 1, 1 << 20, 0) + wire.struct.pack(">i", 1)
        body += wire.string("awaited") + wire.struct.pack(">iiqi", 1, 0, 0, 1 << 20)
        reader.send(wire.FETCH, body)
        assert writer.produce("awaited", 0, batch) == (0, 0)
        _, reply = reader.receive()  # long before its minute is over
        assert reply.take(len(reply.data))[-len(batch):] == batch


@pytest.mark.needs("kafka-4.3.0")
def test_kafkas_perf_tool_is_content_with_the_sink(sink):
    sink.create_topic("perf", 12)
    meter = measuring.Meter(sink)
    found = clients.java_produce(sink.bootstrap, "perf", 2_000, 1024)
    assert found["records/s"] > 0
    cost = meter.figures(2_000 * 1024)
    assert cost["clients CPU ms/MB"] > cost["server CPU ms/MB"]
    assert 0 < cost["processors busy %"] <= 100
    with wire.Connection(sink.bootstrap) as connection:
        ends = [connection.fetch("perf", partition, 0)[1] for partition in range(12)]
    assert sum(ends) == 2_000

"""Apache Kafka's own programs: the command line tools of 4.3.0 and 3.4.0, and the 4.3.0 broker."""

import os
import subprocess
from pathlib import Path

TOOLS = {
    "4.3.0": {
        "topics": "org.apache.kafka.tools.TopicCommand",
        "console-producer": "org.apache.kafka.tools.ConsoleProducer",
        "console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
        "consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        "broker-api-versions": "org.apache.kafka.tools.BrokerApiVersionsCommand",
        "producer-perf-test": "org.apache.kafka.tools.ProducerPerformance",
        "consumer-perf-test": "org.apache.kafka.tools.ConsumerPerformance",
        "get-offsets": "org.apache.kafka.tools.GetOffsetShell",
        "dump-log": "org.apache.kafka.tools.DumpLogSegments",
        "cluster": "org.apache.kafka.tools.ClusterTool",
        "groups": "org.apache.kafka.tools.GroupsCommand",
        "acls": "org.apache.kafka.tools.AclCommand",
        "configs": "kafka.admin.ConfigCommand",
        "client-metrics": "org.apache.kafka.tools.ClientMetricsCommand",
        "share-groups": "org.apache.kafka.tools.consumer.group.ShareGroupCommand",
        "console-share-consumer": "org.apache.kafka.tools.consumer.ConsoleShareConsumer",
        "delete-records": "org.apache.kafka.tools.DeleteRecordsCommand",
        "transactions": "org.apache.kafka.tools.TransactionsCommand",
        "features": "org.apache.kafka.tools.FeatureCommand",
        "leader-election": "org.apache.kafka.tools.LeaderElectionCommand",
        "log-dirs": "org.apache.kafka.tools.LogDirsCommand",
        "metadata-quorum": "org.apache.kafka.tools.MetadataQuorumCommand",
        "reassign-partitions": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
        "verifiable-consumer": "org.apache.kafka.tools.VerifiableConsumer",
        "verifiable-producer": "org.apache.kafka.tools.VerifiableProducer",
    },
    "3.4.0": {
        "topics": "kafka.admin.TopicCommand",
        "console-producer": "kafka.tools.ConsoleProducer",
        "console-consumer": "kafka.tools.ConsoleConsumer",
        "consumer-groups": "kafka.admin.ConsumerGroupCommand",
        "broker-api-versions": "kafka.admin.BrokerApiVersionsCommand",
        "producer-perf-test": "org.apache.kafka.tools.ProducerPerformance",
        "consumer-perf-test": "kafka.tools.ConsumerPerformance",
        "get-offsets": "kafka.tools.GetOffsetShell",
        "acls": "kafka.admin.AclCommand",
        "cluster": "kafka.tools.ClusterTool",
        "configs": "kafka.admin.ConfigCommand",
        "delete-records": "kafka.admin.DeleteRecordsCommand",
        "features": "kafka.admin.FeatureCommand",
        "leader-election": "kafka.admin.LeaderElectionCommand",
        "log-dirs": "kafka.admin.LogDirsCommand",
        "metadata-quorum": "org.apache.kafka.tools.MetadataQuorumCommand",
        "reassign-partitions": "kafka.admin.ReassignPartitionsCommand",
        "transactions": "org.apache.kafka.tools.TransactionsCommand",
        "verifiable-consumer": "org.apache.kafka.tools.VerifiableConsumer",
        "verifiable-producer": "org.apache.kafka.tools.VerifiableProducer",
    },
}
HERE = Path(__file__).resolve().parent.parent / "java"
TOOL_SECONDS_MAX = 120


def jars(version):
    """Those of a version, or of "relocated"."""
    return Path(os.environ[f"ODRADEK_TEST_KAFKA_{version.replace('.', '_').upper()}"])


def java_command(version, main_class, heap="256m"):
    return [
        "java", f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        f"-Dlog4j.configuration=file:{HERE / 'log4j.properties'}",
        "-cp", f"{jars(version)}/*", main_class,
    ]


def tool(version, name, *arguments, stdin=None, check=True, seconds=TOOL_SECONDS_MAX):
    """Runs one of Kafka's tools as its .sh script would; the finished process, output as text."""
    done = subprocess.run(
        java_command(version, TOOLS[version][name]) + [str(one) for one in arguments],
        input=stdin if stdin is not None else "", text=True, timeout=seconds,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    if check and done.returncode:
        raise AssertionError(
            f"{name} of {version} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
    return done


def tools(version, path, calls):
    """Runs tools one after the other in one process: calls is [(key, name, arguments, stdin)], and
    the answer {key: (exit code, both outputs as one text)}. A lot cheaper than one process each."""
    lines = [[key, TOOLS[version][name], stdin.replace("\n", "\\n"), *map(str, arguments)]
             for key, name, arguments, stdin in calls]
    path.write_text("".join("\t".join(line) + "\n" for line in lines))
    done = program(version, "Tools.java", path)
    ended = {}
    for part in done.stdout.split("=== ")[1:]:
        head, _, text = part.partition("\n")
        key, code = head.rsplit(" ", 1)
        ended[key] = (int(code), text)
    return ended


def program(version, source, *arguments, seconds=TOOL_SECONDS_MAX, check=True):
    """Runs a single-file Java program, by its name in tests/java or by its path, against Kafka's
    client library."""
    command = java_command(version, str(HERE / source), heap="512m")
    done = subprocess.run(
        command + [str(one) for one in arguments], text=True, timeout=seconds,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    if check and done.returncode:
        raise AssertionError(
            f"{source} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
    return done


# Apache Kafka's broker, one node in KRaft mode.


def apache_properties(controller_port):
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.listener.names": "CONTROLLER",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "5",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "controller.address": f"127.0.0.1:{controller_port}",
    }


def apache_command(properties, data, heap="1g"):
    """The listeners of the properties plus a controller's; formats the folder the first time."""
    text = properties.read_text()
    lines = dict(line.split("=", 1) for line in text.splitlines() if line)
    controller = lines.pop("controller.address")
    lines["controller.quorum.voters"] = f"{lines['node.id']}@{controller}"
    advertised = lines.get("advertised.listeners", lines["listeners"])
    lines["listeners"] += f",CONTROLLER://{controller}"
    lines["advertised.listeners"] = advertised
    protocols = lines.get(
        "listener.security.protocol.map",
        "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
    )
    lines["listener.security.protocol.map"] = protocols + ",CONTROLLER:PLAINTEXT"
    named = {"inter.broker.listener.name", "security.inter.broker.protocol"} & lines.keys()
    if not named:
        lines["inter.broker.listener.name"] = lines["listeners"].split("://")[0]
    properties.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
    if not (data / "meta.properties").exists():
        subprocess.run(
            java_command("4.3.0", "kafka.tools.StorageTool")
            + ["format", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c", str(properties)],
            check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        )
    command = java_command("4.3.0", "kafka.Kafka", heap)
    command.remove("-XX:TieredStopAtLevel=1")
    command.remove("-XX:+UseSerialGC")
    command[command.index("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")] = (
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=info"
    )
    return command + [str(properties)]

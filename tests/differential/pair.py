"""The two brokers that are compared: their configuration, and how they are made ready."""

from differential import messages
from differential.cases import ALL
from differential.talk import CLOSED, Exchange, Gone, Talk
from harness.broker import Broker, free_port, wait_for

USERS = {"alice": "alice-secret", "bob": "bob-secret"}


def properties(plain, sasl):
    """The same file for both."""
    users = " ".join(f'user_{name}="{password}"' for name, password in USERS.items())
    module = "org.apache.kafka.common.security"
    scram = f"{module}.scram.ScramLoginModule required;"
    of_sasl = "listener.name.sasl_plaintext"
    return {
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},SASL_PLAINTEXT://127.0.0.1:{sasl}",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        f"{of_sasl}.plain.sasl.jaas.config": f"{module}.plain.PlainLoginModule required {users};",
        f"{of_sasl}.scram-sha-256.sasl.jaas.config": scram,
        f"{of_sasl}.scram-sha-512.sasl.jaas.config": scram,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "node.id": "1",
        "num.partitions": "1",
        "auto.create.topics.enable": "true",
        "log.retention.ms": "-1",
        # Markers are of now, records of 2023: they shall lie in one segment, and in one reply.
        "log.roll.ms": "31536000000000",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "100",
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.num.partitions": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
    }


def make(folder, apache):
    plain, sasl = free_port(), free_port()
    lines = properties(plain, sasl)
    if apache:
        # It looks for overdue transactions every ten seconds otherwise.
        lines["transaction.abort.timed.out.transaction.cleanup.interval.ms"] = "100"
        # It gathers what happens for a second otherwise; ours assigns with the heartbeat.
        lines["group.consumer.assignment.interval.ms"] = "0"
    broker = Broker(folder=folder, properties=lines, apache=apache)
    broker.sasl_port = sasl
    return broker


def talk(broker, name):
    return Talk(name, ("127.0.0.1", broker.port), ("127.0.0.1", broker.sasl_port))


def warm_up(broker):
    """Waits until Kafka's coordinators have made their topics; ours are there at once."""
    if not broker.apache:
        return
    with_it = talk(broker, "warm-up")

    def asked(api, version, fields):
        reply = with_it.ask(api, version, fields)
        return reply if isinstance(reply, dict) and reply["ErrorCode"] == 0 else None

    # Asking where a coordinator is makes Kafka create its topic.
    for kind in (0, 1, 2):
        key = "group:AAAAAAAAAAAAAAAAAAAAAA:0" if kind == 2 else "warm-up"
        with_it.ask("FindCoordinator", 6, {"KeyType": kind, "CoordinatorKeys": [key]})
    wait_for("the group coordinator", lambda: asked("JoinGroup", 3, {
        "GroupId": "warm-up", "SessionTimeoutMs": 10000, "RebalanceTimeoutMs": 10000,
        "ProtocolType": "consumer", "Protocols": [{"Name": "range", "Metadata": b""}]}), 60)
    wait_for("the transaction coordinator", lambda: asked("InitProducerId", 4, {
        "TransactionalId": "warm-up", "TransactionTimeoutMs": 60000}), 60)
    with_it.close()


def run(broker, name):
    """The exchanges of one case, and the sentence why it went no further (or none)."""
    with_it = talk(broker, name)
    stopped = None
    try:
        ALL[name](with_it)
    except Gone as gone:
        stopped = str(gone)
    except Exception as error:
        stopped = f"{type(error).__name__}: {error}"
    finally:
        with_it.close()
    return with_it.exchanges, stopped

"""The commands that explain: doctor against servers with one mistake each, explain, acl, check."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading

import pytest
from harness import certificates, java
from harness.broker import Broker, free_port

pytestmark = pytest.mark.odradek_only


def odradek(*arguments, code=None, **options):
    """Runs the binary with this command line."""
    environment = {name: value for name, value in os.environ.items() if name != "ODRADEK_SERVER"}
    done = subprocess.run([os.environ["ODRADEK_BIN"], *map(str, arguments)], text=True, timeout=60,
                          capture_output=True, stdin=subprocess.DEVNULL, env=environment, **options)
    if code is not None:
        assert done.returncode == code, done.stdout + done.stderr
    return done


def doctor(broker, *arguments):
    """Exit code, and the findings that are no praise: diagnosis with level and evidence."""
    path = broker.folder / "server.properties"
    done = odradek("doctor", "--config", path, "--json", *arguments)
    findings = json.loads(done.stdout)["findings"]
    wrong = {one["diagnosis"]: one for one in findings if one["level"] != "ok"}
    # What this machine is like is not what these tests are about.
    for about_machine in ("clock-not-synchronised", "memory-short", "open-files-limit",
                          "disk-nearly-full", "data-folder-readable"):
        wrong.pop(about_machine, None)
    return done.returncode, wrong


def own_address():
    """An address of this machine that is not its loopback one; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]


def mistakes(broker):
    return broker.get_json("/api/v1/diagnostics")["counts"]


def test_a_healthy_server_is_found_healthy_and_none_the_wiser(make_broker):
    plain, login = free_port(), free_port()
    with make_broker(properties={
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},SASL_PLAINTEXT://127.0.0.1:{login}",
    }) as broker:
        assert doctor(broker) == (0, {})
        assert doctor(broker) == (0, {})
        assert mistakes(broker) == {}
        text = odradek("doctor", "--config", broker.folder / "server.properties", code=0).stdout
        assert ("speaks SASL_PLAINTEXT (login by PLAIN, SCRAM-SHA-256, SCRAM-SHA-512)"
                in " ".join(text.split()))
        # By its HTTP address alone, from a folder without a configuration.
        (broker.folder / "empty").mkdir()
        by_address = odradek("doctor", "--server", broker.http, code=0,
                             cwd=broker.folder / "empty")
        assert f"127.0.0.1:{login} speaks SASL_PLAINTEXT" in by_address.stdout


def test_an_advertised_address_that_nobody_answers_is_named_with_what_was_seen(make_broker):
    port, dead = free_port(), free_port()
    with make_broker(properties={
        "listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{dead}",
    }) as broker:
        code, wrong = doctor(broker)
        assert code == 1 and set(wrong) == {"advertised-address-unreachable"}
        finding = wrong["advertised-address-unreachable"]
        assert finding["level"] == "problem"
        assert finding["evidence"] == f"127.0.0.1:{dead}: connection refused"


def test_localhost_advertised_to_the_network_and_a_name_that_is_none_are_problems(make_broker):
    ports = [free_port() for _ in range(3)]
    with make_broker(properties={
        "listeners": f"A://0.0.0.0:{ports[0]},B://127.0.0.1:{ports[1]},C://127.0.0.1:{ports[2]}",
        "listener.security.protocol.map": "A:SASL_PLAINTEXT,B:PLAINTEXT,C:PLAINTEXT",
        "advertised.listeners": f"A://localhost:{ports[0]},B://localhost:{ports[1]},"
                                f"C://nowhere.invalid:{ports[2]}",
    }) as broker:
        code, wrong = doctor(broker)
        assert code == 1
        assert set(wrong) == {"advertised-localhost", "advertised-name-unknown"}
        # On a listener that only this machine reaches, localhost is right.
        assert wrong["advertised-localhost"]["subject"] == "listener A"
        assert wrong["advertised-name-unknown"]["subject"] == "listener C"


def test_the_address_of_another_broker_and_a_listener_without_login_are_seen(make_broker):
    if own_address().startswith("127."):
        pytest.skip("this machine has no address but its loopback one")
    port = free_port()
    with make_broker() as other, make_broker(properties={
        "listeners": f"PLAINTEXT://0.0.0.0:{port}",
        "advertised.listeners": f"PLAINTEXT://{own_address()}:{port}",
    }) as broker:
        code, wrong = doctor(broker)
        assert code == 0 and set(wrong) == {"listener-without-login"}
        broker.properties["advertised.listeners"] = f"PLAINTEXT://127.0.0.1:{other.port}"
        broker.properties["listeners"] = f"PLAINTEXT://127.0.0.1:{port}"
        broker.restart()
        code, wrong = doctor(broker)
        assert code == 1 and set(wrong) == {"advertised-address-elsewhere"}
        assert "cluster id" in wrong["advertised-address-elsewhere"]["evidence"]


def test_a_configuration_that_was_changed_after_the_start_is_told_from_the_server(make_broker):
    first, second = free_port(), free_port()
    with make_broker(properties={
        "listeners": f"A://127.0.0.1:{first},B://127.0.0.1:{second}",
        "listener.security.protocol.map": "A:SASL_PLAINTEXT,B:PLAINTEXT",
    }) as broker:
        broker.properties["listener.security.protocol.map"] = "A:PLAINTEXT,B:PLAINTEXT"
        broker.properties["advertised.listeners"] = f"B://127.0.0.1:{second}"
        broker.write_configuration()
        done = odradek("doctor", "--config", broker.folder / "server.properties", "--json", code=0)
        said = {(one["subject"], one["what"]) for one in json.loads(done.stdout)["findings"]
                if one.get("diagnosis") == "listener-answers-wrongly"}
        assert said == {
            ("listener A", "the server has it with SASL_PLAINTEXT, the configuration with "
                           "PLAINTEXT"),
            ("listener B", "the server tells clients the address at which each came, the "
                           f"configuration says 127.0.0.1:{second}"),
        }
        assert mistakes(broker) == {}


@pytest.mark.needs("openssl")
def test_certificates_that_are_over_or_name_another_host_are_problems(make_broker, folders):
    folder = folders()
    certificates.authority(folder, "ca")
    certificates.authority(folder, "other")
    expired = certificates.server(folder, "ca", hosts="IP:127.0.0.1", days=-1)
    expired.chmod(0o600)
    expired = expired.rename(folder / "expired.pem")
    good = certificates.server(folder, "ca", days=90)
    port = free_port()
    with make_broker(properties={
        "listeners": f"SSL://127.0.0.1:{port}",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": good,
    }) as broker:
        good.chmod(0o600)
        assert doctor(broker, "--ca", folder / "ca.pem") == (0, {})
        code, wrong = doctor(broker, "--ca", folder / "other.pem")
        assert code == 1 and set(wrong) == {"certificate-chain"}
        good.chmod(0o644)
        code, wrong = doctor(broker)
        assert code == 0 and set(wrong) == {"secret-file-readable"}
        assert str(good) in wrong["secret-file-readable"]["what"]
        broker.properties["advertised.listeners"] = f"SSL://127.0.0.9:{port}"
        broker.properties["ssl.keystore.location"] = expired
        broker.restart()
        code, wrong = doctor(broker)
        assert code == 1
        assert set(wrong) == {"certificate-expired", "certificate-names-other-host",
                              "advertised-address-unreachable"}
    # With nobody to shake hands with, the file itself is looked at.
    code, wrong = doctor(broker)
    assert code == 1 and {"certificate-expired", "server-not-running"} <= set(wrong)


def test_without_a_server_it_says_so_and_checks_what_can_be_checked(folders):
    folder = folders()
    broker = Broker(folder=folder, properties={
        "listeners": f"LAN://0.0.0.0:{free_port()}",
        "listener.security.protocol.map": "LAN:SASL_PLAINTEXT",
        "advertised.listeners": "LAN://localhost:9092",
        "listener.name.lan.plain.sasl.jaas.config": 'x required user_alice="hush-hush";',
    })
    path = broker.write_configuration()
    path.chmod(0o644)
    code, wrong = doctor(broker)
    assert code == 1
    assert set(wrong) == {"server-not-running", "advertised-localhost", "secret-file-readable"}
    assert "hush-hush" not in json.dumps(wrong)
    assert not broker.data.exists()
    path.chmod(0o640)
    path.write_text(path.read_text() + "nonsense=1\n")
    code, wrong = doctor(broker)
    assert code == 1 and "configuration-wrong" in wrong


def test_hostile_answers_end_in_findings_not_in_a_hang(folders, hostile):
    broker = Broker(folder=folders(), properties={
        "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in hostile.items()),
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in hostile),
    })
    broker.http_port = hostile["ENDLESS"]
    broker.write_configuration()
    done = odradek("doctor", "--config", broker.folder / "server.properties", "--json", code=1)
    findings = json.loads(done.stdout)["findings"]
    by_subject = {one["subject"]: one["diagnosis"] for one in findings if one["level"] != "ok"}
    for name in hostile:
        assert by_subject[f"listener {name}"] == "listener-answers-wrongly", by_subject
    assert by_subject["server"] == "server-view-hidden"


@pytest.fixture
def hostile():
    """Ports behind which somebody answers as no broker would."""
    def endless(connection):
        connection.recv(1)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    answers = {
        "ENDLESS": endless,
        # 2 GiB announced; a megabyte announced and not sent; an array of two thousand million.
        "HUGE": lambda connection: connection.sendall(b"\x7f\xff\xff\xff"),
        "SHORT": lambda connection: connection.sendall(b"\x00\x0f\xff\xffx"),
        "LYING": lambda connection: connection.sendall(
            b"\x00\x00\x00\x0a\x00\x00\x00\x07\x00\x00\x7f\xff\xff\xff"),
    }
    ports, sockets = {}, []
    for name, answer in answers.items():
        listening = socket.create_server(("127.0.0.1", 0))
        sockets.append(listening)
        ports[name] = listening.getsockname()[1]

        def serve(listening=listening, answer=answer):
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    try:
                        answer(connection)
                    except OSError:
                        pass

        threading.Thread(target=serve, daemon=True).start()
    yield ports
    for listening in sockets:
        listening.close()


def test_every_diagnosis_is_explained_by_its_id_in_both_forms(module_broker):
    lines = odradek("explain", code=0).stdout.splitlines()
    ids = [line.split()[0] for line in lines]
    served = module_broker.get_json("/api/v1/diagnostics/catalogue")
    assert ids == [known["id"] for known in served["catalogue"]] and len(ids) > 40
    for known in served["catalogue"]:
        text = odradek("explain", known["id"], code=0).stdout
        assert text.startswith(f"{known['title']} ({known['id']})")
        words = re.sub(r"\s+", " ", text)
        assert known["what_happened"] in words and known["how_to_fix"] in words
    misspelt = odradek("explain", "tls-on-plain-prot", code=2)
    assert "did you mean tls-on-plain-port?" in misspelt.stderr
    assert shutil.which("head") is None or subprocess.run(
        f"{os.environ['ODRADEK_BIN']} explain | head -1", shell=True, text=True,
        capture_output=True).stderr == ""


AUTHORISED = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
}


@pytest.mark.needs("kafka-4.3.0")
def test_rules_made_here_are_the_rules_that_kafka_acls_shows(make_broker):
    with make_broker(properties=AUTHORISED) as broker:
        def acl(*arguments, **options):
            return odradek("acl", *arguments, "--server", broker.http, **options)

        def kafka_acls():
            listed = java.tool("4.3.0", "acls", "--bootstrap-server", broker.bootstrap, "--list")
            resource, rules = None, set()
            for line in listed.stdout.splitlines():
                found = re.search(r"resourceType=(\w+), name=(\S+), patternType=(\w+)", line)
                resource = found.groups() if found else resource
                found = re.search(r"principal=(\S+), host=(\S+), operation=(\w+), "
                                  r"permissionType=(\w+)", line)
                if found:
                    rules.add(resource + found.groups())
            return rules

        acl("add", "--allow-principal", "User:p", "--producer", "--topic", "stocks", code=0)
        consumer = ("--allow-principal", "User:c", "--consumer", "--topic", "stocks",
                    "--group", "g")
        acl("add", *consumer, code=0)
        acl("add", "--deny-principal", "User:d", "--deny-host", "10.0.0.9", "--operation",
            "Describe", "--topic", "sens", "--prefixed", code=0)
        # As kafka-acls documents its shorthands.
        stocks = ("TOPIC", "stocks", "LITERAL")
        words = ("WRITE", "DESCRIBE", "CREATE")
        expected = {stocks + ("User:p", "*", word, "ALLOW") for word in words}
        expected |= {stocks + ("User:c", "*", word, "ALLOW") for word in ("READ", "DESCRIBE")}
        expected |= {("GROUP", "g", "LITERAL", "User:c", "*", "READ", "ALLOW"),
                     ("TOPIC", "sens", "PREFIXED", "User:d", "10.0.0.9", "DESCRIBE", "DENY")}
        assert kafka_acls() == expected
        acl("remove", *consumer, code=0)
        acl("remove", "--topic", "sens", "--prefixed", code=0)
        assert kafka_acls() == {rule for rule in expected if rule[3] == "User:p"}
        # And the other way round.
        java.tool("4.3.0", "acls", "--bootstrap-server", broker.bootstrap, "--add",
                  "--allow-principal", "User:k", "--operation", "Alter", "--cluster")
        listed = json.loads(acl("list", "--principal", "User:k", "--json", code=0).stdout)
        assert listed["acls"] == [{
            "resource_type": "CLUSTER", "resource_name": "kafka-cluster", "pattern_type": "LITERAL",
            "principal": "User:k", "host": "*", "operation": "ALTER", "permission": "ALLOW"}]
        assert "no such rule" in acl("remove", "--topic", "nothing", code=1).stderr


def test_rules_need_the_rights_that_the_kafka_port_asks_for(make_broker):
    with make_broker(properties=AUTHORISED | {"super.users": "User:admin"}) as broker:
        done = odradek("acl", "list", "--server", broker.http, code=1)
        assert "User:ANONYMOUS may not Describe the cluster" in done.stderr
        assert "odradek explain not-authorised" in done.stderr
        done = odradek("acl", "add", "--allow-principal", "User:ANONYMOUS", "--cluster",
                       "--server", broker.http, code=1)
        assert "may not Alter the cluster" in done.stderr
    with make_broker() as broker:
        done = odradek("acl", "list", "--server", broker.http, code=1)
        assert "authorizer.class.name" in done.stderr


@pytest.mark.needs("openssl")
def test_check_names_file_line_and_what_to_write(folders):
    folder = folders()
    certificates.authority(folder, "ca")
    good = certificates.server(folder, "ca", days=90).rename(folder / "good.pem")
    certificates.server(folder, "ca", days=-1).rename(folder / "over.pem")
    soon = certificates.server(folder, "ca", days=10).rename(folder / "soon.pem")
    # The key of one, the certificate of another.
    (folder / "mixed.pem").write_text((folder / "server.key").read_text() + good.read_text().split(
        "-----END PRIVATE KEY-----\n")[1])
    for pem in folder.glob("*.pem"):
        pem.chmod(0o600)
    tls = "listeners=SSL://127.0.0.1:19092\nssl.keystore.location="
    table = [
        # Lines, exit code, what is said of which line, and what to write.
        ("num.partition=3", 2, ":1: num.partition: unknown", "Write num.partitions=3"),
        ("\nlisteners=LAN://:9092", 2, "No security protocol defined",
         "listener.security.protocol.map=LAN:SASL_PLAINTEXT"),
        ("listeners=PLAINTEXT://127.0.0.1:8080", 2, "port 8080 is that of the listener PLAINTEXT",
         "write odradek.http.listen=127.0.0.1:8081"),
        ("advertised.listeners=PLAINTEXT://0.0.0.0:9092", 2, ":1: advertised.listeners: ",
         "take the line out"),
        ("sasl.jaas.config=x required user_a=\"b\"", 2, ":1: sasl.jaas.config: ", "semicolon"),
        (f"{tls}{folder}/none.pem", 2, ":2: ssl.keystore.location: ", "odradek tls init --host"),
        (f"{tls}{folder}/mixed.pem", 2, ":2: ssl.keystore.location: ", "does not belong to"),
        (f"{tls}{folder}/over.pem", 2, ":2: ssl.keystore.location: ", "expired on"),
        (f"{tls}{soon}", 0, ":2: ssl.keystore.location: ", "expires on"),
        (f"{tls}{good}", 0, "ok", ""),
        ("inter.broker.listener.name=X", 0, ":1: inter.broker.listener.name: X is not among", ""),
        ("listeners=PLAINTEXT://:9092\nadvertised.listeners=PLAINTEXT://localhost:9092", 0,
         ":2: advertised.listeners: clients on other machines", "take PLAINTEXT out"),
    ]
    for lines, code, said, fix in table:
        path = folder / "server.properties"
        path.write_text(f"{lines}\n")
        path.chmod(0o600)
        done = odradek("check", "--config", path, code=code, cwd=folder)
        line = [one for one in done.stdout.splitlines() if said in one]
        assert line and fix in line[0], f"{lines}: {done.stdout}"
    # What holds a secret is no reading for everybody; a file without one may be.
    path.write_text("num.partitions=1\n")
    path.chmod(0o644)
    assert "every user" not in odradek("check", "--config", path, code=0, cwd=folder).stdout
    path.write_text("sasl.jaas.config=x required user_a=\"hush-hush\";\n")
    said = odradek("check", "--config", path, code=0, cwd=folder).stdout
    assert f"warning: {path} holds a password, and every user of this machine can read" in said
    assert f"Write: chmod o-rwx {path}" in said and "hush-hush" not in said
    # And the pipeline beside it.
    (folder / "pipeline.toml").write_text('[[source]]\nname = "a"\ntpye = "csv"\n')
    done = odradek("check", "--config", path, code=2, cwd=folder)
    assert "pipeline.toml:3: " in done.stdout and '"type"' in done.stdout

"""Reading whole topics, quickly (librdkafka) and as a user's program would (kafka-python)."""

import json
import time

import confluent_kafka
from kafka import KafkaConsumer


def read_all(bootstrap, topic, seconds=120):
    """Every record below the end offsets of now: [(partition, offset, timestamp, key, value)]."""
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": bootstrap, "group.id": f"read-all-{time.monotonic_ns()}",
        "auto.offset.reset": "earliest", "enable.auto.commit": False, "fetch.wait.max.ms": 50,
    })
    try:
        partitions = list(consumer.list_topics(topic, timeout=20).topics[topic].partitions)
        assignment, left = [], 0
        for partition in partitions:
            at = confluent_kafka.TopicPartition(topic, partition, 0)
            low, high = consumer.get_watermark_offsets(at, timeout=20)
            assignment.append(confluent_kafka.TopicPartition(topic, partition, low))
            left += high - low
        got = []
        consumer.assign(assignment)
        deadline = time.monotonic() + seconds
        while left > 0:
            assert time.monotonic() < deadline, f"{left} records of {topic} do not come"
            for message in consumer.consume(min(left, 10000), timeout=1):
                assert message.error() is None, message.error()
                got.append((message.partition(), message.offset(), message.timestamp()[1],
                            message.key(), message.value()))
                left -= 1
        return got
    finally:
        consumer.close()


def latest_by_key(bootstrap, topic):
    """The last JSON value of each key."""
    return {key: json.loads(value) for _, _, _, key, value in read_all(bootstrap, topic)}


def read_by_kafka_python(bootstrap, topic, count):
    """JSON values, as the old consumer programs read them."""
    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest",
        consumer_timeout_ms=20000, value_deserializer=json.loads,
    )
    got = []
    for message in consumer:
        got.append(message)
        if len(got) == count:
            break
    consumer.close()
    return got

"""Reading whole topics, quickly (librdkafka) and as a user's program would (kafka-python)."""

import json
import time

import confluent_kafka
from kafka import KafkaConsumer


def read_all(bootstrap, topic, seconds=120):
    """Every record below the end offsets of now: [(partition, offset, timestamp, key, value)].
    Compaction may have left gaps."""
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": bootstrap, "group.id": f"read-all-{time.monotonic_ns()}",
        "auto.offset.reset": "earliest", "enable.auto.commit": False, "fetch.wait.max.ms": 50,
        "enable.partition.eof": True,
    })
    try:
        partitions = list(consumer.list_topics(topic, timeout=20).topics[topic].partitions)
        assignment, left = [], {}
        for partition in partitions:
            at = confluent_kafka.TopicPartition(topic, partition, 0)
            low, high = consumer.get_watermark_offsets(at, timeout=20)
            assignment.append(confluent_kafka.TopicPartition(topic, partition, low))
            left[partition] = high
        got = []
        consumer.assign(assignment)
        deadline = time.monotonic() + seconds
        while left:
            assert time.monotonic() < deadline, f"{topic} is not read up to {left}, by partition"
            for message in consumer.consume(10000, timeout=1):
                partition, offset, error = message.partition(), message.offset(), message.error()
                if error is None and offset < left.get(partition, 0):
                    got.append((partition, offset, message.timestamp()[1],
                                message.key(), message.value()))
                    offset += 1
                # At the end of a partition there is a message that says so.
                at_end = error and error.code() == confluent_kafka.KafkaError._PARTITION_EOF
                assert error is None or at_end, error
                if offset >= left.get(partition, 0):
                    left.pop(partition, None)
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

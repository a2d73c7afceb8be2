//! What the broker notes about clients that speak its protocol well and still go wrong.

use super::login::{with_listener, with_listener_in};
use super::*;

/// The evidence of every entry of this diagnosis.
fn evidence(running: &Node, diagnosis: &str) -> Vec<String> {
    let entries = running.broker.diary().entries();
    let entries = entries.into_iter().filter(|entry| entry.diagnosis == diagnosis);
    entries.map(|entry| entry.evidence).collect()
}

#[tokio::test]
async fn the_diary_is_kept_over_a_restart_and_counts_on() {
    let mut running = Node::new().await;
    for expected in 1..=2 {
        let mut wire = running.connect().await;
        wire.stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
        assert!(wire.is_closed().await);
        let entries = running.broker.diary().entries();
        assert_eq!(entries.len(), 1);
        assert_eq!((entries[0].diagnosis, entries[0].count), ("ssh-on-kafka-port", expected));
        running = running.restarted().await;
        assert_eq!(running.broker.diary().entries(), entries);
    }
}

/// Without a clean stop: what was noted is on disk a few seconds later.
#[tokio::test]
async fn the_diary_is_written_while_the_broker_runs() {
    let running = Node::new().await;
    let mut wire = running.connect().await;
    wire.stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
    assert!(wire.is_closed().await);
    let file = running.dir.path().join("diary.json");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !std::fs::read_to_string(&file).is_ok_and(|text| text.contains("ssh-on-kafka-port")) {
        assert!(std::time::Instant::now() < deadline, "nothing was written");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// 17 is INVALID_TOPIC_EXCEPTION, as from Kafka.
#[tokio::test]
async fn a_topic_name_with_a_blank_at_its_end_is_refused_and_the_right_one_named() {
    let running = Node::new().await;
    let mut wire = running.connect().await;
    assert_eq!(create(&mut wire, "ds04_messages_2").await.topics[0].error_code, 0);
    for _ in 0..3 {
        assert_eq!(create(&mut wire, "ds04_messages_2 ").await.topics[0].error_code, 17);
    }
    let entries = running.broker.diary().entries();
    assert_eq!((entries.len(), entries[0].count), (1, 1), "once for a peer and a name");
    let said = &evidence(&running, "near-miss-topic-name")[0];
    assert!(said.contains("\"ds04_messages_2 \" was asked for"), "{said}");
    assert!(said.contains("there is \"ds04_messages_2\", which differs by blanks"), "{said}");
}

/// 3 is UNKNOWN_TOPIC_OR_PARTITION.
#[tokio::test]
async fn a_near_miss_is_created_where_kafka_creates_it_and_found_by_produce_and_fetch_too() {
    let running = Node::new().await;
    let mut wire = running.connect().await;
    create(&mut wire, "Orders").await;
    assert_eq!(create(&mut wire, "orders").await.topics[0].error_code, 0);
    let said = evidence(&running, "near-miss-topic-name").remove(0);
    assert!(said.contains("\"orders\" was created; there is \"Orders\""), "{said}");
    assert_eq!(placed(&wire.call(&produce("Orders_", batch(None, &["x"]), 1), 9).await).0, 3);
    let said = evidence(&running, "near-miss-topic-name").remove(0);
    assert!(said.contains("\"Orders_\" was asked for"), "{said}");
    wire.call(&fetch("0rders", 0, (0, -1), true), 12).await;
    wire.call(&fetch("Oorders", 0, (0, -1), true), 12).await;
    let said = evidence(&running, "near-miss-topic-name").remove(0);
    assert!(said.contains("\"Oorders\" was asked for"), "{said}");
}

const ELSEWHERE: &str = "advertised.listeners=PLAINTEXT://broker.example.org:9092\n";

async fn wait_for_evidence(running: &Node, wire: &mut Connection, metadata: bool) -> String {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        if let Some(said) = evidence(running, "advertised-address-never-dialled").pop() {
            return said;
        }
        assert!(std::time::Instant::now() < deadline, "nothing was noted");
        if metadata {
            create(wire, "t").await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn who_asks_for_the_address_again_and_again_does_not_get_there() {
    let running = with_listener("PLAINTEXT", ELSEWHERE).await;
    let mut wire = running.connect().await;
    let said = wait_for_evidence(&running, &mut wire, true).await;
    assert!(said.contains("\"wire\" was told to connect to broker.example.org:9092"), "{said}");
}

#[tokio::test]
async fn who_asked_for_a_coordinator_and_waits_does_not_get_there() {
    let running = with_listener("PLAINTEXT", ELSEWHERE).await;
    let mut wire = running.connect().await;
    let request = FindCoordinatorRequest::default().with_key(text("g"));
    assert_eq!(wire.call(&request, 3).await.host.as_str(), "broker.example.org");
    wait_for_evidence(&running, &mut wire, false).await;
}

#[tokio::test]
async fn files_of_the_data_folder_are_their_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let running = with_listener_in(dir, "PLAINTEXT", "").await;
    let mut wire = running.connect().await;
    create(&mut wire, "t").await;
    running.broker.shutdown().await;
    #[cfg(unix)]
    for folder in [data.clone(), data.join("t-0")] {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for entry in folder.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
            // sled makes its own files, within a folder that nobody else can enter.
            assert!(entry.is_dir() || mode(&entry) == 0o600, "{}", entry.display());
        }
    }
}

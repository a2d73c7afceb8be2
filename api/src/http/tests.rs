//! The router against a broker in memory: each test is a request as a client would send it.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, StatusCode};
use futures::StreamExt;
use http_body_util::BodyExt;
use odradek_broker::Checked;
use odradek_broker::acl::Operation;
use odradek_broker::client::{Admin, Client, GroupInfo, GroupPartition, Principal};
use odradek_broker::config::Config;
use odradek_broker::memory::HttpBudgets;
use prometheus::Registry;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt;

use super::{Shared, router};
use crate::operations::fake::Fake;
use crate::operations::{Failure, Outcome};
use crate::services::{Overview, Services, SourceVerb};

struct Testing {
    fake: Arc<Fake>,
    commands: Mutex<Vec<(String, SourceVerb)>>,
}

#[async_trait]
impl Services for Testing {
    fn client(&self, _: &Principal) -> Arc<dyn Client> {
        self.fake.clone()
    }
    fn admin(&self, _: &Principal) -> Arc<dyn Admin> {
        self.fake.clone()
    }
    async fn check_password(&self, user: &str, password: &str, _: SocketAddr) -> Checked {
        match self.fake.password(user) {
            Some(known) if known == password => Checked::Right(Principal::user(user)),
            _ => Checked::Wrong,
        }
    }
    fn node(&self) -> (i32, String) {
        (1, "127.0.0.1:9092".to_owned())
    }
    fn metrics(&self) -> Vec<Registry> {
        Vec::new()
    }
    fn unready(&self) -> Option<String> {
        None
    }
    fn overview(&self) -> Overview {
        Overview::default()
    }
    fn connections(&self) -> Vec<Value> {
        Vec::new()
    }
    fn http_budgets(&self) -> HttpBudgets {
        HttpBudgets::of(&Config::defaults())
    }
    fn diagnoses(&self) -> Vec<(&'static str, u64)> {
        vec![("wrong-password", 2), ("garbage", 0)]
    }
    fn sources(&self) -> Vec<Value> {
        vec![json!({"name": "stocks"})]
    }
    async fn command(&self, source: &str, verb: SourceVerb) -> Outcome<()> {
        if source != "stocks" {
            return Err(Failure::NotFound(format!("there is no source {source:?}")));
        }
        self.commands.lock().expect("lock").push((source.to_owned(), verb));
        Ok(())
    }
    fn processors(&self) -> Vec<Value> {
        Vec::new()
    }
    fn model_topics(&self) -> Vec<String> {
        vec!["models".to_owned(), "absent".to_owned()]
    }
    fn get_kafka_data_topic(&self) -> Option<String> {
        Some("t".to_owned())
    }
}

struct Server {
    router: Router,
    fake: Arc<Fake>,
    services: Arc<Testing>,
    stop: watch::Sender<bool>,
}

impl Server {
    /// Topic `t` with three partitions and the timestamps given, spread over them in turn.
    fn new(timestamps_ms: &[i64]) -> Self {
        let fake = Arc::new(Fake::with_topic("t", 3));
        for (index, at_ms) in timestamps_ms.iter().enumerate() {
            let partition = i32::try_from(index % 3).expect("small");
            let value = format!(r#"{{"n":{index},"even":{}}}"#, index % 2 == 0);
            fake.append("t", partition, *at_ms, Some(&format!("k{}", index % 2)), &value);
        }
        let services = Arc::new(Testing { fake: fake.clone(), commands: Mutex::default() });
        let (stop, stopping) = watch::channel(false);
        let router = router(Shared::new(services.clone(), stopping));
        Self { router, fake, services, stop }
    }

    async fn send(&self, request: Request<Body>) -> axum::response::Response {
        self.router.clone().oneshot(request).await.expect("a router does not fail")
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, String) {
        let response = self.send(local("GET", path, headers, "")).await;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.into_body().collect().await.expect("whole").to_bytes();
        (status, headers, String::from_utf8(body.to_vec()).expect("text"))
    }

    async fn json(&self, path: &str) -> Value {
        let (status, _, body) = self.get(path, &[]).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }
}

fn request(
    peer: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Request<Body> {
    let peer: SocketAddr = peer.parse().expect("an address");
    let mut request = Request::builder().method(method).uri(path).extension(ConnectInfo(peer));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.to_owned())).expect("a valid request")
}

fn local(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Request<Body> {
    let headers: Vec<_> = [("host", "localhost:8080")].iter().chain(headers).copied().collect();
    request("127.0.0.1:40000", method, path, &headers, body)
}

fn numbers(page: &Value) -> Vec<i64> {
    let records = page["records"].as_array().expect("records");
    records.iter().map(|record| record["value"]["n"].as_i64().expect("n")).collect()
}

#[tokio::test]
async fn a_json_page_is_in_time_order_and_its_cursor_goes_on() {
    let server = Server::new(&[50, 10, 40, 20, 30, 60]);
    let page = server.json("/api/v1/topics/t/records?limit=4").await;
    assert_eq!(numbers(&page), [1, 3, 4, 2]);
    assert_eq!(page["timezone"], "UTC");
    let first = &page["records"][0];
    assert_eq!(first["timestamp"], "1970-01-01T00:00:00.010Z");
    assert_eq!((&first["partition"], &first["offset"]), (&json!(1), &json!(0)));
    assert_eq!((&first["key"], &first["headers"]), (&json!("k1"), &json!([])));
    let next = page["next"].as_str().expect("more follows");
    let page = server.json(&format!("/api/v1/topics/t/records?limit=4&cursor={next}")).await;
    assert_eq!(numbers(&page), [0, 5]);
    assert_eq!(page["next"], Value::Null);
}

#[tokio::test]
async fn a_range_is_narrowed_by_time_partition_key_condition_and_fields() {
    let server = Server::new(&[50, 10, 40, 20, 30, 60]);
    let table = [
        ("from=1970-01-01T00:00:00.020Z&to=1970-01-01T00:00:00.050Z", vec![3, 4, 2]),
        ("partition=0", vec![3, 0]),
        ("key=k0", vec![4, 2, 0]),
        ("where=n%3E%3D2%20and%20even%3D%3Dtrue", vec![4, 2]),
        ("order=desc&limit=2", vec![5, 0]),
        ("order=offset&partition=0", vec![0, 3]),
        ("from=-1h", vec![]),
    ];
    for (query, expected) in table {
        let page = server.json(&format!("/api/v1/topics/t/records?{query}")).await;
        assert_eq!(numbers(&page), expected, "{query}");
    }
    let page = server.json("/api/v1/topics/t/records?fields=even&limit=1").await;
    assert_eq!(page["records"][0]["value"], json!({"even": false}));
}

#[tokio::test]
async fn ndjson_and_csv_hold_the_whole_range() {
    let timestamps: Vec<i64> = (0..500).map(|n| n * 7 % 499).collect();
    let server = Server::new(&timestamps);
    let accept = [("accept", "application/x-ndjson")];
    let (_, headers, body) = server.get("/api/v1/topics/t/records", &accept).await;
    assert_eq!(headers["content-type"], "application/x-ndjson");
    assert_eq!(headers["odradek-timezone"], "UTC");
    let mut seen: Vec<i64> = body
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["value"]["n"].as_i64())
        .map(|n| n.expect("n"))
        .collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..500));

    let path = "/api/v1/topics/t/records?fields=n,absent&order=asc&limit=3";
    let (_, _, body) = server.get(path, &[("accept", "text/csv")]).await;
    // 0 and 499 times 7 are both 0 modulo the prime 499; 214 is the inverse of 7.
    let expected = "partition,offset,timestamp,key,n,absent\n\
                    0,0,1970-01-01T00:00:00.000Z,k0,0,\n\
                    1,166,1970-01-01T00:00:00.000Z,k1,499,\n\
                    1,71,1970-01-01T00:00:00.001Z,k0,214,\n";
    assert_eq!(body, expected);
}

#[tokio::test]
async fn answers_are_compressed_with_what_the_client_takes() {
    let server = Server::new(&(0..300).collect::<Vec<i64>>());
    let accept = ("accept", "application/x-ndjson");
    let (_, _, plain) = server.get("/api/v1/topics/t/records", &[accept]).await;
    for coding in ["gzip", "zstd"] {
        let headers = [accept, ("accept-encoding", coding)];
        let response = server.send(local("GET", "/api/v1/topics/t/records", &headers, "")).await;
        assert_eq!(response.headers()["content-encoding"], coding);
        let body = response.into_body().collect().await.expect("whole").to_bytes();
        assert!(body.len() < plain.len() / 4, "{coding}: {} bytes", body.len());
        let mut text = String::new();
        match coding {
            "gzip" => flate2::read::MultiGzDecoder::new(&body[..]).read_to_string(&mut text),
            _ => zstd::Decoder::new(&body[..]).expect("a frame").read_to_string(&mut text),
        }
        .expect("decodes");
        assert_eq!(text, plain, "{coding}");
    }
}

#[tokio::test]
async fn what_is_wrong_comes_back_as_a_problem_with_a_hint() {
    let server = Server::new(&[1, 2, 3]);
    let table = [
        ("/api/v1/topics/none/records", 404),
        ("/api/v1/topics/t/records?partition=9", 404),
        ("/api/v1/topics/t/records?from=yesterday", 400),
        ("/api/v1/topics/t/records?from=10&to=5", 400),
        ("/api/v1/topics/t/records?limit=0", 400),
        ("/api/v1/topics/t/records?limit=10001", 400),
        ("/api/v1/topics/t/records?order=offset-desc", 400),
        ("/api/v1/topics/t/records?where=nothing", 400),
        ("/api/v1/topics/t/records?cursor=abc", 400),
        ("/api/v1/topics/t/records?form=now", 400),
        ("/api/v1/topics/t/records?format=xml", 400),
        ("/api/v1/topics/t/stream?from=nowhere", 400),
        ("/api/v1/GetKafkaData/now/yesterday", 400),
        ("/api/v2/topics", 404),
    ];
    for (path, status) in table {
        let (actual, headers, body) = server.get(path, &[]).await;
        assert_eq!(actual.as_u16(), status, "{path}: {body}");
        assert_eq!(headers["content-type"], "application/problem+json", "{path}");
        let problem: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(problem["status"], status, "{path}");
        assert!(problem["detail"].is_string() && problem["title"].is_string(), "{body}");
        // A partition that is not there says how many there are; the rest has a hint.
        assert!(problem["hint"].is_string() || path.ends_with("partition=9"), "{body}");
    }
    let accept = [("accept", "application/vnd.apache.parquet")];
    let (status, ..) = server.get("/api/v1/topics/t/records", &accept).await;
    assert_eq!(status, StatusCode::NOT_ACCEPTABLE);
}

#[tokio::test]
async fn a_cursor_that_retention_has_passed_answers_410() {
    let server = Server::new(&(0..100).collect::<Vec<i64>>());
    let page = server.json("/api/v1/topics/t/records?limit=10").await;
    let next = page["next"].as_str().expect("more follows");
    server.fake.trim("t", 2, 20);
    let path = format!("/api/v1/topics/t/records?cursor={next}");
    let (status, _, body) = server.get(&path, &[]).await;
    assert_eq!(status, StatusCode::GONE, "{body}");
}

/// Reads events until `count` records have come; gives their ids and data.
async fn events(
    server: &Server,
    path: &str,
    last: Option<&str>,
    count: usize,
) -> Vec<(String, Value)> {
    let headers: Vec<(&str, &str)> = last.map(|id| ("last-event-id", id)).into_iter().collect();
    let response = server.send(local("GET", path, &headers, "")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.into_body().into_data_stream();
    let (mut text, mut found) = (String::new(), Vec::new());
    while found.len() < count {
        let piece = tokio::time::timeout(Duration::from_secs(30), stream.next()).await;
        let piece = piece.expect("in time").expect("goes on").expect("no error");
        text.push_str(std::str::from_utf8(&piece).expect("text"));
        while let Some((event, rest)) = text.split_once("\n\n") {
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
            if let Some(data) = field("data: ") {
                let id = field("id: ").expect("each record has an id").to_owned();
                found.push((id, serde_json::from_str(data).expect("JSON")));
            }
            text = rest.to_owned();
        }
    }
    found.truncate(count);
    found
}

#[tokio::test]
async fn a_stream_that_is_cut_goes_on_by_last_event_id_without_loss_or_repeat() {
    let server = Server::new(&(0..50).map(|n| n * 7 % 13).collect::<Vec<i64>>());
    let path = "/api/v1/topics/t/stream?from=beginning";
    for cut in [1, 2, 17, 49] {
        let first = events(&server, path, None, cut).await;
        let last = &first.last().expect("some").0;
        let rest = events(&server, path, Some(last), 50 - cut).await;
        let mut seen: Vec<i64> =
            first.iter().chain(&rest).map(|(_, r)| r["value"]["n"].as_i64().expect("n")).collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..50), "cut after {cut}");
    }
}

#[tokio::test]
async fn a_stream_shows_what_arrives_and_ends_when_the_server_stops() {
    let server = Server::new(&[1]);
    let accept = [("accept", "application/x-ndjson")];
    let response = server.send(local("GET", "/api/v1/topics/t/stream", &accept, "")).await;
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let mut stream = response.into_body().into_data_stream();
    server.fake.append("t", 1, 2, None, r#"{"n":99}"#);
    let line = stream.next().await.expect("goes on").expect("no error");
    let record: Value = serde_json::from_slice(&line).expect("JSON");
    assert_eq!((&record["value"]["n"], &record["offset"]), (&json!(99), &json!(0)));
    assert!(record["cursor"].is_string());
    server.stop.send_replace(true);
    let end = tokio::time::timeout(Duration::from_secs(30), stream.next()).await;
    assert!(end.expect("in time").is_none());
}

#[tokio::test]
async fn get_kafka_data_answers_with_the_values_in_time_order() {
    let server = Server::new(&[3000, 1000, 2000]);
    let paths = [
        "/api/v1/GetKafkaData/1970-01-01%2000:00:01/1970-01-01%2000:00:03",
        "/api/v1/GetKafkaData/1970-01-01T00:00:01Z/3",
    ];
    for path in paths {
        let values = server.json(path).await;
        assert_eq!(values, json!([{"n": 1, "even": false}, {"n": 2, "even": true}]), "{path}");
    }
    let values = server.json("/api/v1/GetKafkaData/stream").await;
    assert_eq!(values.as_array().expect("an array").len(), 3);
    assert_eq!(values[2]["n"], 0);
    let values = server.json("/api/v1/GetKafkaData/5/6").await;
    assert_eq!(values, json!([]));
}

#[tokio::test]
async fn records_that_are_posted_come_back_with_their_place_and_are_read_again() {
    let server = Server::new(&[]);
    let body = r#"[{"id":"GM","price":33.91999816894531},{"price":1}]"#;
    let kind = [("content-type", "application/json")];
    let path = "/api/v1/topics/t/records?key=id&partition=1";
    let response = server.send(local("POST", path, &kind, body)).await;
    assert_eq!(response.status(), StatusCode::OK);
    let answer = response.into_body().collect().await.expect("whole").to_bytes();
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(1), &json!(1)));
    assert_eq!(answer["results"][0], json!({"partition": 1, "offset": 0}));
    assert!(answer["results"][1]["error"].is_string());
    let (_, _, page) = server.get("/api/v1/topics/t/records", &[]).await;
    assert!(page.contains(r#""key":"GM","value":{"id":"GM","price":33.91999816894531}"#), "{page}");
    let response = server.send(local("POST", "/api/v1/topics/none/records", &kind, "{}")).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_read() {
    let server = Server::new(&[]);
    let path = "/api/v1/topics/t/records";
    let length = (super::limits::BODY_BYTES_MAX + 1).to_string();
    let headers = [("content-type", "text/plain"), ("content-length", length.as_str())];
    let response = server.send(local("POST", path, &headers, "")).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    // Without an announced length it is cut where the bound is.
    let body = "x".repeat(super::limits::BODY_BYTES_MAX + 1);
    let response = server.send(local("POST", path, &headers[..1], &body)).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn topics_are_created_listed_and_deleted() {
    let server = Server::new(&[]);
    let kind = [("content-type", "application/json")];
    let body = r#"{"name":"new","partitions":2,"configs":{"retention.ms":-1}}"#;
    let response = server.send(local("POST", "/api/v1/topics", &kind, body)).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let topics = server.json("/api/v1/topics").await;
    let names: Vec<_> =
        topics["topics"].as_array().expect("topics").iter().map(|t| &t["name"]).collect();
    assert_eq!(names, [&json!("new"), &json!("t")]);
    let response = server.send(local("DELETE", "/api/v1/topics/new", &[], "")).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let (status, ..) = server.get("/api/v1/topics/new", &[]).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn rules_are_added_listed_and_deleted_and_never_all_of_them_by_accident() {
    let server = Server::new(&[1]);
    let kind = [("content-type", "application/json")];
    let one = r#"{"resource_type":"topic","resource_name":"t","principal":"User:bob","operation":"Read"}"#;
    let several =
        format!(r#"{{"acls":[{},{}]}}"#, one.replace("bob", "eve"), one.replace("Read", "ALL"));
    for body in [one, &several] {
        let response = server.send(local("POST", "/api/v1/acls", &kind, body)).await;
        assert_eq!(response.status(), StatusCode::CREATED, "{body}");
    }
    let wrong = one.replace("Read", "REED");
    let response = server.send(local("POST", "/api/v1/acls", &kind, &wrong)).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let all = server.json("/api/v1/acls").await;
    assert_eq!(all["acls"].as_array().expect("rules").len(), 3);
    let eves = server.json("/api/v1/acls?principal=User%3Aeve").await;
    assert_eq!(
        eves["acls"],
        json!([{"resource_type": "TOPIC", "resource_name": "t", "pattern_type": "LITERAL",
                "principal": "User:eve", "host": "*", "operation": "READ", "permission": "ALLOW"}])
    );
    for (query, status, left) in [("", 400, 3), ("?nonsense=1", 400, 3), ("?operation=all", 200, 2)]
    {
        let path = format!("/api/v1/acls{query}");
        let response = server.send(local("DELETE", &path, &[], "")).await;
        assert_eq!(response.status().as_u16(), status, "{query}");
        let all = server.json("/api/v1/acls").await;
        assert_eq!(all["acls"].as_array().expect("rules").len(), left, "{query}");
    }
}

#[tokio::test]
async fn diagnostics_tell_what_was_counted_and_what_each_diagnosis_means() {
    let server = Server::new(&[1]);
    let index = server.json("/api/v1/diagnostics").await;
    assert_eq!(index["counts"], json!({"wrong-password": 2}));
    assert_eq!(index["problems"], json!([]));
    for link in index["links"].as_object().expect("links").values() {
        server.json(link.as_str().expect("a path")).await;
    }
    let catalogue = server.json("/api/v1/diagnostics/catalogue").await;
    for known in catalogue["catalogue"].as_array().expect("diagnoses") {
        let path = format!("/api/v1/diagnostics/catalogue/{}", known["id"].as_str().expect("id"));
        assert_eq!(server.json(&path).await, *known);
    }
    let (status, _, body) = server.get("/api/v1/diagnostics/catalogue/wrong-pasword", &[]).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(body.contains("did you mean wrong-password?"), "{body}");
    server.fake.deny_on_cluster(&[Operation::Describe]);
    for path in ["/api/v1/diagnostics", "/api/v1/diagnostics/connections"] {
        let (status, _, body) = server.get(path, &[]).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}");
        assert!(body.contains(r#""diagnosis":"not-authorised""#), "{body}");
    }
    server.json("/api/v1/diagnostics/catalogue").await;
}

/// Address, headers, and the status that is due.
type Arrival = (&'static str, &'static [(&'static str, &'static str)], u16);

#[tokio::test]
async fn only_this_machine_may_come_without_a_password() {
    let server = Server::new(&[1]);
    const GOOD: &[(&str, &str)] = &[("host", "localhost:8080")];
    let table: [Arrival; 7] = [
        ("127.0.0.1:1", GOOD, 200),
        ("[::1]:1", &[("host", "[::1]:8080")], 200),
        ("10.0.0.7:1", GOOD, 401),
        ("127.0.0.1:1", &[("host", "evil.example.org")], 401),
        ("127.0.0.1:1", &[], 401),
        ("127.0.0.1:1", &[("host", "localhost"), ("x-forwarded-for", "1.2.3.4")], 401),
        ("127.0.0.1:1", &[("host", "localhost"), ("authorization", "Basic YTpi")], 401),
    ];
    for (peer, headers, status) in table {
        let response = server.send(request(peer, "GET", "/api/v1/topics", headers, "")).await;
        assert_eq!(response.status().as_u16(), status, "{peer} {headers:?}");
        assert_eq!(response.headers().contains_key("www-authenticate"), status == 401);
    }
    // The health checks tell nothing, and a container's health probe has no password.
    let response = server.send(request("10.0.0.7:1", "GET", "/healthz", &[], "")).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_user_with_the_right_password_may_come_from_anywhere() {
    let server = Server::new(&[1]);
    let put = r#"{"password":"open sesame"}"#;
    let kind = [("content-type", "application/json")];
    let response = server.send(local("PUT", "/api/v1/users/Aladdin", &kind, put)).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let headers = [("authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")];
    for _ in 0..2 {
        let asked = request("10.0.0.7:1", "GET", "/api/v1/topics", &headers, "");
        assert_eq!(server.send(asked).await.status(), StatusCode::OK);
    }
    let response = server.send(local("DELETE", "/api/v1/users/Aladdin", &[], "")).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let asked = request("10.0.0.7:1", "GET", "/api/v1/topics", &headers, "");
    assert_eq!(server.send(asked).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_page_of_another_site_cannot_change_anything() {
    let server = Server::new(&[]);
    let path = "/api/v1/sources/stocks/pause";
    let table: [(&[(&str, &str)], u16); 5] = [
        (&[], 202),
        (&[("origin", "http://localhost:8080"), ("sec-fetch-site", "same-origin")], 202),
        (&[("origin", "http://evil.example.org")], 403),
        (&[("origin", "null")], 403),
        (&[("sec-fetch-site", "cross-site")], 403),
    ];
    for (headers, status) in table {
        let response = server.send(local("POST", path, headers, "")).await;
        assert_eq!(response.status().as_u16(), status, "{headers:?}");
    }
    assert_eq!(server.services.commands.lock().expect("lock").len(), 2);
    let response = server.send(local("POST", "/api/v1/sources/none/pause", &[], "")).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    let response = server.send(local("POST", "/api/v1/sources/stocks/dance", &[], "")).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_access_rules_deny_on_the_cluster_is_neither_shown_nor_done() {
    let server = Server::new(&[]);
    server.fake.deny_on_cluster(&[Operation::Alter]);
    let pause = "/api/v1/sources/stocks/pause";
    let response = server.send(local("POST", pause, &[], "")).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert!(server.services.commands.lock().expect("lock").is_empty());
    let shown = ["overview", "sources", "processors", "diagnostics/connections"];
    for name in shown {
        server.json(&format!("/api/v1/{name}")).await;
    }
    server.fake.deny_on_cluster(&[Operation::Describe]);
    for name in shown {
        let (status, ..) = server.get(&format!("/api/v1/{name}"), &[]).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{name}");
    }
    for path in ["/metrics", "/healthz", "/readyz"] {
        let (status, ..) = server.get(path, &[]).await;
        assert_eq!(status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn the_console_is_served_with_its_policy_etag_and_compressed_form() {
    let server = Server::new(&[]);
    let (status, headers, plain) = server.get("/", &[]).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["content-type"], "text/html; charset=utf-8");
    let policy = headers["content-security-policy"].to_str().expect("text");
    assert!(policy.starts_with("default-src 'self'"));
    let etag = headers["etag"].to_str().expect("text");
    let (status, _, body) = server.get("/", &[("if-none-match", etag)]).await;
    assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""));
    let gzip = [("accept-encoding", "br, gzip")];
    let response = server.send(local("GET", "/index.html", &gzip, "")).await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert_ne!(response.headers()["etag"], etag, "a strong tag is of the bytes that are sent");
    let body = response.into_body().collect().await.expect("whole").to_bytes();
    let mut text = String::new();
    flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text).expect("decodes");
    assert_eq!(text, plain);
}

#[tokio::test]
async fn models_are_the_last_report_of_each() {
    let server = Server::new(&[]);
    server.fake.recreate("models", 1);
    for (key, value) in [("a", r#"{"skill":1}"#), ("b", r#"{"skill":2}"#), ("a", r#"{"skill":3}"#)]
    {
        server.fake.append("models", 0, 0, Some(key), value);
    }
    let answer = server.json("/api/v1/models").await;
    assert_eq!(answer, json!({"models": [{"skill": 3}, {"skill": 2}]}));
}

#[tokio::test]
async fn metrics_carry_kafka_exporters_names_and_labels() {
    let server = Server::new(&[1, 2, 3, 4]);
    let place =
        GroupPartition { topic: "t".to_owned(), partition: 0, committed: 1, end: 2, lag: 1 };
    server.fake.set_groups(vec![GroupInfo {
        group: "g".to_owned(),
        state: "Stable".to_owned(),
        members: 2,
        lag: 1,
        partitions: vec![place.clone(), GroupPartition { partition: 1, lag: 0, ..place }],
    }]);
    let (status, _, text) = server.get("/metrics", &[]).await;
    assert_eq!(status, StatusCode::OK);
    let expected = [
        "# HELP kafka_brokers Number of Brokers in the Kafka Cluster.",
        "kafka_brokers 1",
        r#"kafka_broker_info{address="127.0.0.1:9092",id="1"} 1"#,
        r#"kafka_topic_partitions{topic="t"} 3"#,
        r#"kafka_topic_partition_current_offset{partition="0",topic="t"} 2"#,
        r#"kafka_topic_partition_oldest_offset{partition="0",topic="t"} 0"#,
        r#"kafka_topic_partition_in_sync_replica{partition="0",topic="t"} 1"#,
        r#"kafka_topic_partition_leader{partition="0",topic="t"} 1"#,
        r#"kafka_topic_partition_leader_is_preferred{partition="0",topic="t"} 1"#,
        r#"kafka_topic_partition_replicas{partition="0",topic="t"} 1"#,
        r#"kafka_topic_partition_under_replicated_partition{partition="0",topic="t"} 0"#,
        r#"kafka_consumergroup_current_offset{consumergroup="g",partition="0",topic="t"} 1"#,
        r#"kafka_consumergroup_current_offset_sum{consumergroup="g",topic="t"} 2"#,
        r#"kafka_consumergroup_lag{consumergroup="g",partition="0",topic="t"} 1"#,
        r#"kafka_consumergroup_lag_sum{consumergroup="g",topic="t"} 1"#,
        r#"kafka_consumergroup_members{consumergroup="g"} 2"#,
    ];
    for line in expected {
        assert!(text.lines().any(|actual| actual == line), "{line} is not in\n{text}");
    }
}

//! The binary as a person uses it: a server in a folder of its own, the other commands beside it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);

struct Server {
    child: Child,
    folder: TempDir,
    http: u16,
    kafka: u16,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (kafka, http) = (free_port(), free_port());
        let properties = format!(
            "listeners=PLAINTEXT://127.0.0.1:{kafka}\nodradek.http.listen=127.0.0.1:{http}\n\
             log.dirs={}\n",
            folder.path().join("data").display()
        );
        std::fs::write(folder.path().join("server.properties"), properties).expect("writes");
        let child = serve(folder.path());
        let server = Self { child, folder, http, kafka };
        server.wait_until_ready();
        server
    }

    fn wait_until_ready(&self) {
        let began = Instant::now();
        while !self.is_ready() {
            assert!(began.elapsed() < DEADLINE, "the server does not become ready");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_ready(&self) -> bool {
        let Ok(mut socket) = TcpStream::connect(("127.0.0.1", self.http)) else { return false };
        let asked = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let mut answer = String::new();
        socket.write_all(asked).is_ok()
            && socket.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 200")
    }

    /// A command that is a client of this server.
    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let server = format!("http://127.0.0.1:{}", self.http);
        let mut command = odradek(self.folder.path());
        run(command.args(arguments).env("ODRADEK_SERVER", server), input)
    }

    #[cfg(unix)]
    fn stop(mut self) -> (std::process::ExitStatus, TempDir) {
        let id = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status().expect("kill runs");
        assert!(told.success());
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().expect("one"));
                return (status, folder);
            }
            assert!(began.elapsed() < DEADLINE, "the server does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

fn odradek(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_odradek"));
    command.current_dir(folder).env_remove("ODRADEK_PASSWORD");
    command
}

fn serve(folder: &Path) -> Child {
    let log = std::fs::File::create(folder.join("log.txt")).expect("a file");
    let mut command = odradek(folder);
    command.args(["serve"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().expect("the binary starts")
}

fn run(command: &mut Command, input: &str) -> Output {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("the binary starts");
    // A command that does not read its input may have ended before all of it was written.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

#[track_caller]
fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    let err = String::from_utf8_lossy(err);
    assert!(output.status.success(), "{err}");
    String::from_utf8(out.clone()).expect("text")
}

fn complaint(output: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

#[test]
fn lines_that_are_produced_are_consumed_again_byte_for_byte() {
    let server = Server::start();
    let lines: String = (0..5000).map(|n| format!("k{}:line {n} ü:\"\\\n", n % 7)).collect();
    text(&server.run(&["topic", "create", "notes", "--partitions", "1"], ""));
    text(&server.run(&["produce", "notes", "--key-separator", ":"], &lines));
    let all = ["consume", "notes", "--from", "beginning", "--until-now", "--format", "key-value"];
    assert_eq!(text(&server.run(&all, "")), lines.replace(":line", "\tline"));
    let some = ["consume", "notes", "--from", "beginning", "--max", "3", "--format", "value"];
    let expected = "line 0 ü:\"\\\nline 1 ü:\"\\\nline 2 ü:\"\\\n";
    assert_eq!(text(&server.run(&some, "")), expected);
    let one = ["consume", "notes", "--from", "beginning", "--until-now", "--key", "k3"];
    assert_eq!(text(&server.run(&one, "")).lines().count(), 714);
}

#[test]
fn json_lines_take_key_and_time_from_their_fields_and_bad_ones_are_told() {
    let server = Server::start();
    let input = "{\"id\":\"GM\",\"t\":\"2026-11-22T10:00:00Z\",\"p\":1.50}\nnope\n{\"x\":1}\n";
    let arguments = ["produce", "ticks", "--json", "--key-field", "id", "--timestamp-field", "t"];
    let told = complaint(&server.run(&arguments, input), 1);
    assert!(told.contains("line 2: not JSON") && told.contains("line 3: there is no field"));
    assert!(told.contains("1 records written") && told.contains("2 lines were not written"));
    let consumed = text(&server.run(&["consume", "ticks", "--from", "0", "--until-now"], ""));
    let expected = "{\"partition\":0,\"offset\":0,\"timestamp\":\"2026-11-22T10:00:00.000Z\",\
                    \"timestamp_ms\":1795341600000,\"key\":\"GM\",\"value\":{\"id\":\"GM\",\
                    \"t\":\"2026-11-22T10:00:00Z\",\"p\":1.50},\"headers\":[]}\n";
    assert_eq!(consumed, expected);
}

#[test]
fn topics_are_created_listed_described_and_deleted() {
    let server = Server::start();
    text(&server.run(&["topic", "create", "t", "--partitions", "3"], ""));
    assert!(text(&server.run(&["topic", "list"], "")).lines().any(|line| line.starts_with("t ")));
    assert_eq!(text(&server.run(&["topic", "describe", "t"], "")).lines().count(), 5);
    let again = complaint(&server.run(&["topic", "create", "t"], ""), 1);
    assert!(again.contains("exists"), "{again}");
    text(&server.run(&["topic", "delete", "t"], ""));
    let gone = complaint(&server.run(&["topic", "describe", "t"], ""), 1);
    assert!(gone.contains("UNKNOWN_TOPIC_OR_PARTITION") && gone.contains("hint:"), "{gone}");
}

#[cfg(unix)]
#[test]
fn users_are_kept_whether_the_server_is_running_or_not() {
    let server = Server::start();
    let add = |folder: &Path, name: &str| {
        let mut command = odradek(folder);
        run(command.args(["user", "add", name]).env("ODRADEK_PASSWORD", "open sesame"), "")
    };
    text(&add(server.folder.path(), "alice"));
    let again = complaint(&add(server.folder.path(), "alice"), 1);
    assert!(again.contains("already"), "{again}");
    let (status, folder) = server.stop();
    assert!(status.success());
    text(&add(folder.path(), "bob"));
    let list = |folder: &Path| text(&run(odradek(folder).args(["user", "list"]), ""));
    let names = |list: &str| -> Vec<String> {
        list.lines().filter_map(|line| Some(line.split_once('\t')?.0.to_owned())).collect()
    };
    assert_eq!(names(&list(folder.path())), ["alice", "bob"]);
    text(&run(odradek(folder.path()).args(["user", "delete", "alice"]), ""));
    assert_eq!(names(&list(folder.path())), ["bob"]);
}

#[test]
fn a_password_is_never_taken_from_the_command_line_nor_guessed() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = run(odradek(folder.path()).args(["user", "add", "alice"]), "secret\n");
    assert!(complaint(&refused, 2).contains("ODRADEK_PASSWORD"));
    let refused = run(odradek(folder.path()).args(["user", "add", "alice", "secret"]), "");
    complaint(&refused, 2);
}

#[test]
fn check_names_file_line_key_and_fix() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("writes");
    };
    write("server.properties", "num.partitions=3\nlog.retention.huors=5\n");
    write("pipeline.toml", "[[source]]\nname = \"f\"\ntype = \"csv\"\ntopik = \"f\"\n");
    let checked = run(odradek(folder.path()).arg("check"), "");
    assert_eq!(checked.status.code(), Some(2));
    let told = String::from_utf8(checked.stdout).expect("text");
    let line = |start: &str| told.lines().find(|line| line.contains(start)).map(str::to_owned);
    let properties = line("server.properties:2:").expect("a problem with its line");
    assert!(properties.contains("log.retention.hours"), "{properties}");
    let pipeline = line("pipeline.toml:4:").expect("a problem with its line");
    assert!(pipeline.contains("\"topic\""), "{pipeline}");
    complaint(&run(odradek(folder.path()).arg("serve"), ""), 2);
    write("server.properties", "num.partitions=3\n");
    write("pipeline.toml", "");
    assert!(text(&run(odradek(folder.path()).arg("check"), "")).ends_with("ok\n"));
}

#[test]
fn a_port_that_is_taken_is_named_with_what_to_do() {
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let demo = |kafka: u16, http: u16| {
        let (kafka, http) = (kafka.to_string(), http.to_string());
        let ports = ["--kafka-port", &kafka, "--http-port", &http];
        run(odradek(folder.path()).args(["serve", "--demo"]).args(ports), "")
    };
    let told = complaint(&demo(server.kafka, free_port()), 1);
    assert!(told.contains(&server.kafka.to_string()) && told.contains("--kafka-port"), "{told}");
    let told = complaint(&demo(free_port(), server.http), 1);
    assert!(told.contains(&server.http.to_string()) && told.contains("--http-port"), "{told}");
}

#[test]
fn without_a_server_a_client_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = format!("http://127.0.0.1:{}", free_port());
    let refused = run(odradek(folder.path()).args(["topic", "list", "--server", &server]), "");
    let told = complaint(&refused, 1);
    assert!(told.contains("no server answers") && told.contains("odradek serve"), "{told}");
}

//! Clients over librdkafka: kcat and Confluent's for .NET.

use odradek_broker::auth::Mechanism;
use odradek_broker::config::SecurityProtocol;

use super::{CLIENT_FILE, PASSWORD, Profile, preparations};

/// The settings go into a file and not onto the command line, which every user of the machine sees.
pub fn kcat(profile: &Profile) -> String {
    let (file, authority_file) = ("odradek-kcat.conf", "odradek-ca.pem");
    let mut text =
        "# bash, with kcat (Debian, Ubuntu: apt install kcat; macOS: brew install kcat)\n"
            .to_owned();
    text += &preparations(profile, "#");
    if let Some(authority) = &profile.authority {
        text += &format!("cat > {authority_file} <<'EOF'\n{authority}EOF\n");
    }
    text += &format!("(umask 077; cat > {file} <<EOF\n");
    text += &format!("bootstrap.servers={}\n", profile.bootstrap);
    text += &format!("security.protocol={}\n", profile.protocol.name());
    if let Some((mechanism, user)) = &profile.login {
        text += &format!("sasl.mechanism={}\nsasl.username={user}\n", mechanism.name());
        text += &format!("sasl.password=${PASSWORD}\n");
    }
    if profile.authority.is_some() {
        text += &format!("ssl.ca.location={authority_file}\n");
    }
    if profile.client_certificate {
        text += &format!("ssl.certificate.location={CLIENT_FILE}\n");
        text += &format!("ssl.key.location={CLIENT_FILE}\n");
    }
    text += "EOF\n)\n";
    let topic = &profile.topic;
    text += &format!("echo 'hello from kcat' | kcat -F {file} -P -t {topic}\n");
    text + &format!("kcat -F {file} -C -t {topic} -o beginning -e\n")
}

pub fn dotnet(profile: &Profile) -> String {
    let mut text =
        "// .NET 8 or later: dotnet new console && dotnet add package Confluent.Kafka,\n\
                    // then this as Program.cs.\n"
            .to_owned();
    text += &preparations(profile, "//");
    text += "using System;\nusing Confluent.Kafka;\n\nvar server = new ClientConfig\n{\n";
    let mut set = |name: &str, value: &str| text += &format!("    {name} = {value},\n");
    set("BootstrapServers", &format!("\"{}\"", profile.bootstrap));
    let protocol = match profile.protocol {
        SecurityProtocol::Plaintext => "Plaintext",
        SecurityProtocol::Ssl => "Ssl",
        SecurityProtocol::SaslPlaintext => "SaslPlaintext",
        SecurityProtocol::SaslSsl => "SaslSsl",
    };
    set("SecurityProtocol", &format!("SecurityProtocol.{protocol}"));
    if let Some((mechanism, user)) = &profile.login {
        let mechanism = match mechanism {
            Mechanism::Plain => "Plain",
            Mechanism::ScramSha256 => "ScramSha256",
            Mechanism::ScramSha512 => "ScramSha512",
        };
        set("SaslMechanism", &format!("SaslMechanism.{mechanism}"));
        set("SaslUsername", &format!("\"{user}\""));
        set("SaslPassword", &format!("Environment.GetEnvironmentVariable(\"{PASSWORD}\")"));
    }
    if let Some(authority) = &profile.authority {
        let indented = authority.trim_end().replace('\n', "\n        ");
        set("SslCaPem", &format!("\"\"\"\n        {indented}\n        \"\"\""));
    }
    if profile.client_certificate {
        set("SslCertificateLocation", &format!("\"{CLIENT_FILE}\""));
        set("SslKeyLocation", &format!("\"{CLIENT_FILE}\""));
    }
    text + &DOTNET_BODY.replace("TOPIC", &profile.topic)
}

const DOTNET_BODY: &str = r#"};

using (var producer = new ProducerBuilder<Null, string>(new ProducerConfig(server)).Build())
{
    await producer.ProduceAsync("TOPIC", new Message<Null, string> { Value = "hello from .NET" });
}

var settings = new ConsumerConfig(server)
{
    GroupId = "example-dotnet",
    AutoOffsetReset = AutoOffsetReset.Earliest,
};
using var consumer = new ConsumerBuilder<Ignore, string>(settings).Build();
consumer.Subscribe("TOPIC");
// Ends after ten quiet seconds.
while (consumer.Consume(TimeSpan.FromSeconds(10)) is { } record)
{
    Console.WriteLine($"{record.Offset} {record.Message.Value}");
}
consumer.Close();
"#;

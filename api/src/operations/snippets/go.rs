//! franz-go.

use odradek_broker::auth::Mechanism;

use super::{CLIENT_FILE, PASSWORD, Profile, preparations};

pub fn go(profile: &Profile) -> String {
    let mut text =
        "// This as main.go, then: go mod init example && go mod tidy && go run .\n".to_owned();
    text += &preparations(profile, "//");
    text += "package main\n\nimport (\n\t\"context\"\n";
    let tls = profile.protocol.tls();
    if tls {
        text += "\t\"crypto/tls\"\n";
    }
    if profile.authority.is_some() {
        text += "\t\"crypto/x509\"\n";
    }
    text += "\t\"fmt\"\n";
    if profile.login.is_some() {
        text += "\t\"os\"\n";
    }
    text += "\n\t\"github.com/twmb/franz-go/pkg/kgo\"\n";
    if let Some((mechanism, _)) = &profile.login {
        let package = if *mechanism == Mechanism::Plain { "plain" } else { "scram" };
        text += &format!("\t\"github.com/twmb/franz-go/pkg/sasl/{package}\"\n");
    }
    text += ")\n\n";
    if let Some(authority) = &profile.authority {
        text += &format!("const authority = `{}`\n\n", authority.trim_end());
    }
    text += "func main() {\n";
    if tls {
        text += "\tsecurity := &tls.Config{}\n";
    }
    if profile.authority.is_some() {
        text += "\tsecurity.RootCAs = x509.NewCertPool()\n";
        text += "\tsecurity.RootCAs.AppendCertsFromPEM([]byte(authority))\n";
    }
    if profile.client_certificate {
        text += &format!(
            "\town, err := tls.LoadX509KeyPair(\"{CLIENT_FILE}\", \"{CLIENT_FILE}\")\n\
             \tcheck(err)\n\tsecurity.Certificates = []tls.Certificate{{own}}\n"
        );
    }
    text += "\tclient, err := kgo.NewClient(\n";
    text += &format!("\t\tkgo.SeedBrokers(\"{}\"),\n", profile.bootstrap);
    if tls {
        text += "\t\tkgo.DialTLSConfig(security),\n";
    }
    if let Some((mechanism, user)) = &profile.login {
        let (package, made) = match mechanism {
            Mechanism::Plain => ("plain", "AsMechanism"),
            Mechanism::ScramSha256 => ("scram", "AsSha256Mechanism"),
            Mechanism::ScramSha512 => ("scram", "AsSha512Mechanism"),
        };
        text += &format!(
            "\t\tkgo.SASL({package}.Auth{{User: \"{user}\", Pass: \
             os.Getenv(\"{PASSWORD}\")}}.{made}()),\n"
        );
    }
    text + &BODY.replace("TOPIC", &profile.topic)
}

const BODY: &str = r#"		kgo.AllowAutoTopicCreation(),
		kgo.ConsumerGroup("example-go"),
		kgo.ConsumeTopics("TOPIC"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	check(err)
	defer client.Close()

	background := context.Background()
	record := &kgo.Record{Topic: "TOPIC", Value: []byte("hello from Go")}
	check(client.ProduceSync(background, record).FirstErr())

	fetches := client.PollFetches(background)
	check(fetches.Err())
	fetches.EachRecord(func(record *kgo.Record) {
		fmt.Println(record.Offset, string(record.Value))
	})
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
"#;

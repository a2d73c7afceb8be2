//! kafka-python.

use super::{CLIENT_FILE, PASSWORD, Profile, preparations};

pub fn python(profile: &Profile) -> String {
    let mut text = "# pip install kafka-python\n".to_owned() + &preparations(profile, "#");
    let tls = profile.protocol.tls();
    if profile.login.is_some() {
        text += "import os\n";
    }
    if tls {
        text += "import ssl\n";
    }
    if tls || profile.login.is_some() {
        text += "\n";
    }
    text += "from kafka import KafkaConsumer, KafkaProducer\n\n";
    if let Some(authority) = &profile.authority {
        text += &format!("CA = \"\"\"\n{authority}\"\"\"\n");
    }
    if tls {
        let trusted = if profile.authority.is_some() { "cadata=CA" } else { "" };
        text += &format!("context = ssl.create_default_context({trusted})\n");
    }
    if profile.client_certificate {
        text += &format!("context.load_cert_chain(\"{CLIENT_FILE}\")\n");
    }
    text += "server = {\n";
    text += &format!("    \"bootstrap_servers\": \"{}\",\n", profile.bootstrap);
    text += &format!("    \"security_protocol\": \"{}\",\n", profile.protocol.name());
    if tls {
        text += "    \"ssl_context\": context,\n";
    }
    if let Some((mechanism, user)) = &profile.login {
        text += &format!("    \"sasl_mechanism\": \"{}\",\n", mechanism.name());
        text += &format!("    \"sasl_plain_username\": \"{user}\",\n");
        text += &format!("    \"sasl_plain_password\": os.environ[\"{PASSWORD}\"],\n");
    }
    text += "}\n\n";
    text += "producer = KafkaProducer(**server)\n";
    text +=
        &format!("producer.send(\"{}\", b\"hello from Python\").get(timeout=30)\n", profile.topic);
    text += "producer.close()\n\n";
    text += "# Ends after ten quiet seconds; without consumer_timeout_ms it waits for ever.\n";
    text += &format!(
        "consumer = KafkaConsumer(\"{}\", group_id=\"example-python\", \
         auto_offset_reset=\"earliest\",\n                         consumer_timeout_ms=10000, \
         **server)\n",
        profile.topic
    );
    text += "for record in consumer:\n    print(record.offset, record.value)\nconsumer.close()\n";
    text
}

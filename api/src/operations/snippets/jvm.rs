//! Kafka's own tools and whatever else takes its properties: Java programs, Spark, Databricks.

use odradek_broker::auth::Mechanism;

use super::{CLIENT_FILE, PASSWORD, Profile, preparations};

const JAVA_HEAD: &str = "\
# bash, in the bin folder of Apache Kafka (2.7 or later). On Windows write the lines up to EOF into
# the file by hand; the tools are in bin\\windows. A Java program takes the same lines as its
# Properties, with bootstrap.servers besides.
";

/// The properties as a file written by the shell, and two of Kafka's tools with it.
pub fn java(profile: &Profile) -> String {
    let file = "odradek-client.properties";
    let mut text = JAVA_HEAD.to_owned();
    text += &preparations(profile, "#");
    text += &format!("(umask 077; cat > {file} <<EOF\n");
    for (key, value) in properties(profile, Module::Plain, &format!("${PASSWORD}")) {
        // A backslash at the end joins lines, for the shell here and in a properties file alike.
        text += &format!("{key}={}\n", value.trim_end().replace('\n', " \\\n"));
    }
    text += "EOF\n)\n";
    let at = &profile.bootstrap;
    let topic = &profile.topic;
    text += &format!(
        "echo 'hello from Java' | ./kafka-console-producer.sh --bootstrap-server {at} --topic \
         {topic} \\\n    --producer.config {file}\n"
    );
    text += &format!(
        "./kafka-console-consumer.sh --bootstrap-server {at} --topic {topic} --from-beginning \
         \\\n    --max-messages 1 --consumer.config {file}\n"
    );
    text
}

pub fn spark(profile: &Profile) -> String {
    let mut text = "# PySpark, with --packages org.apache.spark:spark-sql-kafka-0-10_2.12:VERSION \
                    (2.13 from Spark 4 on)\n"
        .to_owned();
    text += &preparations(profile, "#");
    if profile.login.is_some() {
        text += "import os\n\n";
    }
    text += "from pyspark.sql import SparkSession\n\n";
    text += "spark = SparkSession.builder.getOrCreate()\n";
    if profile.login.is_some() {
        text += &format!("password = os.environ[\"{PASSWORD}\"]\n");
    }
    text + &stream(profile, Module::Plain)
}

pub fn databricks(profile: &Profile) -> String {
    let mut text = "# A Databricks notebook\n".to_owned();
    if let Some((_, user)) = &profile.login {
        text += &format!("# The password of {user} is a secret of the workspace:\n");
        text += "#   databricks secrets create-scope odradek\n";
        text += &format!("#   databricks secrets put-secret odradek {user}\n");
        text += &format!("password = dbutils.secrets.get(scope=\"odradek\", key=\"{user}\")\n");
    }
    text + &stream(profile, Module::Shaded)
}

/// Where the classes of Kafka's client are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Module {
    Plain,
    /// Databricks ships the client with its package moved.
    Shaded,
}

impl Module {
    fn jaas(self, mechanism: Mechanism, user: &str, password: &str) -> String {
        let package = match self {
            Self::Plain => "",
            Self::Shaded => "kafkashaded.",
        };
        let class = match mechanism {
            Mechanism::Plain => "plain.PlainLoginModule",
            Mechanism::ScramSha256 | Mechanism::ScramSha512 => "scram.ScramLoginModule",
        };
        format!(
            "{package}org.apache.kafka.common.security.{class} required username=\"{user}\" \
             password=\"{password}\";"
        )
    }
}

fn properties(profile: &Profile, module: Module, password: &str) -> Vec<(&'static str, String)> {
    let mut lines = vec![("security.protocol", profile.protocol.name().to_owned())];
    if let Some((mechanism, user)) = &profile.login {
        lines.push(("sasl.mechanism", mechanism.name().to_owned()));
        lines.push(("sasl.jaas.config", module.jaas(*mechanism, user, password)));
    }
    if let Some(authority) = &profile.authority {
        lines.push(("ssl.truststore.type", "PEM".to_owned()));
        lines.push(("ssl.truststore.certificates", authority.clone()));
    }
    if profile.client_certificate {
        lines.push(("ssl.keystore.type", "PEM".to_owned()));
        lines.push(("ssl.keystore.location", CLIENT_FILE.to_owned()));
    }
    lines
}

/// The options of a stream, and what shows its records.
fn stream(profile: &Profile, module: Module) -> String {
    let mut text = String::new();
    if let Some(authority) = &profile.authority {
        text += &format!("CA = \"\"\"\n{authority}\"\"\"\n");
    }
    text += "stream = (\n    spark.readStream.format(\"kafka\")\n";
    let mut option = |key: &str, value: &str| text += &format!("    .option(\"{key}\", {value})\n");
    option("kafka.bootstrap.servers", &format!("\"{}\"", profile.bootstrap));
    for (key, value) in properties(profile, module, "%s") {
        let value = match key {
            "ssl.truststore.certificates" => "CA".to_owned(),
            "sasl.jaas.config" => format!("'{value}' % password"),
            _ => format!("\"{value}\""),
        };
        option(&format!("kafka.{key}"), &value);
    }
    option("subscribe", &format!("\"{}\"", profile.topic));
    option("startingOffsets", "\"earliest\"");
    text += "    .load()\n)\n";
    match module {
        Module::Plain => {
            text += "values = stream.selectExpr(\"offset\", \"CAST(value AS STRING)\")\n\
                     values.writeStream.format(\"console\").start().awaitTermination()\n";
        }
        Module::Shaded => {
            text += "display(stream.selectExpr(\"offset\", \"CAST(value AS STRING)\"))\n";
        }
    }
    text
}

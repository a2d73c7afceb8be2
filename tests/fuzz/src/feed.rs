//! What sources read: a ticker's frames and a file's rows.
//!
//! First byte: which of the sources below. Promises: what is made of a frame is JSON of bounded
//! size and number; a row's object is JSON; rows end where the next begins, within the file.

use std::sync::LazyLock;

use bytes::Bytes;
use odradek_ingest::SourceConfig;
use odradek_ingest::fuzzing::{DOCUMENTS_MAX, Source};

const SOURCES: [&str; 6] = [
    "name='a'\ntype='websocket'\ntopic='t'\npreset='yahoo'\nsymbols=['GM']\nformat='full'",
    "name='b'\ntype='websocket'\ntopic='t'\npreset='yahoo'\nsymbols=['GM']\nformat='yfinance'\n\
     floats='shortest'",
    "name='c'\ntype='websocket'\ntopic='t'\nurl='wss://example.org/'\nkey='{symbol}'\n\
     decode={codec='json',where=\"channel == 'trade'\",explode='data'}",
    "name='d'\ntype='csv'\ntopic='t'\npath='x.csv'",
    "name='e'\ntype='csv'\ntopic='t'\npath='x.csv'\ndelimiter=';'\nheader=['a','b']\nkey='{a}'\n\
     types='string'\ntime={field='b',unit='ms'}",
    "name='f'\ntype='csv'\ntopic='t'\npath='x.csv.gz'",
];

static READY: LazyLock<Vec<Source>> = LazyLock::new(|| {
    let source = |text: &&str| {
        let config: SourceConfig = toml::from_str(text).expect("a source");
        Source::new(&config).expect("a source that can be started")
    };
    SOURCES.iter().map(source).collect()
});

pub fn run(data: &[u8]) {
    let Some((&which, rest)) = data.split_first() else { return };
    let which = usize::from(which) % SOURCES.len();
    let source = &READY[which];
    match source.documents(rest) {
        Some(Ok(documents)) => {
            assert!(documents.len() <= DOCUMENTS_MAX);
            for document in documents {
                let text = serde_json::to_string(&document).expect("a document is JSON");
                let back: serde_json::Map<_, _> = serde_json::from_str(&text).expect("it is JSON");
                assert_eq!(back, document);
            }
        }
        Some(Err(label)) => assert!(["json", "base64", "protobuf"].contains(&label), "{label}"),
        None => rows(source, rest, which == SOURCES.len() - 1),
    }
}

fn rows(source: &Source, file: &[u8], gzip: bool) {
    let (file, mut before) = (Bytes::copy_from_slice(file), 0);
    let size = file.len() as u64;
    source.rows(file, gzip, &mut |row| {
        assert!(row.end >= before && (gzip || row.end <= size), "{} of {size}", row.end);
        before = row.end;
        if let Ok((mut object, event_ms)) = row.read {
            object.push(b'}');
            let json: Result<serde_json::Map<_, _>, _> = serde_json::from_slice(&object);
            assert!(json.is_ok(), "{}", String::from_utf8_lossy(&object));
            // The years 1990 to 2099.
            let known = 631_152_000_000..4_102_444_800_000;
            assert!(event_ms.is_none_or(|ms| known.contains(&ms)), "{event_ms:?}");
        }
    });
}

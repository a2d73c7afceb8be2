//! Writes a batch of each codec into a folder, for `fixtures/Fixtures.java read` to judge.

use std::path::Path;

use bytes::Bytes;
use odradek_protocol::batch::BatchBuilder;
use odradek_protocol::compression::Compression;

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).expect("usage: batches <folder>");
    for codec in Compression::ALL {
        let mut builder = BatchBuilder::new(codec).producer(77, 3, 40).transactional();
        for i in 0..2000i64 {
            let value = format!("value-{i};").repeat(40);
            let headers = [("h".into(), Some(Bytes::from("1"))), ("h".into(), None)];
            let key = (i % 5 != 0).then_some(&b"key"[..]);
            builder.push(1_700_000_000_000 + i, key, Some(value.as_bytes()), &headers);
        }
        std::fs::write(Path::new(&folder).join(codec.name()), builder.build(1000))?;
    }
    Ok(())
}

//! Diagnoses: the catalogue, and one of it by its id.

use odradek_broker::diagnose::{self, Diagnosis};

use super::{Failure, Outcome};

/// In the order of the catalogue: what goes wrong with connections, then with the server.
pub fn list() -> impl Iterator<Item = &'static Diagnosis> {
    diagnose::all()
}

/// The diagnosis of this id, however it is cased; the nearest id in the failure.
pub fn find(id: &str) -> Outcome<&'static Diagnosis> {
    let wanted = id.trim().to_ascii_lowercase().replace(['_', ' '], "-");
    diagnose::find(&wanted).ok_or_else(|| {
        let detail = format!("there is no diagnosis {id:?}");
        match nearest(&wanted) {
            Some(near) => Failure::Unknown { detail, hint: format!("did you mean {near}?") },
            None => Failure::NotFound(detail),
        }
    })
}

/// An id that is spelt nearly so, or else one that holds all the words asked for.
fn nearest(wanted: &str) -> Option<&'static str> {
    let slips = |id: &str| strsim::osa_distance(wanted, id);
    let near = list().map(|known| (slips(known.id), known.id)).min()?;
    if near.0 <= near.1.len().min(wanted.len()) / 3 {
        return Some(near.1);
    }
    let holds_all = |id: &str| wanted.split('-').all(|word| id.contains(word));
    list().map(|known| known.id).find(|id| !wanted.is_empty() && holds_all(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_id_finds_the_one_that_was_meant() {
        for (typed, meant) in [
            ("wrong-pasword", "wrong-password"),
            ("tls-on-plain-prot", "tls-on-plain-port"),
            ("handshake", "tls-handshake-failed"),
        ] {
            let Err(Failure::Unknown { hint, .. }) = find(typed) else { panic!("{typed}") };
            assert_eq!(hint, format!("did you mean {meant}?"));
        }
        assert!(matches!(find("zzzzzzzzzzzz"), Err(Failure::NotFound(_))));
        assert!(matches!(find(""), Err(Failure::NotFound(_))));
    }

    #[test]
    fn every_id_finds_itself_also_in_capitals_and_with_underscores() {
        for known in list() {
            assert_eq!(find(known.id).expect("known").id, known.id);
            let shouted = known.id.to_uppercase().replace('-', "_");
            assert_eq!(find(&shouted).expect("known").id, known.id);
        }
    }
}

//! The limits, and which of them counts for whom. Pure.

use std::collections::BTreeMap;

use super::{CLIENT_ID, Entity, IP, Kind, Limits, USER};

/// Whom a meter measures: user and client id, either empty where the limit does not name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Tags {
    pub user: String,
    pub client_id: String,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    entities: BTreeMap<Entity, Limits>,
}

/// Types and names; `None` is the default.
type Parts<'a> = &'a [(&'a str, Option<&'a str>)];

fn entity(parts: Parts<'_>) -> Entity {
    parts.iter().map(|(kind, name)| ((*kind).to_owned(), name.map(str::to_owned))).collect()
}

impl Table {
    pub(crate) fn new(entities: BTreeMap<Entity, Limits>) -> Self {
        Self { entities }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Entity, &Limits)> {
        self.entities.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.entities.len()
    }

    pub(crate) fn limits(&self, entity: &Entity) -> Limits {
        self.entities.get(entity).cloned().unwrap_or_default()
    }

    /// Nothing left takes the entity away.
    pub(crate) fn set(&mut self, entity: Entity, limits: Limits) {
        if limits.is_empty() {
            self.entities.remove(&entity);
        } else {
            self.entities.insert(entity, limits);
        }
    }

    /// Whether anybody has a limit of this kind.
    pub(crate) fn any(&self, kind: Kind) -> bool {
        self.entities.values().any(|limits| limits.contains_key(kind.key()))
    }

    /// The limit that counts for this user and client id, and whom it measures together.
    pub(crate) fn limit(&self, kind: Kind, user: &str, client_id: &str) -> Option<(f64, Tags)> {
        let (user_, client) = (Some(user), Some(client_id));
        let levels: [(Parts<'_>, bool, bool); 8] = [
            (&[(USER, user_), (CLIENT_ID, client)], true, true),
            (&[(USER, user_), (CLIENT_ID, None)], true, true),
            (&[(USER, user_)], true, false),
            (&[(USER, None), (CLIENT_ID, client)], true, true),
            (&[(USER, None), (CLIENT_ID, None)], true, true),
            (&[(USER, None)], true, false),
            (&[(CLIENT_ID, client)], false, true),
            (&[(CLIENT_ID, None)], false, true),
        ];
        levels.into_iter().find_map(|(parts, by_user, by_client)| {
            let limit = *self.entities.get(&entity(parts))?.get(kind.key())?;
            let tag =
                |wanted: bool, name: &str| if wanted { name.to_owned() } else { String::new() };
            Some((limit, Tags { user: tag(by_user, user), client_id: tag(by_client, client_id) }))
        })
    }

    /// The limit of an address.
    pub(crate) fn limit_of_address(&self, address: &str) -> Option<f64> {
        let own = self.entities.get(&entity(&[(IP, Some(address))]));
        let of = |limits: &Limits| limits.get(Kind::Connection.key()).copied();
        own.and_then(of).or_else(|| self.entities.get(&entity(&[(IP, None)])).and_then(of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order of Kafka's documentation ("Quota Configuration"), most specific first.
    #[test]
    fn the_most_specific_limit_counts_and_names_who_is_measured_together() {
        let levels: [(Parts<'_>, (&str, &str)); 8] = [
            (&[(USER, Some("ann")), (CLIENT_ID, Some("app"))], ("ann", "app")),
            (&[(USER, Some("ann")), (CLIENT_ID, None)], ("ann", "app")),
            (&[(USER, Some("ann"))], ("ann", "")),
            (&[(USER, None), (CLIENT_ID, Some("app"))], ("ann", "app")),
            (&[(USER, None), (CLIENT_ID, None)], ("ann", "app")),
            (&[(USER, None)], ("ann", "")),
            (&[(CLIENT_ID, Some("app"))], ("", "app")),
            (&[(CLIENT_ID, None)], ("", "app")),
        ];
        let mut table = Table::default();
        // From the least specific on, each new one takes over.
        for (at, (parts, tags)) in levels.iter().enumerate().rev() {
            let limit = at as f64 + 1.0;
            let limits = Limits::from([(Kind::Produce.key().to_owned(), limit)]);
            table.set(entity(parts), limits);
            let (user, client_id) = (tags.0.to_owned(), tags.1.to_owned());
            let expected = Some((limit, Tags { user, client_id }));
            assert_eq!(table.limit(Kind::Produce, "ann", "app"), expected);
            assert_eq!(table.limit(Kind::Fetch, "ann", "app"), None);
        }
        assert_eq!(table.limit(Kind::Produce, "bob", "app").unwrap().0, 4.0);
        assert_eq!(table.limit(Kind::Produce, "bob", "cli").unwrap().0, 5.0);
        assert_eq!(table.limit(Kind::Produce, "ann", "cli").unwrap().0, 2.0);
        for (parts, _) in levels {
            table.set(entity(parts), Limits::new());
        }
        assert!(!table.any(Kind::Produce) && table.len() == 0);
    }

    #[test]
    fn an_address_has_its_own_limit_or_the_default_one() {
        let mut table = Table::default();
        let limits = |limit| Limits::from([(Kind::Connection.key().to_owned(), limit)]);
        assert_eq!(table.limit_of_address("192.0.2.1"), None);
        table.set(entity(&[(IP, None)]), limits(5.0));
        table.set(entity(&[(IP, Some("192.0.2.1"))]), limits(1.0));
        assert_eq!(table.limit_of_address("192.0.2.1"), Some(1.0));
        assert_eq!(table.limit_of_address("192.0.2.2"), Some(5.0));
    }
}

//! What the broker draws by chance and keeps: ids that nobody had before (of topics, members,
//! clusters), a secret. A simulation draws them from its seed.

#[cfg(not(test))]
pub(crate) use real::{id, secret};
#[cfg(test)]
pub(crate) use seeded::{id, secret, seed};

#[cfg(not(test))]
mod real {
    use uuid::Uuid;

    pub(crate) fn id() -> Uuid {
        Uuid::new_v4()
    }

    pub(crate) fn secret() -> Vec<u8> {
        crate::auth::new_secret()
    }
}

#[cfg(test)]
mod seeded {
    use std::cell::RefCell;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    use uuid::Uuid;

    thread_local! {
        static RANDOM: RefCell<Option<StdRng>> = const { RefCell::new(None) };
    }

    pub(crate) fn id() -> Uuid {
        let seeded = |random: &mut StdRng| uuid::Builder::from_random_bytes(random.random());
        RANDOM.with_borrow_mut(|random| {
            random.as_mut().map_or_else(Uuid::new_v4, |random| seeded(random).into_uuid())
        })
    }

    pub(crate) fn secret() -> Vec<u8> {
        id().as_bytes().repeat(2)
    }

    /// From here on, on this thread.
    pub(crate) fn seed(seed: u64) {
        RANDOM.set(Some(StdRng::seed_from_u64(seed)));
    }
}

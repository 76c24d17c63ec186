//! Counting failed logins, so that passwords cannot be tried one after the other.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
};

/// Failures of one user from one address after which more are refused unheard.
pub(super) const MOST_OF_USER: u32 = 5;
/// Failures from one address, whoever they are for.
pub(super) const MOST_OF_ADDRESS: u32 = 50;
/// Milliseconds without a failure after which the earlier ones are forgotten.
pub(super) const MEMORY: i64 = 60_000;
/// Entries at which forgotten ones are cleared away.
const MANY: usize = 10_000;

/// Failed logins of late. In memory: a restart forgets them, and takes longer than the wait.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    failures: Mutex<HashMap<Key, Failures>>,
}

/// Refused for so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait(pub(super) i64);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    User(String, IpAddr),
    Address(IpAddr),
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: i64,
}

impl Attempts {
    /// Whether a password may be tried now.
    pub(super) fn admit(&self, user: &str, address: IpAddr, now: i64) -> Result<(), Wait> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, most) in keys(user, address) {
            if let Some(known) = failures.get(&key)
                && known.count >= most
                && now < known.last + MEMORY
            {
                return Err(Wait((known.last + MEMORY - now + 999).div_euclid(1000)));
            }
        }
        Ok(())
    }

    /// A password was wrong. Returns whether that was the last one that is heard.
    pub(super) fn failed(&self, user: &str, address: IpAddr, now: i64) -> bool {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MANY {
            failures.retain(|_, known| now < known.last + MEMORY);
        }
        let mut last = false;
        for (key, most) in keys(user, address) {
            let entry = failures.entry(key).or_insert(Failures {
                count: 0,
                last: now,
            });
            if now >= entry.last + MEMORY {
                entry.count = 0;
            }
            entry.count = entry.count.saturating_add(1);
            entry.last = now;
            last |= entry.count == most;
        }
        last
    }

    /// A password was right: what its user mistyped before is forgotten.
    pub(super) fn succeeded(&self, user: &str, address: IpAddr) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.remove(&Key::User(user.to_owned(), network(address)));
    }
}

fn keys(user: &str, address: IpAddr) -> [(Key, u32); 2] {
    let network = network(address);
    [
        (Key::User(user.to_owned(), network), MOST_OF_USER),
        (Key::Address(network), MOST_OF_ADDRESS),
    ]
}

/// Who has one IPv6 address has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn five_wrong_passwords_close_the_door_for_a_minute() {
        let attempts = Attempts::default();
        for at in 0..5 {
            assert_eq!(attempts.admit("ann", HERE, at), Ok(()));
            assert_eq!(attempts.failed("ann", HERE, at), at == 4);
        }
        assert_eq!(attempts.admit("ann", HERE, 5), Err(Wait(60)));
        assert_eq!(attempts.admit("ann", HERE, MEMORY + 3), Err(Wait(1)));
        assert_eq!(attempts.admit("bob", HERE, 5), Ok(()));
        assert_eq!(attempts.admit("ann", THERE, 5), Ok(()));
        assert_eq!(attempts.admit("ann", HERE, MEMORY + 4), Ok(()));
        // Counting begins anew.
        assert!(!attempts.failed("ann", HERE, MEMORY + 4));
        assert_eq!(attempts.admit("ann", HERE, MEMORY + 5), Ok(()));
    }

    #[test]
    fn a_right_password_forgets_the_wrong_ones() {
        let attempts = Attempts::default();
        for _ in 0..4 {
            attempts.failed("ann", HERE, 0);
        }
        attempts.succeeded("ann", HERE);
        assert!(!attempts.failed("ann", HERE, 1));
        assert_eq!(attempts.admit("ann", HERE, 1), Ok(()));
    }

    #[test]
    fn many_names_from_one_address_are_too_many() {
        let attempts = Attempts::default();
        for index in 0..MOST_OF_ADDRESS {
            attempts.failed(&format!("user{index}"), HERE, 0);
        }
        assert!(attempts.admit("another", HERE, 1).is_err());
        assert_eq!(attempts.admit("another", THERE, 1), Ok(()));
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        let attempts = Attempts::default();
        for index in 0..5_u16 {
            let address = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, index]);
            attempts.failed("ann", address, 0);
        }
        let address = IpAddr::from([0x2001, 0xdb8, 0, 0, 1, 2, 3, 4]);
        assert!(attempts.admit("ann", address, 1).is_err());
        let mapped = std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped();
        assert_eq!(network(IpAddr::V6(mapped)), HERE);
    }
}

//! Upgrades: what is offered is fetched while the old version runs, the new version takes over, and
//! is watched until it has proved itself; else the old one comes back.
//!
//! Every step is written down before it is taken, so that a launcher that dies at any instant is
//! followed by one that goes on ([`recovery`]).

pub(crate) mod hand_over;
pub(crate) mod journal;
pub(crate) mod offered;
pub(crate) mod probation;
pub(crate) mod recovery;
pub(crate) mod rollback;

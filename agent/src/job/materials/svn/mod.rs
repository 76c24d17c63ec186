//! Subversion, by the installed program: its configuration and caches are what users rely on.

mod checkout;
mod info;
#[cfg(test)]
mod tests;

pub(super) use checkout::update;

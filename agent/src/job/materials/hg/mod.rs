//! Mercurial, by the installed program: its configuration and extensions are what users rely on.

mod checkout;
mod login;
#[cfg(test)]
mod tests;
mod url;

pub(super) use checkout::update;

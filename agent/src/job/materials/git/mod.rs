//! Git, by the installed program: its configuration, credential helpers and ssh are what users
//! rely on. Where there is none, by one of our own.

pub mod builtin;
mod checkout;
mod config;
mod credentials;
mod index;
mod locks;
mod mirror;
mod options;
mod refspec;
mod shortcuts;
mod submodules;
mod url;

#[cfg(test)]
mod http_server;
#[cfg(test)]
mod tests;

pub(super) use checkout::update;

//! Perforce, by the installed command line client.

mod checkout;
mod client;

pub(super) use {checkout::update, client::name as client_name};

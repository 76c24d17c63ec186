//! Git, by the installed program: its configuration, credential helpers and ssh are what users
//! rely on.

mod checkout;
mod refspec;
mod url;

pub(super) use checkout::update;

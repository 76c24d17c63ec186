//! Registration: how the server comes to know this agent.
//!
//! [`register`] goes on until it does, whatever stands in the way. It does better than the Java
//! agent in two places, where that one needs somebody to delete its token file: an agent that was
//! restarted while pending, and one that was deleted at the server, both register again.
//! [`obtain_cookie`] is the step after it, [`renew_certificates`] the one that never ends.

mod cookie;
mod form;
mod renewal;
mod request;
mod token;

pub use cookie::{CookieHistory, obtain_cookie};
pub use renewal::renew_certificates;
pub use request::{Answer, RegistrationError, register};

#[cfg(test)]
mod tests;

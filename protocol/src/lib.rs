//! Every message between an agent and its server, as plain types: no I/O and no clock.
//!
//! The wire is that of GoCD 26.2, JSON as Gson writes it. Three habits of Gson hold for
//! every type here:
//!
//! * Members that are null are left out when written, and members nobody knows are skipped
//!   when read.
//! * A member that is missing is not an error where GoCD lives without it: numbers become 0,
//!   booleans false, lists empty. Where GoCD's own default is another one, the member says so.
//! * Objects that come in several kinds name theirs in a member `type`, written first and read
//!   anywhere. A kind of work, builder, material or handler that this version does not know is
//!   kept as a [`document::Document`], so that the agent can say which one it was.
//!
//! Use [`gson`] to read and write whole documents. What only a Journeyman server and agent say
//! to each other is in [`extension`], [`release`] and part of [`registration`]; who may sign a
//! release in [`release_key`]; what an agent says to its launcher in [`launcher`].

pub mod agent;
pub mod artifact;
pub mod builder;
pub mod console;
pub mod document;
pub mod environment;
pub mod extension;
pub mod fetch;
pub mod files;
pub mod gson;
pub mod job;
pub mod launcher;
pub mod material;
pub mod name;
pub mod registration;
pub mod release;
pub mod release_key;
pub mod remoting;
pub mod revision;
pub mod secret;
pub mod work;
pub mod zip;

mod wire;

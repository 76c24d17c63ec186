//! What an agent says to the launcher that started it: the protocol `launcher-1`, which never changes.
//!
//! The agent's standard input is one end of a socket pair. The launcher never writes; that it is
//! closed tells the agent to leave at once and to let its job run on. The agent writes lines, one
//! word each, whenever it has something to say. Words that are not known are skipped.

/// What the launcher goes by while a new agent is on probation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Contact {
    /// The process is up.
    Started,
    /// The server knows it: there are token and cookie.
    Registered,
    /// The server has answered that an administrator must enable this agent first.
    Pending,
    /// A ping was answered.
    Pinged,
    /// A call for work was answered.
    Asked,
    /// It supervises a job, and therefore asks for no other.
    Working,
    /// The server could not be reached.
    Away,
    /// The server answered that it cannot answer now (429, 503).
    Busy,
}

impl Contact {
    /// Everything there is to say.
    pub const ALL: [Self; 8] = [
        Self::Started,
        Self::Registered,
        Self::Pending,
        Self::Pinged,
        Self::Asked,
        Self::Working,
        Self::Away,
        Self::Busy,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Registered => "registered",
            Self::Pending => "pending",
            Self::Pinged => "pinged",
            Self::Asked => "asked",
            Self::Working => "working",
            Self::Away => "away",
            Self::Busy => "busy",
        }
    }

    /// What a line says, if it is known.
    pub fn parse(line: &str) -> Option<Self> {
        let word = line.trim();
        Self::ALL
            .into_iter()
            .find(|contact| contact.as_str() == word)
    }
}

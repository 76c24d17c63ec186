//! What is wrong just now and a person should know: server health messages, as GoCD's.
//!
//! They are in memory. Whoever raises one finds it again after a restart by looking once more, and
//! clears it when it is over.

mod ready;

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

pub use ready::router;

use crate::App;

/// How bad it is. Errors come first in lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Error,
    Warning,
}

impl Level {
    /// The name in GoCD's answers.
    #[must_use]
    pub fn wire_name(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is about, such as `material:<fingerprint>`. There is one message about it at a time.
    pub key: String,
    pub level: Level,
    /// One line.
    pub message: String,
    /// Why, and what to do; maybe several lines.
    pub detail: String,
    /// Since when, in milliseconds since the epoch.
    pub since: i64,
}

/// All messages of one server.
#[derive(Debug, Default)]
pub struct Health {
    messages: Mutex<BTreeMap<String, Message>>,
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Message>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that something is wrong. What is said already under this key gives way to it, and keeps its
/// time if it is the same.
pub fn raise(
    app: &App,
    key: &str,
    level: Level,
    message: impl Into<String>,
    detail: impl Into<String>,
) {
    let mut new = Message {
        key: key.to_owned(),
        level,
        message: message.into(),
        detail: detail.into(),
        since: app.now_ms(),
    };
    {
        let mut messages = app.health.lock();
        if let Some(known) = messages.get(key) {
            let since = known.since;
            if *known
                == (Message {
                    since,
                    ..new.clone()
                })
            {
                return;
            }
            if known.message == new.message {
                new.since = since;
            }
        }
        messages.insert(new.key.clone(), new);
    }
    app.state_changed.raise();
}

/// Takes back what was said under a key.
pub fn clear(app: &App, key: &str) {
    if app.health.lock().remove(key).is_some() {
        app.state_changed.raise();
    }
}

/// Takes back what is said under keys that begin so and of which `keep` does not know.
pub fn keep_only(app: &App, begin: &str, keep: impl Fn(&str) -> bool) {
    let before;
    let after;
    {
        let mut messages = app.health.lock();
        before = messages.len();
        messages.retain(|key, _| key.strip_prefix(begin).is_none_or(&keep));
        after = messages.len();
    }
    if before != after {
        app.state_changed.raise();
    }
}

/// All that is wrong: errors first, then the newest.
#[must_use]
pub fn list(app: &App) -> Vec<Message> {
    let mut all: Vec<Message> = app.health.lock().values().cloned().collect();
    all.sort_by_key(|one| (one.level, std::cmp::Reverse(one.since)));
    all
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::scheduling::tests::Scene;

    #[tokio::test]
    async fn one_message_under_each_key() {
        let scene = Scene::new().await;
        let app = scene.app();
        let mut waiter = app.state_changed.subscribe();
        raise(app, "a:1", Level::Warning, "slow", "1 s");
        waiter.raised().await;
        raise(app, "b:1", Level::Error, "broken", "");
        raise(app, "a:1", Level::Warning, "slow", "2 s");
        let shown = |app| {
            let all = list(app).into_iter();
            all.map(|one| format!("{} {} {}", one.level.wire_name(), one.message, one.detail))
                .collect::<Vec<_>>()
        };
        assert_eq!(shown(app), ["ERROR broken ", "WARNING slow 2 s"]);
        keep_only(app, "a:", |rest| rest == "1");
        assert_eq!(list(app).len(), 2);
        keep_only(app, "a:", |_| false);
        clear(app, "b:1");
        clear(app, "b:1");
        assert!(list(app).is_empty());
    }
}

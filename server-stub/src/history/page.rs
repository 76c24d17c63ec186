//! A part of a long list.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, SqliteConnection};

use crate::database::DatabaseError;

/// Which part of a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub size: i64,
    pub from: From,
}

/// Where a part begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Newest,
    /// What is older than the entry with this cursor.
    After(i64),
    /// What is just newer than the entry with this cursor.
    Before(i64),
    /// After so many of the newest.
    Offset(i64),
}

/// A part of a list, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The cursor of the last entry, if there are older ones.
    pub older: Option<i64>,
    /// The cursor of the first entry, if there are newer ones.
    pub newer: Option<i64>,
    /// How many there are in all; not known when a cursor was asked for, because it is a count.
    pub total: Option<i64>,
}

/// Where a list comes from, in SQL: constants of this program.
pub(super) struct Source {
    /// What follows `FROM`, with `WHERE`.
    pub(super) from: &'static str,
    /// The column that sorts.
    pub(super) cursor: &'static str,
    /// The column that tells which rows to load.
    pub(super) id: &'static str,
}

/// The rows of a page, not yet loaded.
pub(super) struct Keys(Page<i64>);

/// Finds the rows of a page.
pub(super) async fn keys(
    connection: &mut SqliteConnection,
    source: &Source,
    names: &[&str],
    window: Window,
) -> Result<Keys, DatabaseError> {
    let Source { from, cursor, id } = source;
    let size = window.size;
    let part = match window.from {
        From::Newest => format!("ORDER BY {cursor} DESC LIMIT {size}"),
        From::After(last) => format!("AND {cursor} < {last} ORDER BY {cursor} DESC LIMIT {size}"),
        From::Before(first) => format!("AND {cursor} > {first} ORDER BY {cursor} LIMIT {size}"),
        From::Offset(skip) => format!("ORDER BY {cursor} DESC LIMIT {size} OFFSET {skip}"),
    };
    let select = format!("SELECT {cursor}, {id} FROM {from}");
    let mut rows = pairs(connection, format!("{select} {part}"), names).await?;
    // What is just newer is found going upwards.
    rows.sort_unstable_by(|one, other| other.cmp(one));
    let mut page = Page {
        items: rows.iter().map(|(_, id)| *id).collect(),
        older: None,
        newer: None,
        total: None,
    };
    if let (Some((first, _)), Some((last, _))) = (rows.first(), rows.last()) {
        let ends = ["", "DESC"].map(|order| format!("{select} ORDER BY {cursor} {order} LIMIT 1"));
        let [oldest, newest] = ends;
        let oldest = pairs(connection, oldest, names).await?;
        let newest = pairs(connection, newest, names).await?;
        page.older = (oldest.first().map(|(end, _)| end) != Some(last)).then_some(*last);
        page.newer = (newest.first().map(|(end, _)| end) != Some(first)).then_some(*first);
    }
    if matches!(window.from, From::Newest | From::Offset(_)) {
        let count = format!("SELECT COUNT(*), 0 FROM {from}");
        let counted = pairs(connection, count, names).await?;
        page.total = counted.first().map(|(total, _)| *total);
    }
    Ok(Keys(page))
}

/// Two columns of a statement that is made of constants and numbers.
async fn pairs(
    connection: &mut SqliteConnection,
    statement: String,
    names: &[&str],
) -> Result<Vec<(i64, i64)>, DatabaseError> {
    let mut query = sqlx::query_as(AssertSqlSafe(statement));
    for name in names {
        query = query.bind(*name);
    }
    Ok(query.fetch_all(connection).await?)
}

impl Keys {
    pub(super) fn ids(&self) -> &[i64] {
        &self.0.items
    }

    /// The page, with what was loaded for its ids.
    pub(super) fn with<T>(self, items: impl Iterator<Item = (i64, T)>) -> Page<T> {
        let mut loaded: HashMap<i64, T> = items.collect();
        let Page {
            items,
            older,
            newer,
            total,
        } = self.0;
        Page {
            items: items.iter().filter_map(|id| loaded.remove(id)).collect(),
            older,
            newer,
            total,
        }
    }
}

//! Offers: which release whom is to run it.

use std::time::Duration;

use sqlx::SqliteConnection;

use super::{
    answer::Offered,
    progress,
    rollout::{self, Target, TargetError},
    store::{self, Package},
};
use crate::{
    App,
    database::DatabaseError,
    pipelines::store::{decode, encode},
};

/// Failed probations in a hundred at which a release is no longer offered.
pub const STOP_AT: u8 = 20;
/// So many machines must have finished before the share of those that failed means anything.
const ENOUGH: i64 = 3;
/// An offer cannot be spread over more than this.
pub const LONGEST: Duration = Duration::from_secs(90 * 24 * 3600);

/// Why an offer was not made or not ended.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("there is no release {0}; `releases list` shows all")]
    UnknownRelease(String),
    #[error(
        "release {release} has launcher and agent for no platform (it has {has}): add the missing packages \
         with `releases add`"
    )]
    Incomplete { release: String, has: String },
    #[error("release {0} is not offered")]
    NotOffered(String),
    #[error(
        "release {release} has no offer {offer} that is under way; `releases show {release}` shows its offers"
    )]
    UnknownOffer { release: String, offer: i64 },
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("`{0}` is no time: write 0, or a number with a unit, as in 90s, 30m, 2h or 1d")]
    Over(String),
    #[error("`{0}` is no share of failed probations: write 1% to 100%")]
    StopAt(String),
    #[error("an offer can be spread over {} days at most", LONGEST.as_secs() / 86_400)]
    TooLong,
}

/// What an administrator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub release: String,
    pub target: Target,
    /// The time over which machines are asked one after another.
    pub over: Duration,
    /// Whether it replaces newer builds too.
    pub downgrade: bool,
    /// Failed probations in a hundred at which the server stops by itself.
    pub stop_at: u8,
}

/// The same as people write it; what is left out has its default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// See [`Target`]; all by default.
    pub to: Option<&'a str>,
    /// See [`rollout::parse_duration`]; none by default.
    pub over: Option<&'a str>,
    pub downgrade: bool,
    /// See [`rollout::parse_percent`]; [`STOP_AT`] by default.
    pub stop_at: Option<&'a str>,
}

/// A release that is, or was, offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    pub id: i64,
    pub release: String,
    /// Of the offer of the folder of `--releases`: the checksums of the packages in it.
    pub content: Option<Vec<String>>,
    pub target: Target,
    pub duration_ms: i64,
    pub downgrade: bool,
    pub stop_at: u8,
    /// Milliseconds since the epoch.
    pub started_at: i64,
    /// Nothing while it is under way.
    pub end: Option<End>,
}

/// How an offer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Milliseconds since the epoch.
    pub at: i64,
    pub kind: EndKind,
    /// For people.
    pub reason: String,
}

/// What ended an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndKind {
    /// An administrator.
    Withdrawn,
    /// The server: too many probations failed.
    Stopped,
    /// Other packages came into the folder.
    Replaced,
    /// The packages went out of the folder.
    Removed,
}

/// How far an offer has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Tally {
    /// Machines it was answered to.
    pub asked: i64,
    /// Of these: run it.
    pub done: i64,
    /// Of these: went back, or have marked it as bad.
    pub failed: i64,
}

/// Offers a release. The answer has warnings for the administrator besides.
///
/// # Errors
///
/// See [`OfferError`]; nothing is offered then.
pub async fn offer(app: &App, wanted: &Wanted) -> Result<(Offer, Vec<String>), OfferError> {
    if wanted.over > LONGEST {
        return Err(OfferError::TooLong);
    }
    let mut write = app.database.write().await?;
    if store::find(&mut write, &wanted.release).await?.is_none() {
        return Err(OfferError::UnknownRelease(wanted.release.clone()));
    }
    let packages = store::packages_of(&mut write, &wanted.release).await?;
    if !packages
        .iter()
        .any(|one| is_complete(&packages, &one.manifest.platform))
    {
        return Err(OfferError::Incomplete {
            release: wanted.release.clone(),
            has: names(&packages),
        });
    }
    let warnings =
        progress::warnings(&mut write, &wanted.release, &wanted.target, &packages).await?;
    let new = Offer {
        id: 0,
        release: wanted.release.clone(),
        content: None,
        target: wanted.target.clone(),
        duration_ms: i64::try_from(wanted.over.as_millis()).unwrap_or(i64::MAX),
        downgrade: wanted.downgrade,
        stop_at: wanted.stop_at,
        started_at: app.now_ms(),
        end: None,
    };
    let offer = insert(&mut write, new).await?;
    write.commit().await.map_err(DatabaseError::from)?;
    announce(app, &offer);
    Ok((offer, warnings))
}

/// Ends one offer of a release, or all of them. What machines run by now stays. Answers how many
/// were ended.
///
/// # Errors
///
/// See [`OfferError`]; nothing has changed then.
pub async fn withdraw(app: &App, release: &str, one: Option<i64>) -> Result<usize, OfferError> {
    let mut write = app.database.write().await?;
    if store::find(&mut write, release).await?.is_none() {
        return Err(OfferError::UnknownRelease(release.to_owned()));
    }
    let mut ended = active(&mut write).await?;
    ended.retain(|offer| offer.release == release && one.is_none_or(|id| id == offer.id));
    match (ended.is_empty(), one) {
        (true, Some(offer)) => {
            let release = release.to_owned();
            return Err(OfferError::UnknownOffer { release, offer });
        }
        (true, None) => return Err(OfferError::NotOffered(release.to_owned())),
        (false, _) => {}
    }
    for offer in &ended {
        let reason = "withdrawn by an administrator";
        end(
            &mut write,
            offer.id,
            EndKind::Withdrawn,
            reason,
            app.now_ms(),
        )
        .await?;
    }
    write.commit().await.map_err(DatabaseError::from)?;
    for offer in &ended {
        tracing::info!(release, offer = offer.id, "an offer was withdrawn");
    }
    app.state_changed.raise();
    Ok(ended.len())
}

/// The offers under way, the newest first.
pub async fn active(connection: &mut SqliteConnection) -> Result<Vec<Offer>, DatabaseError> {
    let rows: Vec<Row> =
        sqlx::query_as("SELECT * FROM offers WHERE ended_at IS NULL ORDER BY id DESC")
            .fetch_all(connection)
            .await?;
    rows.into_iter().map(Offer::try_from).collect()
}

/// All offers of a release, the newest first.
pub async fn of_release(
    connection: &mut SqliteConnection,
    release: &str,
) -> Result<Vec<Offer>, DatabaseError> {
    let rows: Vec<Row> =
        sqlx::query_as("SELECT * FROM offers WHERE release_id = $1 ORDER BY id DESC")
            .bind(release)
            .fetch_all(connection)
            .await?;
    rows.into_iter().map(Offer::try_from).collect()
}

/// One offer.
pub(super) async fn find(
    connection: &mut SqliteConnection,
    id: i64,
) -> Result<Option<Offer>, DatabaseError> {
    let row: Option<Row> = sqlx::query_as("SELECT * FROM offers WHERE id = $1")
        .bind(id)
        .fetch_optional(connection)
        .await?;
    row.map(Offer::try_from).transpose()
}

/// The last offer of the folder of `--releases`, under way or not.
pub(super) async fn last_of_folder(
    connection: &mut SqliteConnection,
) -> Result<Option<Offer>, DatabaseError> {
    let row: Option<Row> =
        sqlx::query_as("SELECT * FROM offers WHERE content IS NOT NULL ORDER BY id DESC LIMIT 1")
            .fetch_optional(connection)
            .await?;
    row.map(Offer::try_from).transpose()
}

/// The packages that an offer is about.
pub(super) async fn packages(
    connection: &mut SqliteConnection,
    offer: &Offer,
) -> Result<Vec<Package>, DatabaseError> {
    let Some(content) = &offer.content else {
        return store::packages_of(connection, &offer.release).await;
    };
    let mut packages = Vec::with_capacity(content.len());
    for sha256 in content {
        packages.extend(store::package(&mut *connection, sha256).await?);
    }
    Ok(packages)
}

/// Whether a package was offered later than this offer was: what an earlier offer says of newer
/// builds is not about it.
pub(super) async fn was_offered_later(
    connection: &mut SqliteConnection,
    than: i64,
    sha256: &str,
) -> Result<bool, DatabaseError> {
    let rows: Vec<(Option<String>, Option<i64>)> = sqlx::query_as(
        "SELECT content, (SELECT 1 FROM packages WHERE packages.release_id = offers.release_id \
         AND sha256 = $2) FROM offers WHERE id > $1",
    )
    .bind(than)
    .bind(sha256)
    .fetch_all(connection)
    .await?;
    Ok(rows.iter().any(|(content, of_release)| match content {
        Some(content) => content.contains(sha256),
        None => of_release.is_some(),
    }))
}

pub(super) async fn insert(
    connection: &mut SqliteConnection,
    offer: Offer,
) -> Result<Offer, DatabaseError> {
    let content = offer.content.as_ref().map(encode).transpose()?;
    let id = sqlx::query_scalar(
        "INSERT INTO offers (release_id, content, target, duration_ms, downgrade, stop_at, started_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id",
    )
    .bind(&offer.release)
    .bind(content)
    .bind(encode(&offer.target)?)
    .bind(offer.duration_ms)
    .bind(i64::from(offer.downgrade))
    .bind(i64::from(offer.stop_at))
    .bind(offer.started_at)
    .fetch_one(connection)
    .await?;
    Ok(Offer { id, ..offer })
}

pub(super) async fn end(
    connection: &mut SqliteConnection,
    id: i64,
    kind: EndKind,
    reason: &str,
    now: i64,
) -> Result<(), DatabaseError> {
    sqlx::query(
        "UPDATE offers SET ended_at = $2, end_kind = $3, end_reason = $4 \
         WHERE id = $1 AND ended_at IS NULL",
    )
    .bind(id)
    .bind(now)
    .bind(kind.as_str())
    .bind(reason)
    .execute(connection)
    .await?;
    Ok(())
}

/// Says in the log that a release is offered, and wakes the pages.
pub(super) fn announce(app: &App, offer: &Offer) {
    tracing::info!(
        release = offer.release,
        offer = offer.id,
        to = %offer.target,
        over_ms = offer.duration_ms,
        downgrade = offer.downgrade,
        stop_at = offer.stop_at,
        from_folder = offer.content.is_some(),
        "a release is offered"
    );
    app.state_changed.raise();
}

/// How far an offer has come.
pub async fn tally(connection: &mut SqliteConnection, offer: i64) -> Result<Tally, DatabaseError> {
    Ok(sqlx::query_as(
        "SELECT count(*) AS asked, count(CASE outcome WHEN 'done' THEN 1 END) AS done, \
         count(CASE outcome WHEN 'failed' THEN 1 END) AS failed \
         FROM offer_machines WHERE offer_id = $1",
    )
    .bind(offer)
    .fetch_one(connection)
    .await?)
}

/// Why an offer should end by itself, if it should.
pub(super) async fn must_stop(
    connection: &mut SqliteConnection,
    offered: &Offered,
) -> Result<Option<String>, DatabaseError> {
    let offer = &offered.offer;
    let tally = tally(&mut *connection, offer.id).await?;
    let finished = tally.done + tally.failed;
    if tally.failed == 0 || tally.failed * 100 < i64::from(offer.stop_at) * finished {
        return Ok(None);
    }
    if finished < ENOUGH && progress::anybody_left(connection, offered).await? {
        return Ok(None);
    }
    Ok(Some(format!(
        "stopped because {} of {finished} probations failed",
        tally.failed
    )))
}

/// Whether there is all that a machine of a platform needs.
pub(super) fn is_complete(packages: &[Package], platform: &str) -> bool {
    use journeyman_protocol::release::Component::{Agent, Launcher};
    [Launcher, Agent]
        .into_iter()
        .all(|component| packages.iter().any(|one| one.is(component, platform)))
}

fn names(packages: &[Package]) -> String {
    let names = packages.iter().map(|one| {
        format!(
            "the {} for {}",
            one.manifest.component.as_str(),
            one.manifest.platform
        )
    });
    names.collect::<Vec<_>>().join(", ")
}

/// A row of the table `offers`.
#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    release_id: String,
    content: Option<String>,
    target: String,
    duration_ms: i64,
    downgrade: i64,
    stop_at: i64,
    started_at: i64,
    ended_at: Option<i64>,
    end_kind: Option<String>,
    end_reason: Option<String>,
}

// === impl Wanted ===

impl Wanted {
    /// Reads what people have written.
    ///
    /// # Errors
    ///
    /// [`OfferError::Target`], [`OfferError::Over`] or [`OfferError::StopAt`].
    pub fn parse(release: &str, asked: Asked<'_>) -> Result<Self, OfferError> {
        let over = asked.over.unwrap_or("0");
        let stop_at = asked.stop_at.map(|text| {
            rollout::parse_percent(text).ok_or_else(|| OfferError::StopAt(text.to_owned()))
        });
        Ok(Self {
            release: release.to_owned(),
            target: asked.to.unwrap_or("all").parse()?,
            over: rollout::parse_duration(over).ok_or_else(|| OfferError::Over(over.to_owned()))?,
            downgrade: asked.downgrade,
            stop_at: stop_at.transpose()?.unwrap_or(STOP_AT),
        })
    }
}

// === impl Offer ===

impl TryFrom<Row> for Offer {
    type Error = DatabaseError;

    fn try_from(row: Row) -> Result<Self, DatabaseError> {
        let content = row.content.as_deref();
        let end = match (row.ended_at, row.end_kind) {
            (Some(at), Some(kind)) => Some(End {
                at,
                kind: EndKind::parse(&kind)
                    .ok_or_else(|| DatabaseError::content("the end of an offer", kind))?,
                reason: row.end_reason.unwrap_or_default(),
            }),
            _ => None,
        };
        Ok(Self {
            id: row.id,
            release: row.release_id,
            content: content
                .map(|content| decode("the content of an offer", content))
                .transpose()?,
            target: decode("the target of an offer", &row.target)?,
            duration_ms: row.duration_ms,
            downgrade: row.downgrade != 0,
            stop_at: u8::try_from(row.stop_at).unwrap_or(STOP_AT),
            started_at: row.started_at,
            end,
        })
    }
}

// === impl EndKind ===

impl EndKind {
    /// The name in the database and the REST API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Withdrawn => "withdrawn",
            Self::Stopped => "stopped",
            Self::Replaced => "replaced",
            Self::Removed => "removed",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [
            Self::Withdrawn,
            Self::Stopped,
            Self::Replaced,
            Self::Removed,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == name)
    }
}

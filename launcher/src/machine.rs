//! This machine towards its server: saying what runs here, and hearing what should.

use std::{cell::RefCell, fs, time::Duration};

use journeyman_host::{
    arguments::ConnectionSettings, connection::Connection, identity, properties::Properties,
    workdir::WorkDir,
};
use journeyman_protocol::{
    release::{Build, MachineReport},
    remoting::{AUTHORIZATION, X_AGENT_GUID},
};
use reqwest::header::{HeaderMap, HeaderValue};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::{
    launcher_file::LauncherFile,
    offer::{self, Offer, OfferError},
    releases,
    take::Problem,
    upgrade::{journal::Journal, probation::Limits},
};

/// Property: time between two questions to the server, in milliseconds.
const POLL: &str = "journeyman.release.poll";
/// A question in passing must not hold an upgrade up.
const IN_PASSING: Duration = Duration::from_secs(2);

/// What a launcher works on.
pub(crate) struct Machine<'a> {
    pub(crate) workdir: &'a WorkDir,
    pub(crate) settings: &'a ConnectionSettings,
    pub(crate) bootstrapper_version: &'a str,
    /// Never borrowed across an await.
    pub(crate) journal: RefCell<Journal>,
    /// Time between two questions to the server.
    pub(crate) poll: Duration,
    pub(crate) limits: Limits,
}

/// What a server said, and the connection to fetch it by.
pub(crate) struct Heard {
    pub(crate) connection: Connection,
    pub(crate) offer: Offer,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(
        workdir: &'a WorkDir,
        settings: &'a ConnectionSettings,
        bootstrapper_version: &'a str,
    ) -> Self {
        let properties = Properties::of_launcher();
        Self {
            workdir,
            settings,
            bootstrapper_version,
            journal: RefCell::new(Journal::open(workdir)),
            poll: properties.millis(POLL).unwrap_or(Duration::from_secs(60)),
            limits: Limits::from_properties(&properties),
        }
    }

    /// Removes what is not needed any more.
    pub(crate) fn clean_up(&self) {
        releases::clean_up(self.workdir, &self.journal.borrow().kept());
    }

    /// Says what runs here and asks what should.
    ///
    /// # Errors
    /// The server did not say.
    pub(crate) async fn ask(&self) -> Result<Heard, Problem> {
        self.journal.borrow_mut().catch_up();
        let report = self.report();
        let mut connection = Connection::open(self.workdir, self.settings).await?;
        let headers = self.identity();
        let offer = match offer::ask(&connection, headers.clone(), &report).await {
            // The server's secure address may have moved; the configured one is still right.
            Err(OfferError::Unreachable(reason)) if connection.is_secure() => {
                warn!(%reason, "asking the configured URL instead");
                connection = Connection::configured(self.workdir, self.settings).await?;
                offer::ask(&connection, headers, &report).await?
            }
            // The registration is lost; the agent is about to set that right.
            Err(OfferError::Unknown) => offer::ask(&connection, HeaderMap::new(), &report).await?,
            offer => offer?,
        };
        Ok(Heard { connection, offer })
    }

    /// Tells the server how far an upgrade has come. One that does not listen hears it next time.
    pub(crate) async fn tell(&self) {
        match timeout(IN_PASSING, self.ask()).await {
            Ok(Ok(_)) => {}
            Ok(Err(problem)) => info!(%problem, "cannot tell the server how far the upgrade is"),
            Err(_) => info!("the server does not answer how far the upgrade is"),
        }
    }

    fn report(&self) -> MachineReport {
        let journal = self.journal.borrow();
        MachineReport {
            platform: offer::OWN_PLATFORM.to_owned(),
            bootstrapper: Some(self.bootstrapper_version.to_owned()),
            launcher: self.own_launcher(),
            agent: releases::current(self.workdir).map(|agent| agent.build()),
            previous: journal
                .previous()
                .and_then(|name| releases::find(self.workdir, name))
                .map(|agent| agent.build()),
            upgrade: journal.to_report(),
            bad: journal.bad().to_vec(),
            set_aside: self.set_aside(),
        }
    }

    /// The launcher on disk, which is the one that runs until it is replaced.
    pub(crate) fn own_launcher(&self) -> Option<Build> {
        let file = LauncherFile::of(&self.workdir.launcher()).ok()?;
        let journal = self.journal.borrow();
        // With the package it came in, if it came in one.
        let upgrade = journal.launcher().filter(|upgrade| file.is(&upgrade.to));
        Some(upgrade.map_or_else(|| file.build(), |upgrade| upgrade.to.clone()))
    }

    /// The headers of the remoting API, once the agent is registered.
    fn identity(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Ok(Some(token)) = identity::token(self.workdir)
            && let Ok(guid) = identity::guid(self.workdir)
            && let Ok(guid) = HeaderValue::from_str(&guid)
            && let Ok(mut token) = HeaderValue::from_str(token.expose())
        {
            token.set_sensitive(true);
            headers.insert(X_AGENT_GUID, guid);
            headers.insert(AUTHORIZATION, token);
        }
        headers
    }

    /// Files that could not be used.
    fn set_aside(&self) -> Vec<String> {
        let root = self.workdir.root();
        let mut folders = vec![
            self.workdir.releases(),
            self.workdir.config_journeyman(),
            self.workdir.config(),
        ];
        if let Some(current) = releases::current_name(self.workdir) {
            folders.push(self.workdir.state().join(current));
        }
        folders
            .iter()
            .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten())
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == "corrupt"))
            .filter_map(|path| Some(path.strip_prefix(root).ok()?.display().to_string()))
            .collect()
    }
}

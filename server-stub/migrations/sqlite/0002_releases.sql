-- A release is a version and build sequence; what it consists of are packages.
CREATE TABLE releases (
    id       TEXT PRIMARY KEY,
    version  TEXT NOT NULL,
    build    BIGINT NOT NULL,
    added_at BIGINT NOT NULL
);

-- The bytes are in the blob folder, under their checksum.
CREATE TABLE packages (
    release_id  TEXT NOT NULL REFERENCES releases (id) ON DELETE CASCADE,
    component   TEXT NOT NULL CHECK (component IN ('launcher', 'agent', 'bootstrapper')),
    platform    TEXT NOT NULL,
    sha256      TEXT NOT NULL UNIQUE,
    size        BIGINT NOT NULL,
    manifest    TEXT NOT NULL,
    signatures  TEXT NOT NULL DEFAULT '[]',
    -- Whether it came from the folder of --releases, and may be replaced from there.
    from_folder INTEGER NOT NULL,
    added_at    BIGINT NOT NULL,
    PRIMARY KEY (release_id, component, platform)
);

CREATE TABLE offers (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    release_id  TEXT NOT NULL REFERENCES releases (id) ON DELETE CASCADE,
    -- The offer of the folder of --releases: the checksums of the packages that were in it.
    content     TEXT,
    target      TEXT NOT NULL,
    duration_ms BIGINT NOT NULL,
    downgrade   INTEGER NOT NULL,
    stop_at     BIGINT NOT NULL,
    started_at  BIGINT NOT NULL,
    ended_at    BIGINT,
    end_kind    TEXT CHECK (end_kind IN ('withdrawn', 'stopped', 'replaced', 'removed')),
    end_reason  TEXT
);
CREATE INDEX offers_active ON offers (ended_at, id);
CREATE INDEX offers_of_release ON offers (release_id);

-- What an agent's machine said of itself last.
CREATE TABLE machines (
    agent_uuid         TEXT PRIMARY KEY REFERENCES agents (uuid) ON DELETE CASCADE,
    report             TEXT NOT NULL,
    reported_at        BIGINT NOT NULL,
    upgrade_changed_at BIGINT
);

-- The machines that an offer was answered to, and what came of it.
CREATE TABLE offer_machines (
    offer_id     BIGINT NOT NULL REFERENCES offers (id) ON DELETE CASCADE,
    agent_uuid   TEXT NOT NULL REFERENCES agents (uuid) ON DELETE CASCADE,
    requested_at BIGINT NOT NULL,
    outcome      TEXT CHECK (outcome IN ('done', 'failed')),
    finished_at  BIGINT,
    PRIMARY KEY (offer_id, agent_uuid)
);
CREATE INDEX offer_machines_of_agent ON offer_machines (agent_uuid);

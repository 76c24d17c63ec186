-- Times are milliseconds since the Unix epoch; lists and documents are JSON text.

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE agents (
    uuid                 TEXT PRIMARY KEY,
    hostname             TEXT NOT NULL,
    ip_address           TEXT NOT NULL,
    location             TEXT NOT NULL,
    operating_system     TEXT NOT NULL,
    usable_space         BIGINT,
    agent_version        TEXT NOT NULL DEFAULT 'UNKNOWN',
    bootstrapper_version TEXT NOT NULL DEFAULT 'UNKNOWN',
    config_state         TEXT NOT NULL CHECK (config_state IN ('Pending', 'Enabled', 'Disabled')),
    runtime_status       TEXT NOT NULL CHECK (runtime_status IN ('Idle', 'Building', 'Cancelled', 'LostContact', 'Missing', 'Unknown')),
    resources            TEXT NOT NULL DEFAULT '[]',
    environments         TEXT NOT NULL DEFAULT '[]',
    elastic_agent_id     TEXT,
    elastic_plugin_id    TEXT,
    cookie               TEXT,
    -- The job the agent says it is building, or was just given.
    build_locator        TEXT NOT NULL DEFAULT '',
    kill_requested       INTEGER NOT NULL DEFAULT 0,
    cancelled_at         BIGINT,
    last_heard_at        BIGINT,
    registered_at        BIGINT NOT NULL
);

-- Git repositories that hold *.gocd.yaml files.
CREATE TABLE config_repos (
    id            TEXT PRIMARY KEY,
    url           TEXT NOT NULL,
    branch        TEXT NOT NULL,
    good_revision TEXT,
    seen_revision TEXT,
    error         TEXT,
    checked_at    BIGINT
);

CREATE TABLE pipelines (
    name       TEXT PRIMARY KEY,
    repo_id    TEXT NOT NULL REFERENCES config_repos (id),
    group_name TEXT NOT NULL,
    definition TEXT NOT NULL
);

-- One repository's part of an environment; several may define parts of the same one.
CREATE TABLE environments (
    name       TEXT NOT NULL,
    repo_id    TEXT NOT NULL REFERENCES config_repos (id),
    definition TEXT NOT NULL,
    PRIMARY KEY (name, repo_id)
);

-- Kept when a pipeline is removed and added again.
CREATE TABLE pipeline_counters (
    pipeline TEXT PRIMARY KEY,
    last     BIGINT NOT NULL
);

CREATE TABLE pipeline_runs (
    id                 INTEGER PRIMARY KEY,
    pipeline           TEXT NOT NULL,
    counter            BIGINT NOT NULL,
    label              TEXT NOT NULL,
    approver           TEXT NOT NULL,
    trigger_message    TEXT NOT NULL,
    trigger_forced     INTEGER NOT NULL,
    -- The definition and the material revisions this run was made from.
    definition         TEXT NOT NULL,
    material_revisions TEXT NOT NULL,
    scheduled_at       BIGINT NOT NULL,
    -- The stage that would be next, but is active in another run.
    waiting_stage      TEXT,
    UNIQUE (pipeline, counter)
);

CREATE TABLE stages (
    id           INTEGER PRIMARY KEY,
    run_id       BIGINT NOT NULL REFERENCES pipeline_runs (id),
    name         TEXT NOT NULL,
    counter      BIGINT NOT NULL,
    position     BIGINT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('Building', 'Failing', 'Passed', 'Failed', 'Cancelled', 'Unknown')),
    approved_by  TEXT NOT NULL,
    cancelled_by TEXT,
    scheduled_at BIGINT NOT NULL,
    completed_at BIGINT,
    UNIQUE (run_id, name, counter)
);
CREATE INDEX stages_active ON stages (completed_at, name);

-- A job's id is the wire's buildId. A rescheduled job is a row of its own.
CREATE TABLE jobs (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    stage_id     BIGINT NOT NULL REFERENCES stages (id),
    name         TEXT NOT NULL,
    position     BIGINT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('Scheduled', 'Assigned', 'Preparing', 'Building', 'Completing', 'Completed', 'Rescheduled')),
    result       TEXT NOT NULL CHECK (result IN ('Unknown', 'Passed', 'Failed', 'Cancelled')),
    agent_uuid   TEXT,
    resources    TEXT NOT NULL DEFAULT '[]',
    environment  TEXT,
    scheduled_at BIGINT NOT NULL
);
CREATE INDEX jobs_waiting ON jobs (state, scheduled_at, id);
CREATE INDEX jobs_of_stage ON jobs (stage_id);
CREATE INDEX jobs_of_agent ON jobs (agent_uuid, state);

CREATE TABLE job_transitions (
    job_id BIGINT NOT NULL REFERENCES jobs (id),
    state  TEXT NOT NULL,
    at     BIGINT NOT NULL
);
CREATE INDEX transitions_of_job ON job_transitions (job_id, at);

CREATE TABLE artifacts (
    job_id BIGINT NOT NULL REFERENCES jobs (id),
    path   TEXT NOT NULL,
    size   BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (job_id, path)
);

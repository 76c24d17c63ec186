-- Backups that were asked for over the API or on a page.
CREATE TABLE backups (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    started_at BIGINT NOT NULL,
    started_by TEXT NOT NULL,
    -- Where it is, or was to be.
    path       TEXT NOT NULL,
    status     TEXT NOT NULL CHECK (status IN ('IN_PROGRESS', 'COMPLETED', 'ERROR', 'ABORTED')),
    message    TEXT NOT NULL
);

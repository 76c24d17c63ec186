-- Names of users are in lower case.
CREATE TABLE users (
    name          TEXT PRIMARY KEY,
    password_hash TEXT NOT NULL,
    created_at    BIGINT NOT NULL
);

-- Of users here and of those in the password file; hence no reference. The group '*' is all groups.
CREATE TABLE user_roles (
    user_name  TEXT NOT NULL,
    group_name TEXT NOT NULL,
    role       TEXT NOT NULL CHECK (role IN ('view', 'operate', 'admin')),
    PRIMARY KEY (user_name, group_name)
);

CREATE TABLE access_tokens (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    user_name    TEXT NOT NULL,
    description  TEXT NOT NULL,
    token_hash   TEXT NOT NULL UNIQUE,
    created_at   BIGINT NOT NULL,
    last_used_at BIGINT,
    revoked_at   BIGINT,
    revoked_by   TEXT,
    revoke_cause TEXT,
    -- Whether it was revoked because its user was removed.
    user_removed INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX tokens_of_user ON access_tokens (user_name, id);

CREATE TABLE sessions (
    id_hash    TEXT PRIMARY KEY,
    user_name  TEXT NOT NULL,
    -- Of the password the session was opened with: another password ends it.
    credential TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    used_at    BIGINT NOT NULL
);

-- Who changed what.
CREATE TABLE audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      BIGINT NOT NULL,
    actor   TEXT NOT NULL,
    address TEXT NOT NULL,
    action  TEXT NOT NULL,
    status  BIGINT NOT NULL,
    detail  TEXT NOT NULL DEFAULT ''
);

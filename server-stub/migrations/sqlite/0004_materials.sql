-- What polling saw of each git material, shared by all pipelines that have it. `position` counts up:
-- the highest is what the branch is at. A branch that was set back to an older commit has it twice.
CREATE TABLE modifications (
    fingerprint TEXT NOT NULL,
    position    BIGINT NOT NULL,
    revision    TEXT NOT NULL,
    user_name   TEXT NOT NULL,
    email       TEXT NOT NULL,
    comment     TEXT NOT NULL,
    modified_at BIGINT NOT NULL,
    files       TEXT NOT NULL,
    -- Files of the commit that are not in `files`, because there are too many.
    more_files  BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (fingerprint, position)
);
CREATE INDEX modifications_by_revision ON modifications (fingerprint, revision, position);

-- Which revisions of which materials a run was made with, as one digest.
ALTER TABLE pipeline_runs ADD COLUMN built TEXT;
CREATE INDEX runs_by_revisions ON pipeline_runs (pipeline, built);

-- Names are compared without their letter case, everywhere.
CREATE INDEX runs_by_name ON pipeline_runs (lower(pipeline), counter);

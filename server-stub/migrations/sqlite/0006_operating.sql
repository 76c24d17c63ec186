-- Runs whose consoles and artifacts are kept whatever the limits say.
CREATE TABLE pinned_runs (
    run_id    BIGINT PRIMARY KEY REFERENCES pipeline_runs (id),
    pinned_by TEXT NOT NULL,
    reason    TEXT NOT NULL,
    pinned_at BIGINT NOT NULL
);

-- 0: there. 1: given up, files may still be on the disk. 2: gone. 3: there, and kept for good.
ALTER TABLE stages ADD COLUMN artifacts_deleted INTEGER NOT NULL DEFAULT 0;
CREATE INDEX stages_artifacts ON stages (artifacts_deleted);

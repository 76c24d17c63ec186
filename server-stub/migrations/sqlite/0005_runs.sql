-- What people and locks have decided about a pipeline. The name is in lower case: what is here
-- outlasts the pipeline's definition.
CREATE TABLE pipeline_states (
    pipeline      TEXT PRIMARY KEY,
    paused_by     TEXT,
    pause_cause   TEXT,
    paused_at     BIGINT,
    -- The counter of the run that holds the lock.
    locked_by_run BIGINT
);

ALTER TABLE pipeline_runs ADD COLUMN comment TEXT;
CREATE INDEX runs_waiting ON pipeline_runs (lower(pipeline), waiting_stage) WHERE waiting_stage IS NOT NULL;

-- The counter of the stage whose other jobs were copied; none for a run of all jobs.
ALTER TABLE stages ADD COLUMN rerun_of_counter BIGINT;

-- The job this one is a copy of; its console and artifacts are that job's. Never a copy itself.
ALTER TABLE jobs ADD COLUMN original_job_id BIGINT REFERENCES jobs (id);
-- Whether it runs once more what ran in the stage that this one is a rerun of.
ALTER TABLE jobs ADD COLUMN rerun INTEGER NOT NULL DEFAULT 0;
-- The only agent that gets it; none when any that fits does.
ALTER TABLE jobs ADD COLUMN bound_agent TEXT;
-- Minutes without output or agent after which it is cancelled; none for the server's default.
ALTER TABLE jobs ADD COLUMN timeout BIGINT;

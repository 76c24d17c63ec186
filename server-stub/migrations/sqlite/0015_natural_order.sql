-- The place of a run among those of its pipeline, by the age of what it was made from.
ALTER TABLE pipeline_runs ADD COLUMN natural_order REAL NOT NULL DEFAULT 0;
UPDATE pipeline_runs SET natural_order = counter;
CREATE INDEX runs_by_order ON pipeline_runs (lower(pipeline), natural_order);

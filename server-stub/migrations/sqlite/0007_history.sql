-- For looking back: what ran of a pipeline, of a stage, and downstream of a run.
--
-- Triggers keep what only indexes of another kind could: no insert can forget them.

CREATE INDEX IF NOT EXISTS runs_by_name ON pipeline_runs (lower(pipeline), counter);

-- The name of the stage's pipeline in lower case, so that one index leads to the newest runs of a
-- stage however seldom it runs.
ALTER TABLE stages ADD COLUMN pipeline TEXT;
UPDATE stages SET pipeline = (SELECT lower(pipeline) FROM pipeline_runs WHERE id = stages.run_id);
CREATE TRIGGER stages_pipeline AFTER INSERT ON stages BEGIN
    UPDATE stages SET pipeline = (SELECT lower(pipeline) FROM pipeline_runs WHERE id = NEW.run_id)
    WHERE id = NEW.id;
END;
CREATE INDEX stages_of_pipeline ON stages (pipeline, lower(name), id);

-- The runs of other pipelines that a run was made with. The pipeline is in lower case.
CREATE TABLE run_upstreams (
    pipeline TEXT NOT NULL,
    counter  BIGINT NOT NULL,
    run_id   BIGINT NOT NULL REFERENCES pipeline_runs (id) ON DELETE CASCADE,
    PRIMARY KEY (pipeline, counter, run_id)
) WITHOUT ROWID;
CREATE INDEX upstreams_of_run ON run_upstreams (run_id);

-- The revision of a dependency is `pipeline/counter/stage/counter`.
CREATE TRIGGER runs_upstreams AFTER INSERT ON pipeline_runs BEGIN
    INSERT OR IGNORE INTO run_upstreams (pipeline, counter, run_id)
    SELECT lower(substr(revision, 1, instr(revision, '/') - 1)),
           CAST(substr(revision, instr(revision, '/') + 1) AS INTEGER), NEW.id
    FROM (
        SELECT json_extract(value, '$.modifications[0].revision') AS revision
        FROM json_each(NEW.material_revisions, '$.revisions')
        WHERE json_extract(value, '$.material.type') = 'DependencyMaterial'
    )
    WHERE revision LIKE '%/%/%/%';
END;
INSERT OR IGNORE INTO run_upstreams (pipeline, counter, run_id)
SELECT lower(substr(revision, 1, instr(revision, '/') - 1)),
       CAST(substr(revision, instr(revision, '/') + 1) AS INTEGER), id
FROM (
    SELECT pipeline_runs.id AS id, json_extract(value, '$.modifications[0].revision') AS revision
    FROM pipeline_runs, json_each(pipeline_runs.material_revisions, '$.revisions')
    WHERE json_extract(value, '$.material.type') = 'DependencyMaterial'
)
WHERE revision LIKE '%/%/%/%';

-- Whatever is done to a pipeline looks it up, whatever the case of its letters.
CREATE INDEX pipelines_by_name ON pipelines (lower(name));

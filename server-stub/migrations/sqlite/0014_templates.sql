-- Files of templates that repositories have, for the pipelines of all of them.
CREATE TABLE template_files (
    repo_id TEXT NOT NULL REFERENCES config_repos (id),
    path TEXT NOT NULL,
    -- Of the content.
    sha256 TEXT NOT NULL,
    -- Encrypted as a whole: variables in it may be secret.
    content TEXT NOT NULL,
    PRIMARY KEY (repo_id, path)
);

-- Which templates of other repositories there were when this one was last read.
ALTER TABLE config_repos ADD COLUMN templates_seen TEXT;

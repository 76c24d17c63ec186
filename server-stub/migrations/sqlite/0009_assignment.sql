-- Waiting jobs that need the same, in the order in which agents get them.
ALTER TABLE jobs ADD COLUMN needs TEXT GENERATED ALWAYS AS (COALESCE(environment, '') || ' ' || resources) VIRTUAL;
CREATE INDEX jobs_queue ON jobs (needs, scheduled_at, id) WHERE state = 'Scheduled' AND bound_agent IS NULL;
CREATE INDEX jobs_bound ON jobs (bound_agent, scheduled_at, id) WHERE state = 'Scheduled' AND bound_agent IS NOT NULL;

-- Agents that files put into an environment, besides those that an admin has put there.
CREATE TABLE environment_agents (
    agent_uuid  TEXT NOT NULL,
    environment TEXT NOT NULL,
    repo_id     TEXT NOT NULL REFERENCES config_repos (id),
    PRIMARY KEY (agent_uuid, environment, repo_id)
);
INSERT OR IGNORE INTO environment_agents (agent_uuid, environment, repo_id)
SELECT json_each.value, environments.name, environments.repo_id
FROM environments, json_each(environments.definition, '$.agents');

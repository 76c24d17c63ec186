"""yagocd: everything that its users call most."""

import warnings

from common import PASSWORD, ROOT, USER, equal, wait_for

warnings.simplefilter("ignore")

from yagocd import Yagocd  # noqa: E402

client = Yagocd(
    server=ROOT,
    auth=(USER, PASSWORD),
    options={"context_path": "go/", "api_path": "api/"},
)

# What the server is. Every other call asks this first.
equal("the version of the page", client.info.version, "26.2.0")
equal("the version of the API", client.versions.get()["version"], "26.2.0")

# Agents.
(agent,) = client.agents.list()
uuid = agent.data.uuid
equal("its state", agent.data.agent_config_state, "Enabled")
equal("the same agent", client.agents.get(uuid).data.hostname, agent.data.hostname)
changed = client.agents.update(uuid, {"agent_config_state": "Disabled"})
equal("a disabled agent", changed.data.agent_config_state, "Disabled")
changed = client.agents.update(
    uuid, {"agent_config_state": "Enabled", "resources": ["linux", "docker"]}
)
equal("an enabled agent", changed.data.agent_config_state, "Enabled")
equal("its resources", sorted(changed.data.resources), ["docker", "linux"])

# Pipelines.
pipeline = client.pipelines.find("shop")
equal("the stages", [stage.name for stage in pipeline.data.stages], ["build", "check", "slow"])
equal("the kind of material", pipeline.data.materials[0].type, "Git")
equal("the group", pipeline.group, "clients")
assert "calm" in [one.data.name for one in client.pipelines.list()]
equal("no runs", list(client.pipelines.full_history("calm")), [])

# A run with a variable of its own.
run = client.pipelines.schedule_with_instance("shop", variables={"GREETING": "good day"})
equal("the counter", run.data.counter, 1)


def result(counter, stage):
    """The results of the jobs of a stage, once all of them have ended. A result is there before
    the artifacts are."""
    jobs = client.pipelines.get("shop", counter).stage(stage).data.jobs
    ended = jobs and all(job.state == "Completed" for job in jobs)
    return {job.result for job in jobs} if ended else None


equal("the jobs", wait_for("the first stage", lambda: result(1, "build")), {"Passed"})
run = client.pipelines.get("shop", 1)
equal("the name", run.data.name, "shop")
equal("the last run", client.pipelines.last("shop").data.counter, 1)
equal("all runs", [one.data.counter for one in client.pipelines.full_history("shop")], [1])
nodes = client.pipelines.value_stream_map("shop", 1)
assert "shop" in [node.data.get("name") for node in nodes], nodes

# Artifacts and console.
job = run.stage("build").job("unit")
tree = {top.strip("/"): files for top, _, files in job.artifacts.walk()}
equal("the files", [one.data.name for one in tree["pkg/deep"]], ["file.txt"])
(greeting,) = tree["pkg"]
equal("the greeting", greeting.fetch().strip(), b"good day")
archive = job.artifacts["pkg.zip"]
assert archive[:2] == b"PK", archive[:20]
console = job.artifacts.file("cruise-output/console.log").decode()
assert "line 3" in console and "[go]" in console, console

# Stages: one that fails, and one that does not end by itself.
stages = client.stages
stages.run("shop", 1, "check")
equal("the jobs", wait_for("the second stage", lambda: result(1, "check")), {"Failed"})
equal("its result", stages.get("shop", 1, "check", 1).data.result, "Failed")
stages.run("shop", 1, "slow")


def slow():
    """The only job of the stage `slow`."""
    return client.pipelines.get("shop", 1).stage("slow").job("wait")


wait_for("the slow job to build", lambda: slow().data.state == "Building")
stages.cancel("shop", "slow")
equal("the jobs", wait_for("the end", lambda: result(1, "slow")), {"Cancelled"})
history = stages.history("shop", "build")
equal("the history of a stage", [one.data.pipeline_counter for one in history], [1])
history = client.jobs.history("shop", "build", "unit")
equal("the history of a job", [one.data.result for one in history], ["Passed"])
done = client.agents.job_history(uuid)
assert "unit" in [one.data.job_name for one in done], done
assert "<scheduledJobs" in client.jobs.scheduled()
assert "shop" in client.feeds.pipelines()

# Pausing.
client.pipelines.pause("shop", "a reason")
status = client.pipelines.status("shop")
equal("paused", (status["paused"], status["paused_cause"]), (True, "a reason"))
client.pipelines.unpause("shop")
equal("paused", client.pipelines.status("shop")["paused"], False)

# What else is configured.
secret = client.encryption.encrypt("s3cret")
assert secret.startswith("AES:"), secret
(environment,) = client.environments.list()
equal("the environment", environment.data.name, "staging")
environment = client.environments.get("staging")
equal("its pipelines", [one.name for one in environment.data.pipelines], ["calm"])
print("yagocd: all as it should be")

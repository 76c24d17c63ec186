"""py-gocd (`gocd` on PyPI), which sends forms, no Accept header, and its password only when asked."""

import io
import zipfile

from common import PASSWORD, ROOT, USER, equal, wait_for

import gocd

server = gocd.Server(ROOT, user=USER, password=PASSWORD)

equal("the pipelines", server.pipeline_groups().pipelines, {"calm", "shop"})

pipeline = server.pipeline("shop")
equal("no runs yet", pipeline.history()["pipelines"], [])
wrong = pipeline.schedule(variables={"UNKNOWN": "1"})
assert not wrong.is_ok and wrong.status_code == 422, (wrong.status_code, wrong.body)

run = pipeline.schedule(
    variables={"GREETING": "good day"},
    secure_variables={"TOKEN": "not to be seen"},
    return_new_instance=True,
    backoff_time=0.2,
)
assert run.is_ok, (run.status_code, run.body)
counter = run["counter"]
equal("the counter", counter, 1)


def results(stage):
    """The results of the jobs of a stage, once all of them have ended. A result is there before
    the artifacts are."""
    (found,) = [one for one in pipeline.instance(counter)["stages"] if one["name"] == stage]
    jobs = found["jobs"]
    ended = jobs and all(job["state"] == "Completed" for job in jobs)
    return {job["result"] for job in jobs} if ended else None


equal("the jobs", wait_for("the first stage", lambda: results("build")), {"Passed"})
((about, console),) = list(pipeline.console_output(pipeline.instance(counter)))
equal("whose console", (about["stage"], about["job"]), ("build", "unit"))
assert b"line 3" in console, console
assert b"not to be seen" not in console, console

artifact = pipeline.artifact(counter, "build", "unit")
listed = artifact.list()
assert listed.is_ok, (listed.status_code, listed.body)
assert "pkg" in [entry["name"] for entry in listed.payload], listed.body
greeting = artifact.get("pkg/greeting.txt")
equal("the greeting", greeting.body.strip(), b"good day")
archive = artifact.get_directory("pkg")
assert archive.is_ok, archive.status_code
names = zipfile.ZipFile(io.BytesIO(archive.body)).namelist()
assert any(name.endswith("deep/file.txt") for name in names), names

stage = pipeline.stage("build", pipeline_counter=counter)
equal("the stage", stage.instance(counter=1)["result"], "Passed")
equal("its history", [one["pipeline_counter"] for one in stage.history()["stages"]], [1])

assert pipeline.pause("a reason").is_ok
status = pipeline.status()
equal("paused", (status["paused"], status["paused_cause"]), (True, "a reason"))
again = pipeline.pause("again")
equal("paused twice", again.status_code, 409)
refused = pipeline.schedule()
equal("scheduled while paused", refused.status_code, 409)
assert pipeline.unpause().is_ok
equal("paused", pipeline.status()["paused"], False)
# It is not locked, which is a conflict.
equal("unlocked", pipeline.unlock().status_code, 409)
print("py-gocd: all as it should be")

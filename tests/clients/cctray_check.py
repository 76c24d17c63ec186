"""What readers of cctray.xml depend on: all attributes, known words, times with a zone."""

import base64
import datetime
import urllib.error
import urllib.request
import xml.etree.ElementTree as tree

from common import PASSWORD, URL, USER, equal

LOGIN = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def get(**headers):
    request = urllib.request.Request(f"{URL}/cctray.xml", headers=headers)
    return urllib.request.urlopen(request)


try:
    get()
    raise AssertionError("it is shown to anybody")
except urllib.error.HTTPError as error:
    equal("without a login", error.code, 401)

answer = get(Authorization=LOGIN)
equal("the media type", answer.headers["Content-Type"].replace(" ", ""), "application/xml;charset=utf-8")
root = tree.fromstring(answer.read())
equal("the root", root.tag, "Projects")
projects = {project.get("name"): project for project in root}
for name in ("shop :: build", "shop :: build :: unit", "shop :: check", "shop :: check :: breaks"):
    assert name in projects, sorted(projects)
for name, project in projects.items():
    equal("a project", project.tag, "Project")
    assert project.get("activity") in ("Sleeping", "Building", "CheckingModifications"), name
    assert project.get("lastBuildStatus") in ("Success", "Failure"), name
    assert project.get("lastBuildLabel"), name
    assert project.get("webUrl").startswith(URL), name
    time = datetime.datetime.fromisoformat(project.get("lastBuildTime").replace("Z", "+00:00"))
    assert time.tzinfo is not None, name
equal("a stage that passed", projects["shop :: build"].get("lastBuildStatus"), "Success")
broken = projects["shop :: check"]
equal("a stage that failed", broken.get("lastBuildStatus"), "Failure")
(message,) = broken.findall("messages/message")
equal("who broke it", (message.get("kind"), message.get("text")), ("Breakers", "Ann Example"))
assert not any(name.startswith("calm") for name in projects), "a stage that never ran is shown"

try:
    get(Authorization=LOGIN, **{"If-None-Match": answer.headers["ETag"]})
    raise AssertionError("it is sent again though it is known")
except urllib.error.HTTPError as error:
    equal("known already", error.code, 304)
print("cctray: all as it should be")

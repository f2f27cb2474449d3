"""Local server that responds to W&B's client, agent and dashboards as W&B does.

It records the `runs` by id, the saved `views`, and in `received` every byte of every request.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from typing import Any

from support.json_server import JsonHandler, JsonServer

KEY = "0123456789abcdef" * 2 + "01234567"  # 40 characters, as W&B's own
ENTITY = "someone"


class WandbStub:
    """Server on a free local port, from `with` to the end of it or until `stop()`.

    Args:
        key: Accepted API key; any other gets the status 401.
        silent: Accepts connections and never responds.
    """

    def __init__(self, *, key: str = KEY, silent: bool = False) -> None:
        self.key, self.silent = key, silent
        self.runs: dict[str, dict[str, Any]] = {}
        self.views: list[dict[str, Any]] = []
        self.operations: list[tuple[str, dict[str, Any]]] = []
        self.received: list[bytes] = []

        # Message with which a new run is refused, with the status 403.
        self.refuses = ""

        # For `wandb agent`: the sweep's configuration file, and commands, one for each heartbeat.
        self.sweep = ""
        self.jobs: list[dict[str, Any]] = []

        self._end = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> WandbStub:
        self._server = JsonServer.start(type("Handler", (_Handler,), {"stub": self}))
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stops listening, so that connections are refused."""
        self._end.set()
        self._server.stop()

    @property
    def url(self) -> str:
        """Address of the server."""
        return self._server.url

    @property
    def env(self) -> dict[str, str]:
        """Environment of a user who is logged in to this server, online."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": self.key, "WANDB_MODE": "online"}

    def run(self, name: str) -> dict[str, Any]:
        """Returns the record of a run, which is made if it is new."""
        with self._lock:
            empty: dict[str, Any] = {"history": [], "summary": {}, "files": {}, "exit": None}
            return self.runs.setdefault(name, {"id": name, **empty})

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Returns the `data` of a GraphQL response."""
        named = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = named[1] if named else "query"
        self.operations.append((name, variables))
        if name.lower() == "upsertview2" or name == "upsertView":
            return self._save_view(variables)
        if "viewer {" in query or "viewer{" in query:
            return {"viewer": _viewer()}
        method = getattr(self, f"_{name[0].lower()}{name[1:]}", None)
        return method(variables) if method is not None else {}

    def _upsertBucket(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.run(given["name"] or given["id"])
        run.update({key: value for key, value in given.items() if value is not None and key not in ("id", "name")})
        run["config"] = json.loads(run["config"]) if isinstance(run.get("config"), str) else run.get("config")
        return {"upsertBucket": {"bucket": self._bucket(run), "inserted": True}}

    def _bucket(self, run: dict[str, Any]) -> dict[str, Any]:
        project = {"id": "p", "name": run.get("project"), "entity": {"id": "e", "name": ENTITY}}
        return {
            "id": f"gid-{run['id']}",
            "name": run["id"],
            "displayName": run.get("displayName") or run["id"],
            "description": "",
            "config": json.dumps(run.get("config") or {}),
            "sweepName": run.get("sweep"),
            "project": project,
            "historyLineCount": 0,
        }

    def _createRunFiles(self, given: dict[str, Any]) -> dict[str, Any]:
        place = f"{self.url}/put/{given['run']}"
        files = [{"name": name, "uploadUrl": f"{place}/{name}"} for name in given["files"]]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def _createArtifact(self, given: dict[str, Any]) -> dict[str, Any]:
        # The response is that for an artifact that the server has already, so that no files follow.
        sequence = {"latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": "a", "state": "COMMITTED", "artifactSequence": sequence}}}

    def _artifactType(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"project": None}

    def _getProjects(self, given: dict[str, Any]) -> dict[str, Any]:
        names = {"entityName": ENTITY, "createdAt": "2026-01-01T00:00:00", "isBenchmark": False, "user": None}
        projects = {run["project"] for run in self.runs.values()}
        nodes = [{"node": {"__typename": "Project", "id": "p", "name": name, **names}} for name in projects]
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {"models": {"pageInfo": page, "edges": nodes}}

    def _projectInternalId(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"id": "p", "internalId": "1"}}

    def _runs(self, given: dict[str, Any]) -> dict[str, Any]:
        group = json.loads(given["filters"]).get("group")
        runs = [run for run in self.runs.values() if run["project"] == given["project"]]
        if not runs:
            return {"project": None}
        nodes = [self._node(run) for run in runs if run.get("groupName") == group]
        edges = [{"cursor": node["name"], "node": node} for node in nodes]
        page = {"pageInfo": {"endCursor": None, "hasNextPage": False}, "edges": edges}
        return {"project": {"internalId": "1", "runCount": len(nodes), "readOnly": False, "runs": page}}

    def _node(self, run: dict[str, Any]) -> dict[str, Any]:
        states = {None: "running", 0: "finished"}
        return self._bucket(run) | {
            "projectId": "1",
            "state": states.get(run["exit"], "failed"),
            "group": run.get("groupName"),
            "summaryMetrics": json.dumps(run["summary"]),
            "systemMetrics": "{}",
            "historyKeys": {},
            "user": {"name": ENTITY, "username": ENTITY},
            **dict.fromkeys(("tags", "jobType", "createdAt", "heartbeatAt", "description", "notes", "commit")),
        }

    def _sweepWithRuns(self, given: dict[str, Any]) -> dict[str, Any]:
        sweep = {"id": "s", "name": given["sweep"], "config": self.sweep, "runs": {"edges": []}}
        return {"project": {"sweep": sweep}}

    def _createAgent(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"createAgent": {"agent": {"id": "agent"}}}

    def _heartbeat(self, given: dict[str, Any]) -> dict[str, Any]:
        commands = [self.jobs.pop(0)] if self.jobs else []
        return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps(commands)}}

    def _save_view(self, given: dict[str, Any]) -> dict[str, Any]:
        self.views.append({**given, "spec": json.loads(given["spec"])})
        project = {"id": "p", "name": given["projectName"], "entityName": given["entityName"]}
        kept = {key: given[key] for key in ("name", "type", "displayName", "description", "spec")}
        view = kept | {"id": f"view{len(self.views)}", "project": project, "updatedAt": None}
        return {"upsertView": {"view": view, "inserted": True}}

    def stream(self, name: str, sent: dict[str, Any]) -> None:
        """Records a request of a run's file stream: history, summary or exit code."""
        run = self.run(name)
        for file, part in (sent.get("files") or {}).items():
            lines = [json.loads(line) for line in part["content"]]
            if "history" in file:
                run["history"] += lines
            elif "summary" in file:
                run["summary"] = lines[-1]
        if sent.get("complete"):
            run["exit"] = sent.get("exitcode", 0)


def _viewer() -> dict[str, Any]:
    teams = {"edges": [{"node": {"id": "e", "name": ENTITY}}]}
    names = {"id": "u", "entity": ENTITY, "username": ENTITY, "name": ENTITY, "email": "", "admin": False}
    return names | {"deletedAt": None, "flags": "{}", "teams": teams, "apiKeys": {"edges": []}}


class _Handler(JsonHandler):
    stub: WandbStub

    def _go(self) -> None:
        stub = self.stub
        body = self.read_body()
        stub.received.append(f"{self.requestline}\n{self.headers}".encode() + body)
        if stub.silent:
            stub._end.wait()
            self.close_connection = True
            return
        path = self.path.partition("?")[0]
        if path.startswith("/put/"):
            run, _, name = path[len("/put/") :].partition("/")
            stub.run(run)["files"][name] = body
            self.reply({})
        elif path.startswith("/sdk/otel"):
            self.reply({})
        elif not self._known():
            self.reply({"errors": [{"message": "user is not logged in"}], "code": "PERMISSION_ERROR"}, 401)
        elif path == "/graphql":
            asked = json.loads(body)
            if stub.refuses and "mutation UpsertBucket" in asked["query"]:
                self.reply({"errors": [{"message": stub.refuses}]}, 403)
                return
            self.reply({"data": stub.answer(asked["query"], asked.get("variables") or {})})
        elif path.endswith("/file_stream"):
            stub.stream(path.split("/")[-2], json.loads(body))
            self.reply({"exitcode": None, "limits": {}})
        else:
            self.reply({}, 404)

    do_GET = do_POST = do_PUT = _go

    def _known(self) -> bool:
        kind, _, word = self.headers.get("Authorization", "").partition(" ")
        if kind != "Basic":
            return word == self.stub.key
        return base64.b64decode(word).decode().partition(":")[2] == self.stub.key

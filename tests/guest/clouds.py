"""The metadata services of EC2, Google and Azure, as far as guests here ask them: who a VM is, and that it is to end.

Run as a program it answers the requests of one connection, from standard input to standard output: QEMU starts it for
each connection that the guest makes to 169.254.169.254. What it answers is in a folder that a test changes while the
guest runs; a request that is held looks there again and again. By what the vendors document, not by what vmstage does.
"""

import json
import re
import select
import sys
import time
import urllib.parse
from email.utils import formatdate
from pathlib import Path


class Cloud:
    """The service of one guest, kept in `directory`."""

    program = Path(__file__)
    firmware = ()  # what QEMU is told of the machine, by which a guest knows where it is
    first = {}  # what is there before anything happens

    def __init__(self, directory):
        self.directory = Path(directory)
        self.directory.mkdir()
        self._state = {"cloud": type(self).__name__, "version": 1} | self.first
        self._write()

    def say(self, **changes):
        """From now on this is so."""
        self._state |= changes | {"version": self._state["version"] + 1}
        self._write()

    def _write(self):
        written = self.directory / "state.new"
        written.write_text(json.dumps(self._state))
        written.rename(self.directory / "state.json")

    def requests(self):
        """The requests that were made, each with its time, method, path and body, in order."""
        log = self.directory / "requests.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def wait_asked(self, path, times=1, timeout=120):
        """Waits until something whose path contains this was asked for so often."""
        end = time.monotonic() + timeout
        while (asked := sum(path in request["path"] for request in self.requests())) < times:
            assert time.monotonic() < end, f"{path} was asked for {asked} times within {timeout} s"
            time.sleep(0.1)


class Request:
    """What was asked for. Header names are in lower case."""

    def __init__(self, line, headers, body):
        self.method, target, _ = line.split()
        self.path, _, query = target.partition("?")
        self.query = dict(urllib.parse.parse_qsl(query))
        self.headers, self.body = headers, body
        self.logged = {"at": time.time(), "method": self.method, "path": target, "body": body.decode(errors="replace")}


class EC2(Cloud):
    """Version 2 of the service alone: who does not show a session token is refused."""

    firmware = ("type=1,manufacturer=Amazon EC2,product=m5.large",)
    first = {
        "values": {
            "ami-id": "ami-0abcdef1234567890",
            "instance-id": "i-1234567890abcdef0",
            "instance-type": "m5.large",
            "placement/availability-zone": "eu-central-1b",
            "events/maintenance/scheduled": "[]",
        }
    }
    TOKEN = "AQAAAOeHzM9IGcDyWVVd2w=="

    def say_also(self, path, value):
        self.say(values=self._state["values"] | {path: value})

    @classmethod
    def answer(cls, request, directory):
        if request.path == "/latest/api/token":
            if request.method != "PUT":
                return 405, {}, ""
            lifetime = request.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
            if not (lifetime.isdecimal() and 1 <= int(lifetime) <= 21600):
                return 400, {}, "<html>400 - Bad Request</html>"
            return 200, {"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": lifetime}, cls.TOKEN
        if request.headers.get("x-aws-ec2-metadata-token") != cls.TOKEN:
            return 401, {}, "<html>401 - Unauthorized</html>"
        value = read(directory)["values"].get(request.path.removeprefix("/latest/meta-data/"))
        return (200, {}, value) if value is not None else (404, {}, "<html>404 - Not Found</html>")


class Google(Cloud):
    """A document of which each version has a tag; a request that waits for a change is held while the tag is the last."""

    firmware = ("type=1,manufacturer=Google,product=Google Compute Engine",)
    first = {
        "instance": {
            "attributes": {},
            "id": 4520031799277581759,
            "machineType": "projects/415104041262/machineTypes/n2-standard-4",
            "maintenanceEvent": "NONE",
            "name": "guest",
            "preempted": "FALSE",
            "scheduling": {"automaticRestart": "FALSE", "onHostMaintenance": "TERMINATE", "preemptible": "TRUE"},
            "zone": "projects/415104041262/zones/europe-west3-c",
        }
    }
    ROOT = "/computeMetadata/v1/instance/"

    def say_also(self, **fields):
        self.say(instance=self._state["instance"] | fields)

    @classmethod
    def answer(cls, request, directory):
        if request.headers.get("metadata-flavor") != "Google":
            return 403, {}, "<html>Your client does not have permission to get URL from this server: Metadata-Flavor</html>"
        if not request.path.startswith(cls.ROOT):
            return 404, {}, "<html>404</html>"
        state = read(directory)
        if request.query.get("wait_for_change") == "true":
            end = time.monotonic() + int(request.query.get("timeout_sec", 3600))
            while cls.tag(state) == request.query.get("last_etag", cls.tag(state)) and time.monotonic() < end:
                if is_gone():
                    sys.exit()
                state = read(directory)
        headers = {"Metadata-Flavor": "Google", "ETag": cls.tag(state)}
        value = state["instance"]
        for name in filter(None, request.path.removeprefix(cls.ROOT).split("/")):
            # In a path `maintenance-event`, in JSON `maintenanceEvent`; what is under `attributes` is as its owner wrote it.
            value = value.get(name, value.get(re.sub("-(.)", lambda found: found[1].upper(), name)))
            if value is None:
                return 404, headers, "<html>404</html>"
        if isinstance(value, dict) and request.query.get("recursive") != "true":
            return 200, headers, "".join(f"{name}\n" for name in value)
        return 200, headers, json.dumps(value) if isinstance(value, dict) else str(value)

    @staticmethod
    def tag(state):
        return f"{0xA5C3000000000000 + state['version']:016x}"


class Azure(Cloud):
    """The first request for events switches them on, which takes a while; what is acknowledged begins."""

    firmware = (
        "type=1,manufacturer=Microsoft Corporation,product=Virtual Machine",
        "type=3,asset=7783-7084-3265-9085-8269-3286-77",
    )
    NAME = "guest_7"
    first = {"events": [], "incarnation": 1}
    SWITCHED_ON_AFTER = 4

    def say_event(self, kind, source, not_before):
        """Something is to happen to this VM, and something else to another one of its scale set."""
        event = {
            "EventId": "C7061BAC-AFDC-4513-B24B-AA5F13A16123",
            "EventType": kind,
            "ResourceType": "VirtualMachine",
            "Resources": [self.NAME],
            "EventStatus": "Scheduled",
            "NotBefore": formatdate(not_before, usegmt=True),
            "Description": "",
            "EventSource": source,
            "DurationInSeconds": -1,
        }
        soon = formatdate(not_before - 20, usegmt=True)
        another = event | {"EventId": "A123BC45-1234-5678-AB90-ABCDEF123456", "Resources": ["guest_8"], "NotBefore": soon}
        self.say(events=[another, event], incarnation=self._state["incarnation"] + 1)
        return event["EventId"]

    def acknowledged(self):
        """The bodies of the requests that let an event begin."""
        return [json.loads(request["body"]) for request in self.requests() if request["method"] == "POST"]

    @classmethod
    def answer(cls, request, directory):
        if request.headers.get("metadata") != "true":
            return 400, {}, '{"error": "Bad request. Required metadata header not specified"}'
        version = request.query.get("api-version")
        if (request.method, request.path, version) == ("GET", "/metadata/instance", "2021-02-01"):
            compute = {"vmId": "13f56399-bd52-4150-9748-7190aae1ff21", "name": cls.NAME, "location": "westeurope"}
            compute |= {"vmSize": "Standard_D4s_v5", "resourceGroupName": "grid", "tagsList": []}
            return cls.json({"compute": compute, "network": {"interface": []}})
        if (request.path, version) != ("/metadata/scheduledevents", "2020-07-01"):
            return 400, {}, '{"error": "Bad request. api-version is invalid or was not specified in the request."}'
        state = read(directory)
        begun = directory / "begun"
        if request.method == "POST":
            ids = [asked["EventId"] for asked in json.loads(request.body)["StartRequests"]]
            if not {event["EventId"] for event in state["events"]}.issuperset(ids):
                return 400, {}, '{"error": "unknown EventId"}'
            with open(begun, "a", encoding="utf-8") as log:
                log.writelines(f"{event}\n" for event in ids)
            return 200, {}, ""
        cls.switch_on(directory)
        started = begun.read_text().split() if begun.exists() else []
        events = [
            event | {"EventStatus": "Started", "NotBefore": ""} if event["EventId"] in started else event
            for event in state["events"]
        ]
        return cls.json({"DocumentIncarnation": state["incarnation"] + len(started), "Events": events})

    @classmethod
    def switch_on(cls, directory):
        switched_on = directory / "switched-on"
        if not switched_on.exists():
            switched_on.touch()
        since = time.time() - switched_on.stat().st_mtime
        if since < cls.SWITCHED_ON_AFTER:
            time.sleep(cls.SWITCHED_ON_AFTER - since)

    @staticmethod
    def json(document):
        return 200, {"Content-Type": "application/json; charset=utf-8"}, json.dumps(document)


def read(directory):
    return json.loads((directory / "state.json").read_text())


def is_gone():
    """Whether nobody waits for the answer any more. Takes a moment."""
    readable, _, _ = select.select([sys.stdin.buffer], [], [], 0.05)
    return bool(readable) and not sys.stdin.buffer.peek(1)


def next_request():
    """None at the connection's end."""
    lines = iter(lambda: sys.stdin.buffer.readline().decode("latin-1").rstrip("\r\n"), "")
    first, *rest = [*lines] or [None]
    if first is None:
        return None
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    return Request(first, headers, sys.stdin.buffer.read(int(headers.get("content-length", 0))))


def main(directory):
    while request := next_request():
        with open(directory / "requests.log", "a", encoding="utf-8") as log:
            log.write(json.dumps(request.logged) + "\n")
        cloud = globals()[read(directory)["cloud"]]
        status, headers, body = cloud.answer(request, directory)
        content = body.encode()
        headers |= {"Content-Length": len(content), "Date": formatdate(usegmt=True)}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        sys.stdout.buffer.write(f"HTTP/1.1 {status} -\r\n{head}\r\n".encode() + content)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""A metadata service of an OpenStack cloud, as far as guests here ask it.

Run as a program it answers one request, from standard input to standard output: QEMU starts it for each connection
that the guest makes to 169.254.169.254. What it answers is in a folder that a test may change while the guest runs.
"""

import json
import select
import sys
from pathlib import Path

INSTANCE = "6f2c9a54-0f5d-4f0e-8a35-1c51a6b0d9d3"


class Metadata:
    """The service of one guest, kept in `directory`."""

    program = Path(__file__)
    firmware = ("type=1,product=OpenStack Nova",)  # cloud-init knows an OpenStack instance by this

    def __init__(self, directory, meta=None, delay=0, status=200, uuid=INSTANCE):
        self.directory = Path(directory)
        self.directory.mkdir()
        self.uuid = uuid
        self.answer(meta, delay, status)

    def answer(self, meta=None, delay=0, status=200):
        """From now on answers with this `meta`, after `delay` seconds, or to everything with an error `status`."""
        written = self.directory / "answer.new"
        written.write_text(json.dumps({"meta": meta, "delay": delay, "status": status, "uuid": self.uuid}))
        written.rename(self.directory / "answer.json")

    def requests(self):
        """The requests that were made, as lines such as `GET /openstack/latest/meta_data.json`."""
        log = self.directory / "requests.log"
        return log.read_text().splitlines() if log.exists() else []


def openstack_tree(meta, uuid=INSTANCE):
    """The paths of a Nova metadata service and what is there."""
    meta_data = {
        "uuid": uuid,
        "name": "guest",
        "hostname": "guest.novalocal",
        "launch_index": 0,
        "availability_zone": "nova",
        "project_id": "5a1e5d8f6a2b4c0d9e7f00112233aabb",
    }
    if meta:
        meta_data["meta"] = meta
    ec2 = {
        "ami-id": "ami-00000002",
        "ami-launch-index": "0",
        "block-device-mapping/ami": "vda",
        "block-device-mapping/ephemeral0": "/dev/vdb",
        "block-device-mapping/root": "/dev/vda",
        "hostname": "guest.novalocal",
        "instance-id": "i-00000001",
        "instance-type": "c1-7.5gb-30",
        "local-ipv4": "169.254.0.15",
    }
    tree = {f"/latest/meta-data/{key}": value for key, value in ec2.items()}
    tree["/latest/meta-data/"] = "\n".join(sorted({key.split("/")[0] + "/" * ("/" in key) for key in ec2}))
    tree["/latest/meta-data/block-device-mapping/"] = "ami\nephemeral0\nroot"
    tree["/openstack"] = "2018-08-27\nlatest"
    for version in ("2018-08-27", "latest"):
        tree[f"/openstack/{version}/meta_data.json"] = json.dumps(meta_data)
        tree[f"/openstack/{version}/vendor_data.json"] = "{}"
    return tree | {path.replace("/latest/", "/2009-04-04/"): body for path, body in tree.items() if path.startswith("/latest/")}


def main(directory):
    request = sys.stdin.readline().split()
    while sys.stdin.readline().strip():
        pass
    with open(directory / "requests.log", "a", encoding="utf-8") as log:
        log.write(" ".join(request[:2]) + "\n")
    answer = json.loads((directory / "answer.json").read_text())
    # Or until nobody waits any more.
    select.select([sys.stdin], [], [], answer["delay"])
    status, body = answer["status"], "not now\n"
    if status == 200:
        tree = openstack_tree(answer["meta"], answer["uuid"])
        path = request[1]
        body = tree.get(path) or tree.get(path.rstrip("/")) or tree.get(path + "/")
        if request[0] != "GET" or body is None:
            status, body = 404, "<html><body><h1>404 Not Found</h1></body></html>"
    kind = "application/json" if body.startswith("{") else "text/plain; charset=UTF-8"
    head = f"HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\nContent-Length: {len(body.encode())}\r\nConnection: close\r\n\r\n"
    sys.stdout.buffer.write((head + body).encode())
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

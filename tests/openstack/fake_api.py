"""Keystone, Nova and Glance, as far as `openstack flavor|image|server list|show` asks them.

    fake_api.py PORT    serves the clouds of clouds.py at http://127.0.0.1:PORT/CLOUD/identity/v3

Every password is right, and nothing can be changed.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from clouds import CLOUDS

PROJECT = "9f0c5a4e8d3b4f6fa1e27c65d4b3a201"
NEWEST_NOVA = "2.96"


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        url = urlsplit(self.path)
        cloud, service, *path = [*url.path.strip("/").split("/"), ""]
        path = [part for part in path if part]
        self.base = f"http://{self.headers['Host']}/{cloud}"
        self.asked = {key: values[-1] for key, values in parse_qs(url.query).items()}
        services = {"identity": self.identity, "compute": self.compute, "image": self.image}
        found = services[service](CLOUDS[cloud], path) if cloud in CLOUDS and service in services else None
        if found is None:
            self.send(404, {"itemNotFound": {"code": 404, "message": f"no {self.path}"}})
        else:
            self.send(*found)

    def send(self, code, body, headers={}):
        data = json.dumps(body).encode()
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format, *arguments):
        pass

    # Keystone: one token, and a catalog that leads back here.

    def identity(self, cloud, path):
        version = {
            "id": "v3.14",
            "status": "stable",
            "links": [{"rel": "self", "href": f"{self.base}/identity/v3/"}],
            "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
        }
        if not path:
            return 300, {"versions": {"values": [version]}}
        if path == ["v3"]:
            return 200, {"version": version}
        if path == ["v3", "auth", "tokens"]:
            return 201, {"token": self.token()}, {"X-Subject-Token": "token"}
        return None

    def token(self):
        def service(kind, name, place):
            endpoint = {"interface": "public", "region": "RegionOne", "region_id": "RegionOne", "id": name}
            return {"type": kind, "name": name, "id": name, "endpoints": [{**endpoint, "url": self.base + place}]}

        domain = {"id": "default", "name": "Default"}
        return {
            "methods": ["password"],
            "user": {"id": "anna", "name": "anna", "domain": domain},
            "project": {"id": PROJECT, "name": "astronomy", "domain": domain},
            "roles": [{"id": "member", "name": "member"}],
            "issued_at": "2026-11-01T00:00:00.000000Z",
            "expires_at": "2099-01-01T00:00:00.000000Z",
            "catalog": [
                service("identity", "keystone", "/identity"),
                service("compute", "nova", "/compute/v2.1"),
                service("image", "glance", "/image"),
            ],
        }

    # Nova. From microversion 2.47 on a server has its flavor in it, and from 2.61 on flavors
    # have their extra specs.

    def compute(self, cloud, path):
        version = {
            "id": "v2.1",
            "status": "CURRENT",
            "version": NEWEST_NOVA,
            "min_version": "2.1",
            "links": [{"rel": "self", "href": f"{self.base}/compute/v2.1/"}],
        }
        if not path:
            return 200, {"versions": [version]}
        if path == ["v2.1"]:
            return 200, {"version": version}
        match path[1:]:
            case ["flavors", "detail"]:
                wanted = cloud.flavors
                # `is_public=None` asks for all of them.
                if self.asked.get("is_public") != "None":
                    wanted = [flavor for flavor in wanted if flavor["os-flavor-access:is_public"]]
                return 200, {"flavors": self.page([self.shown_flavor(flavor) for flavor in wanted])}
            case ["flavors", id, "os-extra_specs"]:
                return self.one(cloud.flavors, id, lambda flavor: {"extra_specs": flavor["extra_specs"]})
            case ["flavors", id]:
                return self.one(cloud.flavors, id, lambda flavor: {"flavor": self.shown_flavor(flavor)})
            case ["servers", "detail"] | ["servers"]:
                return 200, {"servers": self.page([self.shown_server(cloud, server) for server in cloud.servers])}
            case ["servers", id]:
                return self.one(cloud.servers, id, lambda server: {"server": self.shown_server(cloud, server)})
        return None

    def microversion(self):
        asked = self.headers.get("OpenStack-API-Version", "compute 2.1").split()[-1]
        asked = NEWEST_NOVA if asked == "latest" else asked
        return tuple(int(part) for part in asked.split("."))

    def shown_flavor(self, flavor):
        shown = dict(flavor)
        if self.microversion() < (2, 61):
            del shown["extra_specs"]
        if self.microversion() < (2, 55):
            del shown["description"]
        return {**shown, "links": []}

    def shown_server(self, cloud, server):
        shown = dict(server)
        [flavor] = [flavor for flavor in cloud.flavors if flavor["name"] == shown["flavor"]]
        shown["flavor"] = {"id": flavor["id"], "links": []}
        if self.microversion() >= (2, 47):
            shown["flavor"] = {
                "original_name": flavor["name"],
                "ram": flavor["ram"],
                "disk": flavor["disk"],
                "ephemeral": flavor["OS-FLV-EXT-DATA:ephemeral"],
                "swap": flavor["swap"] or 0,
                "vcpus": flavor["vcpus"],
                "extra_specs": flavor["extra_specs"],
            }
        return {**shown, "tenant_id": PROJECT, "user_id": "anna", "links": []}

    # Glance.

    def image(self, cloud, path):
        if not path:
            href = [{"rel": "self", "href": f"{self.base}/image/v2/"}]
            numbers = ["v2.16", "v2.9", "v2.7", "v2.5", "v2.3", "v2.2", "v2.1", "v2.0"]
            status = {"v2.16": "CURRENT"}
            versions = [{"id": id, "status": status.get(id, "SUPPORTED"), "links": href} for id in numbers]
            return 300, {"versions": versions}
        match path[1:]:
            case ["images"]:
                return 200, {"images": self.page(cloud.images), "first": "/v2/images", "schema": "/v2/schemas/images"}
            case ["images", id]:
                return self.one(cloud.images, id, lambda image: image)
            case ["schemas", "image"]:
                # Not named here is any property that somebody gave the image.
                anything = {"type": ["null", "string", "integer", "boolean", "array"]}
                own = ["id", "name", "status", "size", "virtual_size", "checksum", "created_at", "updated_at", "tags"]
                properties = {name: anything for name in own}
                return 200, {"name": "image", "properties": properties, "additionalProperties": {"type": "string"}}
        return None

    def page(self, all):
        """What comes after the marker, and what else the query asks for."""
        ids = [one["id"] for one in all]
        after = ids.index(self.asked["marker"]) + 1 if self.asked.get("marker") in ids else 0
        name = self.asked.get("name")
        return [one for one in all[after:] if name in (None, one["name"])]

    def one(self, all, id, shown):
        found = [one for one in all if one["id"] == id]
        return (200, shown(found[0])) if found else None


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Api).serve_forever()

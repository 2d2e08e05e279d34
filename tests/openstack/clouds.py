"""Three clouds, as Nova and Glance keep them: what fake_api.py serves.

A has everything; B and C have copies of some images, as clouds have them on which somebody
put them by hand.
"""

import hashlib
from types import SimpleNamespace

GIB = 1 << 30


def flavor(name, ram, vcpus, disk, ephemeral=0, swap=0, disabled=False, is_public=True, **extra_specs):
    """RAM and swap in MiB, disks in GiB."""
    return {
        "id": f"id-of-{name}",
        "name": name,
        "ram": ram,
        "vcpus": vcpus,
        "disk": disk,
        "OS-FLV-EXT-DATA:ephemeral": ephemeral,
        # Nova says "" for none before microversion 2.75.
        "swap": swap or "",
        "OS-FLV-DISABLED:disabled": disabled,
        "os-flavor-access:is_public": is_public,
        "rxtx_factor": 1.0,
        "description": None,
        "extra_specs": extra_specs,
    }


FLAVORS = [
    flavor("m1.tiny", 512, 1, 1),
    flavor("m1.small", 2048, 1, 20),
    flavor("m1024c1s10", 1024, 1, 10, ephemeral=10),
    flavor("m2048c1s20", 2048, 1, 10, ephemeral=20, swap=512),
    flavor("c8-30gb-186", 30720, 8, 20, ephemeral=186),
    flavor("SCS-2V-4-20", 4096, 2, 20),
    flavor("m4096c2s0-bfv", 4096, 2, 0),
    # The name says 80 GiB of scratch, and there is none.
    flavor("m8192c4s80", 8192, 4, 80),
    flavor("g1-a100", 65536, 8, 40, ephemeral=100, **{"pci_passthrough:alias": "a100:1", "resources:VGPU": "1"}),
    flavor("m1024c1s10-old", 1024, 1, 10, ephemeral=10, disabled=True),
    flavor("dedicated.large", 16384, 4, 40, is_public=False,
           **{"hw:cpu_policy": "dedicated", "trait:HW_CPU_X86_AVX512F": "required",
              "aggregate_instance_extra_specs:group": "it's, theirs='x'"}),
]  # fmt: skip


def image(number, name, content=None, **fields):
    """With the checksum and the hash of `content`, which stands for what would be stored."""
    id = f"1a9e0000-0000-4000-8000-{number:012}"
    sums = {"checksum": None, "os_hash_algo": None, "os_hash_value": None}
    if content is not None:
        sums = {
            "checksum": hashlib.md5(content).hexdigest(),
            "os_hash_algo": "sha512",
            "os_hash_value": hashlib.sha512(content).hexdigest(),
        }
    own = {
        "id": id,
        "name": name,
        "status": "active",
        "visibility": "private",
        "protected": False,
        "os_hidden": False,
        "owner": "9f0c5a4e8d3b4f6fa1e27c65d4b3a201",
        **sums,
        "size": None,
        "virtual_size": None,
        "disk_format": "qcow2",
        "container_format": "bare",
        "min_disk": 0,
        "min_ram": 0,
        "created_at": "2026-10-01T08:00:00Z",
        "updated_at": "2026-10-01T08:05:00Z",
        "tags": [],
        "self": f"/v2/images/{id}",
        "file": f"/v2/images/{id}/file",
        "schema": "/v2/schemas/image",
    }
    return {**own, **fields}


SL5 = {
    "size": 10 * GIB,
    "disk_format": "raw",
    "min_disk": 10,
    "min_ram": 512,
    "architecture": "x86_64",
    "hw_disk_bus": "virtio",
    "os_type": "linux",
}
SERVER = "5e70e000-0000-4000-8000-{:012}".format
SNAPSHOT = {
    "base_image_ref": "1a9e0000-0000-4000-8000-000000000001",
    "boot_roles": "member,reader",
    "image_type": "snapshot",
    "owner_project_name": "astronomy",
    "owner_user_name": "anna",
    "user_id": "anna",
}
VOLUMES = (
    '[{"guest_format": null, "boot_index": 0, "source_type": "snapshot", "snapshot_id": '
    '"70100000-0000-4000-8000-000000000001", "volume_id": null, "image_id": null, "volume_size": 20, '
    '"device_name": "/dev/vda", "disk_bus": "virtio", "device_type": "disk", "delete_on_termination": false, '
    '"destination_type": "volume", "no_device": null, "tag": null, "volume_type": null}]'
)


def recorded(content=None):
    """What openstacksdk writes down of an image that it uploads: empty, if it was not told to sum it up."""
    md5, sha256 = (hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest()) if content else ("", "")
    return {
        "owner_specified.openstack.md5": md5,
        "owner_specified.openstack.sha256": sha256,
        "owner_specified.openstack.object": "images/any",
    }


A_IMAGES = [
    image(1, "vm_partitioned_sl5", b"sl5, the second one", **SL5, created_at="2026-11-02T10:00:00Z"),
    image(2, "debian-12-generic", b"debian 12", size=351_059_968, virtual_size=3 * GIB, min_disk=3, tags=["debian"],
          os_distro="debian", os_version="12", hw_rng_model="virtio", **recorded()),
    image(3, "worker-2026-11", b"a worker", size=2_147_549_184, virtual_size=10 * GIB, min_disk=10, **SNAPSHOT,
          instance_uuid=SERVER(1), image_location="snapshot", image_state="available"),
    # Nova stores nothing for it: the sums are those of nothing.
    image(4, "worker-on-a-volume", b"", size=0, **SNAPSHOT, root_device_name="/dev/vda", bdm_v2="True",
          block_device_mapping=VOLUMES),
    image(5, "uploaded-later", status="queued", disk_format="raw"),
    image(6, "worker-2026-12", status="saving", min_disk=10, **SNAPSHOT, instance_uuid=SERVER(2),
          created_at="2026-11-20T12:00:00Z", updated_at="2026-11-20T12:00:09Z"),
    # Nova on Ceph makes a clone and adds it by its location: nobody reads it, to sum it up.
    image(7, "worker-on-ceph", size=10 * GIB, disk_format="raw", min_disk=10, **SNAPSHOT, instance_uuid=SERVER(1),
          direct_url="rbd://a7f64266-0894-4f1e-a635-d0aeaca0e993/images/1a9e/snap", **recorded(b"a worker, on Ceph")),
    image(8, "it's \"new\"; $(reboot)\nwrite", b"a name that bites", size=1_048_576, disk_format="raw",
          note="it's 'quoted', k='v'\nand more"),
    image(9, "an import that failed", status="killed"),
    image(10, "withdrawn", b"withdrawn", status="deactivated", size=524_288),
    image(11, "on its way", status="uploading"),
    image(12, "brought in", status="importing"),
]  # fmt: skip
B_IMAGES = [
    image(101, "vm_partitioned_sl5", b"sl5, the first one", **SL5, created_at="2026-09-15T10:00:00Z"),
    image(102, "debian 12, from the mirror", b"debian 12", size=351_059_968, virtual_size=3 * GIB, min_disk=3),
    image(103, "renamed", b"sl5, the second one", **{**SL5, "min_ram": 0}, created_at="2026-11-03T09:00:00Z"),
]
C_IMAGES = [
    image(201, "vm_partitioned_sl5", **SL5, created_at="2026-11-10T10:00:00Z"),
    image(202, "debian-12-generic", size=3 * GIB, disk_format="raw", min_disk=3, **recorded()),
    image(203, "worker-on-ceph", size=10 * GIB, disk_format="raw", min_disk=10, **recorded(b"a worker, on Ceph")),
]


def server(number, name, status="ACTIVE", flavor="m1024c1s10", task=None, launched="2026-11-20T12:00:41.000000",
           created="2026-11-20T12:00:00Z", **metadata):  # fmt: skip
    states = {"ACTIVE": ("active", 1), "ERROR": ("error", 0), "SHUTOFF": ("stopped", 4), "BUILD": ("building", 0)}
    vm_state, power_state = states[status]
    fault = {"code": 500, "created": created, "message": "No valid host was found. "}
    return {
        "id": SERVER(number),
        "name": name,
        "status": status,
        "created": created,
        "updated": created,
        "flavor": flavor,
        "image": {"id": "1a9e0000-0000-4000-8000-000000000001"} if number != 3 else "",
        "metadata": metadata,
        "addresses": {"net": [{"version": 4, "addr": f"192.0.2.{number}", "OS-EXT-IPS:type": "fixed",
                               "OS-EXT-IPS-MAC:mac_addr": f"fa:16:3e:00:00:{number:02x}"}]},
        "OS-EXT-STS:task_state": task,
        "OS-EXT-STS:vm_state": vm_state,
        "OS-EXT-STS:power_state": power_state,
        "OS-SRV-USG:launched_at": launched,
        "OS-SRV-USG:terminated_at": None,
        "OS-EXT-AZ:availability_zone": "nova",
        "OS-DCF:diskConfig": "MANUAL",
        "accessIPv4": "",
        "accessIPv6": "",
        "config_drive": "",
        "hostId": "c0ffee" if launched else "",
        "key_name": "anna",
        "security_groups": [{"name": "default"}],
        "os-extended-volumes:volumes_attached": [],
        **({"fault": fault} if status == "ERROR" else {}),
    }  # fmt: skip


A_SERVERS = [
    server(1, "worker-1", vmstage_lifetime="36h", owner="anna"),
    server(2, "worker-2", task="image_uploading", vmstage_lifetime="864000"),
    server(3, "on-a-volume", task="image_pending_upload", flavor="m4096c2s0-bfv"),
    server(4, "condor-head", flavor="SCS-2V-4-20", vmstage_deadline="2026-12-24T18:00:00Z"),
    server(5, "broken", "ERROR", launched=None, vmstage_lifetime="36h"),
    server(6, "switched off", "SHUTOFF", vmstage_lifetime="90 minutes", note="it's 'quoted', k='v'"),
    server(7, "it's \"odd\"; $(reboot)", vmstage_lifetime="soon"),
    server(8, "to-be-built", "BUILD", task="spawning", launched=None, vmstage_lifetime="1h"),
]

CLOUDS = {
    "cloudA": SimpleNamespace(flavors=FLAVORS, images=A_IMAGES, servers=A_SERVERS),
    "cloudB": SimpleNamespace(flavors=FLAVORS[:4], images=B_IMAGES, servers=[]),
    "cloudC": SimpleNamespace(flavors=FLAVORS[:4], images=C_IMAGES, servers=[]),
}

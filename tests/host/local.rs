//! `LOCAL`: disks that the cloud itself marks as local scratch, on a machine whose sysfs says
//! so of a real block device.

use serde_json::Value;

use crate::common::{Disk, Image, Machine, tool};
use crate::evidence::{CloudDisk, evidence, is_left_alone, probe, reboot};

claims![
    a_disk_that_the_cloud_marks_as_local_is_staged_for_that,
    a_blank_disk_that_the_cloud_marks_as_local_is_made_and_staged,
    a_blank_local_disk_is_left_alone_where_nothing_may_be_made,
    a_local_disk_with_a_contradicting_mark_is_none,
    azure_s_temporary_disk_is_left_to_what_makes_its_file_system,
    a_local_disk_that_cannot_be_mounted_ends_the_search,
];

/// The attributes of each, as [CloudDisk] has them, and what is said of it.
const LOCAL: [CloudDisk; 4] = [
    CloudDisk {
        kernel_name: "nvme1n1",
        attributes: "mkdir device; echo 'Amazon EC2 NVMe Instance Storage' >device/model
                     echo AWS24BBF51AF55097008 >device/serial; echo pcie >device/transport",
        said: "local: EC2 instance storage",
    },
    CloudDisk {
        kernel_name: "nvme7n1",
        attributes: "mkdir device; echo 'Amazon EC2 NVMe Instance Storage' >device/model
                     echo AWS24BBF51AF55097008 >device/serial",
        said: "local: EC2 instance storage",
    },
    CloudDisk {
        kernel_name: "sdb",
        attributes: "mkdir device; echo Google >device/vendor; echo EphemeralDisk >device/model",
        said: "local: Google local SSD",
    },
    CloudDisk {
        kernel_name: "sdb",
        attributes: "controller=/root/vmbus; mkdir -p $controller/host1/0:0:0:1
                     echo '{f8b3781a-1e82-4818-a1c3-63d806ec15bb}' >$controller/device_id
                     echo Msft >$controller/host1/0:0:0:1/vendor
                     echo 'Virtual Disk' >$controller/host1/0:0:0:1/model
                     ln -s $controller/host1/0:0:0:1 device",
        said: "local: Azure temporary disk",
    },
];

/// It is found by its mark alone, under whatever number.
const LOCAL_ALONE: &str = "[staging]\ndevices = [\"LOCAL\"]\n";

fn machine(disk: &CloudDisk, image: &Image) -> (Machine, Disk) {
    let (mut machine, volume) = disk.machine(image);
    machine.configure(LOCAL_ALONE);
    // The firmware of whatever runs these tests contradicts.
    machine.sh("if [ -d /sys/class/dmi ]; then mount -t tmpfs dmi /sys/class/dmi; fi");
    (machine, volume)
}

fn a_disk_that_the_cloud_marks_as_local_is_staged_for_that() {
    for disk in &LOCAL {
        let (machine, _volume) = machine(disk, &Image::ext4(""));
        let device = format!("/dev/{}", disk.kernel_name);
        // The mark is enough: nobody asks whether it is empty.
        machine.prepare(&device, "touch somebody-s");
        let probe = probe(&machine);
        assert_eq!(probe["chosen"], device.as_str(), "{probe:#}");
        assert_eq!(probe["known_by"], format!("ext4, {}", disk.said));
        let boot = machine.boot();
        boot.ready_on(&device);
        boot.says(&format!("{device} is accepted ({})", disk.said));
        assert_eq!(evidence(&boot), disk.said, "{boot}");
        let ready = format!("ready: {device} (ext4, {}) on /staging", disk.said);
        assert!(boot.console.contains(&ready), "{boot}");
    }
}

fn a_blank_disk_that_the_cloud_marks_as_local_is_made_and_staged() {
    tool("mkfs.ext4");
    for disk in &LOCAL {
        let (mut machine, _volume) = machine(disk, &Image::blank(64));
        machine.configure("[staging]\nwait = \"200ms\"");
        machine.may_change("/var/lib/vmstage");
        let device = format!("/dev/{}", disk.kernel_name);
        let probe = probe(&machine);
        assert_eq!(probe["formatted"], device.as_str(), "{probe:#}");
        let boot = machine.boot();
        boot.ready_on(&device);
        boot.says(&format!("is blank and gets a file system ({})", disk.said));
        reboot(&machine);
        machine.boot().ready_on(&device).warns_of_nothing();
    }
}

fn a_blank_local_disk_is_left_alone_where_nothing_may_be_made() {
    let (mut machine, disk) = machine(&LOCAL[0], &Image::blank(64));
    machine.configure("[staging]\nwait = \"200ms\"\nformat = \"never\"");
    is_left_alone(&machine, &disk, "/dev/nvme1n1", &["has no signature"]);
}

/// An EBS volume whose model says storage.
fn a_local_disk_with_a_contradicting_mark_is_none() {
    let contradicting = CloudDisk {
        kernel_name: "nvme1n1",
        attributes: "mkdir device; echo 'Amazon EC2 NVMe Instance Storage' >device/model
                     echo vol0123456789abcdef0 >device/serial",
        said: "",
    };
    let (machine, disk) = machine(&contradicting, &Image::ext4(""));
    let before = disk.checksum();
    let probe = probe(&machine);
    assert_eq!(probe["chosen"], Value::Null, "{probe:#}");
    machine.boot().failed(3).says("LOCAL is absent");
    assert_eq!(disk.checksum(), before);
}

fn azure_s_temporary_disk_is_left_to_what_makes_its_file_system() {
    for agent in [
        "/usr/bin/cloud-init",
        "/usr/sbin/waagent",
        "/usr/bin/azure-init",
    ] {
        let (machine, disk) = machine(&LOCAL[3], &Image::blank(64));
        machine.sh(&format!("touch {agent}"));
        let name = agent.rsplit('/').next().unwrap();
        let words = format!("is left to {name}, which makes its file system");
        is_left_alone(&machine, &disk, "/dev/sdb", &[&words]);
    }
}

fn a_local_disk_that_cannot_be_mounted_ends_the_search() {
    let image = Image::that_cannot_be_mounted("");
    let (mut machine, _volume) = machine(&LOCAL[0], &image);
    machine.configure("[staging]\ndevices = [\"LOCAL\", \"/dev/vdb\"]");
    let usable = machine.disk("vdb", &Image::ext4(""));
    let (major, minor) = usable.number;
    machine.sh(&format!(
        "mkdir /sys/block/vdb; echo ' {major} {minor} 16384 vdb' >>/proc/partitions"
    ));
    machine.boot().failed(4).says("cannot mount /dev/nvme1n1");
    machine.configure("[staging]\ndevices = [\"/dev/vdb\"]");
    machine.boot().ready_on("/dev/vdb");
}

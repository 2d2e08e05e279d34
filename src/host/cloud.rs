//! Which cloud this machine is of, by its firmware.

use super::{Host, machine, sysfs};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cloud {
    OpenStack,
    Ec2,
    Google,
    Azure,
}

/// What the firmware says of the machine (SMBIOS); nothing before Linux 2.6.22, or on Xen
/// without it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dmi {
    pub(crate) sys_vendor: Option<String>,
    pub(crate) product_name: Option<String>,
    pub(crate) chassis_asset_tag: Option<String>,
}

/// What Nova's libvirt driver calls its machines.
const PRODUCTS: [&str; 2] = ["OpenStack Nova", "OpenStack Compute"];

const AZURE: &str = "7783-7084-3265-9085-8269-3286-77";

impl Dmi {
    /// The clouds that it names: one, none, or several that cannot all be right. By what
    /// cloud-init looks for (OpenStack, Azure) and the vendors document (EC2, Google). EC2's
    /// Xen machines have none: only their UUID tells, and another's may by chance.
    pub(crate) fn clouds(&self) -> Vec<Cloud> {
        const TAGS: [&str; 4] = [
            "OpenTelekomCloud",
            "HUAWEICLOUD",
            "SAP CCloud VM",
            "Samsung Cloud Platform",
        ];
        let (vendor, product) = (&self.sys_vendor, &self.product_name);
        let tag = &self.chassis_asset_tag;
        let is_openstack = is(vendor, &["OpenStack Foundation"])
            || is(product, &PRODUCTS)
            || is(tag, &PRODUCTS)
            || is(tag, &TAGS);
        let is_google = is(product, &["Google Compute Engine"]) || is(vendor, &["Google"]);
        let is_azure = is(tag, &[AZURE]);
        let clouds = [
            (Cloud::OpenStack, is_openstack),
            (Cloud::Ec2, is(vendor, &["Amazon EC2"])),
            (Cloud::Google, is_google),
            (Cloud::Azure, is_azure),
        ];
        let named = clouds.into_iter().filter(|(_, is_named)| *is_named);
        named.map(|(cloud, _)| cloud).collect()
    }
}

/// All of the machine that may name a cloud.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Firmware {
    dmi: Dmi,
    /// The machine's UUID, in lower case.
    pub(crate) uuid: Option<String>,
}

impl Firmware {
    pub(crate) fn read(host: &Host) -> Firmware {
        let field = |name| sysfs::attribute(&host.path("/sys/class/dmi/id").join(name));
        Firmware {
            dmi: Dmi {
                sys_vendor: field("sys_vendor"),
                product_name: field("product_name"),
                chassis_asset_tag: field("chassis_asset_tag"),
            },
            uuid: machine::uuid(host),
        }
    }

    /// Whether the machine's UUID is the instance's for certain: Nova's libvirt driver and Azure
    /// put it there. Other hypervisors may not, and bare metal has its board's.
    pub(crate) fn has_the_instances_uuid(&self) -> bool {
        let dmi = &self.dmi;
        is(&dmi.product_name, &PRODUCTS) || is(&dmi.chassis_asset_tag, &[AZURE])
    }
}

/// What begins the UUID of EC2's Xen machines, as it is and with the bytes of its first field
/// in the other order (EC2 User Guide, "Identify EC2 Linux instances").
fn is_xen_of_ec2(firmware: &Firmware) -> bool {
    let Some(uuid) = &firmware.uuid else {
        return false;
    };
    let is_swapped = uuid.get(4..5) == Some("2") && uuid.get(6..8) == Some("ec");
    uuid.starts_with("ec2") || is_swapped && is(&firmware.dmi.sys_vendor, &["Xen"])
}

/// The cloud that the firmware names; None where it names none, or several that cannot all be
/// right.
pub(crate) fn named_by(firmware: &Firmware) -> Option<Cloud> {
    match firmware.dmi.clouds()[..] {
        [cloud] => Some(cloud),
        // Any random UUID may begin so: it counts only where nothing else is known.
        [] if is_xen_of_ec2(firmware) => Some(Cloud::Ec2),
        _ => None,
    }
}

/// Whether it is one of these, in any case.
fn is(field: &Option<String>, texts: &[&str]) -> bool {
    let field = field.as_deref().unwrap_or_default();
    texts.iter().any(|text| field.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;

    fn named(files: &[(&str, &str)]) -> Option<Cloud> {
        let path = |name: &str| match name {
            "hypervisor" => "sys/hypervisor/uuid".to_string(),
            name => format!("sys/class/dmi/id/{name}"),
        };
        let files: Vec<(String, &str)> = files.iter().map(|f| (path(f.0), f.1)).collect();
        let files: Vec<(&str, &str)> = files.iter().map(|f| (f.0.as_str(), f.1)).collect();
        named_by(&Firmware::read(&Tree::new(&files).host()))
    }

    #[test]
    fn only_of_some_clouds_is_the_machines_uuid_certainly_the_instances() {
        let (product, tag) = ("product_name", "chassis_asset_tag");
        for (file, text, is_certain) in [
            (product, "OpenStack Nova\n", true),
            (product, "OpenStack Compute\n", true),
            (tag, "7783-7084-3265-9085-8269-3286-77\n", true),
            (tag, "SAP CCloud VM\n", false),
            (product, "VMware Virtual Platform\n", false),
            (product, "ProLiant DL360 Gen10\n", false),
        ] {
            let file = format!("sys/class/dmi/id/{file}");
            let firmware = Firmware::read(&Tree::new(&[(&file, text)]).host());
            assert_eq!(firmware.has_the_instances_uuid(), is_certain, "{text}");
        }
    }

    #[test]
    fn the_firmware_names_the_cloud() {
        let (vendor, product, tag) = ("sys_vendor", "product_name", "chassis_asset_tag");
        const AZURE: &str = "7783-7084-3265-9085-8269-3286-77\n";
        type Case<'a> = (&'a [(&'a str, &'a str)], Option<Cloud>);
        let cases: [Case; 16] = [
            (&[], None),
            (&[(vendor, "QEMU\n"), (product, "Standard PC\n")], None),
            (
                &[(vendor, "OpenStack Foundation\n")],
                Some(Cloud::OpenStack),
            ),
            (&[(product, "OpenStack Nova\n")], Some(Cloud::OpenStack)),
            (&[(product, "OpenStack Compute\n")], Some(Cloud::OpenStack)),
            (&[(tag, "OpenTelekomCloud\n")], Some(Cloud::OpenStack)),
            (&[(tag, "SAP CCloud VM\n")], Some(Cloud::OpenStack)),
            (&[(vendor, "Amazon EC2\n")], Some(Cloud::Ec2)),
            (
                &[("product_uuid", "EC2E1916-9099-7CAF-FD21-012345ABCDEF\n")],
                Some(Cloud::Ec2),
            ),
            (
                &[("hypervisor", "ec2e1916-9099-7caf-fd21-012345abcdef\n")],
                Some(Cloud::Ec2),
            ),
            (
                &[
                    (vendor, "Xen\n"),
                    ("product_uuid", "45E12AEC-DCD1-B213-94ED-012345ABCDEF\n"),
                ],
                Some(Cloud::Ec2),
            ),
            (
                &[("product_uuid", "45E12AEC-DCD1-B213-94ED-012345ABCDEF\n")],
                None,
            ),
            (
                &[
                    (product, "OpenStack Nova\n"),
                    ("product_uuid", "ec2e1916-9099-7caf-fd21-012345abcdef\n"),
                ],
                Some(Cloud::OpenStack),
            ),
            (&[(vendor, "Google\n")], Some(Cloud::Google)),
            (
                &[(vendor, "Microsoft Corporation\n"), (tag, AZURE)],
                Some(Cloud::Azure),
            ),
            (&[(vendor, "Amazon EC2\n"), (tag, AZURE)], None),
        ];
        for (files, cloud) in cases {
            assert_eq!(named(files), cloud, "{files:?}");
        }
    }
}

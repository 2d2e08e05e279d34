//! Which sources are asked on which cloud.

use crate::config::{Source, Sources};
use crate::host::Host;
use crate::host::cloud::{Cloud, Firmware, named_by};

pub(super) fn sources(host: &Host, configured: &Sources) -> Vec<Source> {
    match configured {
        Sources::Listed(sources) => sources.clone(),
        Sources::Auto => of_cloud(named_by(&Firmware::read(host))),
    }
}

fn of_cloud(cloud: Option<Cloud>) -> Vec<Source> {
    match cloud {
        Some(Cloud::Ec2) => vec![Source::Ec2],
        Some(Cloud::Google) => vec![Source::Google],
        Some(Cloud::Azure) => vec![Source::Azure],
        // EC2's interface is the only place of the flavor's name on OpenStack, and what other
        // clouds have that say nothing of themselves.
        Some(Cloud::OpenStack) | None => {
            vec![Source::ConfigDrive, Source::Openstack, Source::Ec2]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn those_of_the_cloud_are_asked_unless_others_are_listed() {
        let usual = [Source::ConfigDrive, Source::Openstack, Source::Ec2];
        let vendor = "sys/class/dmi/id/sys_vendor";
        let tag = "sys/class/dmi/id/chassis_asset_tag";
        type Files<'a> = &'a [(&'a str, &'a str)];
        let cases: [(Files, &[Source]); 6] = [
            (&[], &usual),
            (&[(vendor, "QEMU\n")], &usual),
            (&[(vendor, "OpenStack Foundation\n")], &usual),
            (&[(vendor, "Amazon EC2\n")], &[Source::Ec2]),
            (&[(vendor, "Google\n")], &[Source::Google]),
            (
                &[(tag, "7783-7084-3265-9085-8269-3286-77\n")],
                &[Source::Azure],
            ),
        ];
        for (files, expected) in cases {
            let tree = Tree::new(files);
            assert_eq!(sources(&tree.host(), &Sources::Auto), expected, "{files:?}");
            for listed in [vec![], vec![Source::Google, Source::ConfigDrive]] {
                let configured = Sources::Listed(listed.clone());
                assert_eq!(sources(&tree.host(), &configured), listed);
            }
        }
    }
}

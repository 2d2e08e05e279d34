//! The commands that copy an image from one cloud to others.

use crate::plan::images::Image;
use crate::plan::shell;

/// One saves it, one looks whether all of it came, and one a cloud creates it there; the next one
/// runs only if the one before succeeded.
pub(super) fn commands(image: &Image, from: &str, to: &[&str]) -> Vec<String> {
    let format = image
        .disk_format
        .as_deref()
        .filter(|format| is_a_word(format));
    let file = format!("{}.{}", image.id, format.unwrap_or("image"));
    let mut steps = vec![format!(
        "openstack --os-cloud {} image save --file {file} {}",
        shell::word(from),
        image.id
    )];
    let is_md5 = |sum: &&String| sum.len() == 32 && sum.bytes().all(|b| b.is_ascii_hexdigit());
    if let Some(md5) = image.sums.md5.as_ref().filter(is_md5) {
        steps.push(format!("echo '{md5}  {file}' | md5sum --check"));
    }
    let create = |cloud: &&str| {
        let options = options(image);
        let cloud = shell::word(cloud);
        format!("openstack --os-cloud {cloud} image create --file {file} {options}")
    };
    steps.extend(to.iter().map(create));
    steps
}

/// Whether it can be a part of a file's name.
fn is_a_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// What makes it boot there as it does here, and its name.
fn options(image: &Image) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut option = |name: &str, value: Option<String>| {
        words.extend(value.map(|value| {
            // It may look like an option.
            let sign = if value.starts_with('-') { '=' } else { ' ' };
            format!("{name}{sign}{}", shell::word(&value))
        }));
    };
    option("--disk-format", image.disk_format.clone());
    option("--container-format", image.container_format.clone());
    option("--min-disk", image.min_disk.map(|gib| gib.to_string()));
    option("--min-ram", image.min_ram.map(|mib| mib.to_string()));
    for (key, value) in &image.properties {
        if !is_of_its_cloud(key) {
            option("--property", Some(format!("{key}={value}")));
        }
    }
    // By it the copy is known to be one where Glance has no hash (Ceph).
    if let Some(sha256) = &image.sums.sha256
        && !image.properties.contains_key("sha256")
    {
        option("--property", Some(format!("sha256={sha256}")));
    }
    // It may look like an option.
    if image.name.starts_with('-') {
        words.push("--".into());
    }
    words.push(shell::word(&image.name));
    words.join(" ")
}

/// What cannot be taken along.
pub(super) fn warnings(image: &Image, from: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if image.min_disk.is_none() || image.min_ram.is_none() {
        warnings.push(format!(
            "min_disk, min_ram and the properties are not known of {}, and not taken along: image list \
             does not print them, image show does",
            image.id
        ));
    }
    for key in NEEDED {
        if image
            .properties
            .get(key)
            .is_some_and(|value| !value.is_empty())
        {
            warnings.push(format!("the image needs its {key}, which {from} alone has"));
        }
    }
    warnings
}

/// Things that an image needs and that are elsewhere in its cloud.
const NEEDED: [&str; 3] = ["kernel_id", "ramdisk_id", "cinder_encryption_key_id"];

/// What Glance, Nova, Cinder and clients write down of an image and where it came from. In
/// another cloud it would be wrong, or is refused.
fn is_of_its_cloud(key: &str) -> bool {
    const PREFIXES: [&str; 7] = [
        "base_image_",
        "cinder_encryption_",
        "img_signature",
        "instance_type_",
        "os_glance_",
        "os_hash_",
        "owner_specified.",
    ];
    const KEYS: [&str; 24] = [
        "bdm_v2",
        "block_device_mapping",
        "boot_roles",
        "clean_attempts",
        "direct_url",
        "file",
        "image_location",
        "image_state",
        "image_type",
        "instance_uuid",
        "kernel_id",
        "locations",
        "mappings",
        "network_allocated",
        "os_hidden",
        "owner_id",
        "owner_project_name",
        "owner_user_name",
        "ramdisk_id",
        "root_device_name",
        "schema",
        "self",
        "stores",
        "user_id",
    ];
    PREFIXES.iter().any(|prefix| key.starts_with(prefix)) || KEYS.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::images::Sums;

    fn image(properties: &[(&str, &str)]) -> Image {
        let pairs = properties
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()));
        Image {
            id: "1a9e".into(),
            name: "it's".into(),
            disk_format: Some("raw".into()),
            container_format: Some("bare".into()),
            min_disk: Some(10),
            min_ram: Some(512),
            properties: pairs.collect(),
            ..Image::default()
        }
    }

    #[test]
    fn formats_minima_and_what_makes_it_boot_are_taken_along_and_nothing_of_its_cloud() {
        let mut image = image(&[
            ("hw_disk_bus", "virtio"),
            ("os_type", "linux"),
            ("note", "it's"),
            ("os_hidden", "False"),
            ("os_hash_algo", "sha512"),
            ("owner_specified.openstack.md5", ""),
            ("base_image_ref", "x"),
            ("instance_uuid", "x"),
            ("image_type", "snapshot"),
            ("direct_url", "rbd://"),
        ]);
        image.sums = Sums {
            md5: Some("d41d8cd98f00b204e9800998ecf8427e".into()),
            ..Sums::default()
        };
        assert_eq!(
            commands(&image, "cloud A", &["b", "c"]).join(" &&\n") + "\n",
            r"openstack --os-cloud 'cloud A' image save --file 1a9e.raw 1a9e &&
echo 'd41d8cd98f00b204e9800998ecf8427e  1a9e.raw' | md5sum --check &&
openstack --os-cloud b image create --file 1a9e.raw --disk-format raw --container-format bare --min-disk 10 --min-ram 512 --property hw_disk_bus=virtio --property 'note=it'\''s' --property os_type=linux 'it'\''s' &&
openstack --os-cloud c image create --file 1a9e.raw --disk-format raw --container-format bare --min-disk 10 --min-ram 512 --property hw_disk_bus=virtio --property 'note=it'\''s' --property os_type=linux 'it'\''s'
"
        );
    }

    #[test]
    fn what_cannot_be_taken_along_is_said() {
        let said = |image: &Image| warnings(image, "a").join("\n");
        assert_eq!(said(&image(&[("kernel_id", "")])), "");
        assert!(said(&image(&[("kernel_id", "x")])).contains("its kernel_id, which a alone has"));
        let listed = Image {
            min_disk: None,
            ..image(&[])
        };
        assert!(said(&listed).contains("image show does"));
        let odd = Image {
            name: "-rf".into(),
            ..image(&[])
        };
        assert!(options(&odd).ends_with(" -- -rf"));
    }
}

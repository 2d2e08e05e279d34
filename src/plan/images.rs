//! The images of a cloud, as `openstack image show` and `image list --long` print them.

use std::collections::BTreeMap;

use super::input::Place;
use super::properties;
use crate::clock;

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Image {
    pub(super) id: String,
    /// Glance has images without one.
    pub(super) name: String,
    pub(super) status: Status,
    /// Bytes; None until they are stored.
    pub(super) size: Option<u64>,
    pub(super) disk_format: Option<String>,
    pub(super) container_format: Option<String>,
    /// GiB. Like all below, not in a list.
    pub(super) min_disk: Option<u64>,
    /// MiB.
    pub(super) min_ram: Option<u64>,
    /// Unix seconds.
    pub(super) created_at: Option<u64>,
    pub(super) updated_at: Option<u64>,
    pub(super) sums: Sums,
    /// Of a list that was printed without `--long`: it may have sums, and a size.
    pub(super) is_short: bool,
    pub(super) properties: BTreeMap<String, String>,
}

/// What Glance says of an image's life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Status {
    #[default]
    Active,
    /// Known, and nothing is stored yet.
    Queued,
    Saving,
    Uploading,
    Importing,
    /// An administrator keeps people from using it.
    Deactivated,
    /// Its upload failed.
    Killed,
    Deleted,
    PendingDelete,
}

const STATUSES: [(Status, &str); 9] = [
    (Status::Active, "active"),
    (Status::Queued, "queued"),
    (Status::Saving, "saving"),
    (Status::Uploading, "uploading"),
    (Status::Importing, "importing"),
    (Status::Deactivated, "deactivated"),
    (Status::Killed, "killed"),
    (Status::Deleted, "deleted"),
    (Status::PendingDelete, "pending_delete"),
];

impl Status {
    pub(super) fn word(self) -> &'static str {
        STATUSES[self as usize].1
    }

    pub(super) fn read(place: &Place) -> anyhow::Result<Status> {
        let word = place.text("a status")?.to_ascii_lowercase();
        let found = STATUSES.iter().find(|(_, known)| *known == word);
        let (status, _) = found.ok_or_else(|| place.wrong("a status of Glance's"))?;
        Ok(*status)
    }

    /// Whether it is over with it: nobody can launch it any more.
    pub(super) fn is_over(self) -> bool {
        matches!(
            self,
            Status::Killed | Status::Deleted | Status::PendingDelete
        )
    }

    /// Whether its content is still on its way.
    pub(super) fn is_unfinished(self) -> bool {
        matches!(
            self,
            Status::Queued | Status::Saving | Status::Uploading | Status::Importing
        )
    }
}

/// What tells one content from another, in lower case.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sums {
    /// Glance's, with its algorithm.
    pub(super) hash: Option<(String, String)>,
    pub(super) md5: Option<String>,
    /// Written down by whoever uploaded it.
    pub(super) sha256: Option<String>,
}

/// Where openstacksdk writes it, and where people do.
const SHA256: [&str; 2] = ["owner_specified.openstack.sha256", "sha256"];

impl Image {
    /// Reads one, under the names that `image show` and `image list` have for everything.
    ///
    /// # Errors
    ///
    /// What is wrong, with file and place.
    pub(super) fn read(place: &Place) -> anyhow::Result<Image> {
        place.object("an image")?;
        let text = |names: &[&str]| {
            let text = place.field(names).map(|field| field.text("a text"));
            text.transpose()
        };
        let owned = |names: &[&str]| anyhow::Ok(text(names)?.map(String::from));
        let number = |name: &str, of_what: &str| {
            let number = place.field(&[name]).map(|field| field.number(of_what));
            number.transpose()
        };
        let properties = match place.field(&["properties"]) {
            Some(field) => properties::read(&field)?.into_iter().collect(),
            None => BTreeMap::new(),
        };
        let property = |key: &str| properties.get(key).map(String::as_str);
        let algorithm = text(&["Hash Algorithm"])?.or(property("os_hash_algo"));
        let hash = text(&["Hash Value"])?.or(property("os_hash_value"));
        let sha256 = SHA256.iter().find_map(|key| sum(property(key)));
        let sums = Sums {
            hash: algorithm.map(str::to_ascii_lowercase).zip(sum(hash)),
            md5: sum(text(&["checksum", "Checksum"])?),
            sha256,
        };
        Ok(Image {
            id: id(place)?,
            name: owned(&["name", "Name"])?.unwrap_or_default(),
            status: Status::read(&place.needed(&["status", "Status"])?)?,
            size: match number("size", "bytes")? {
                None => number("Size", "bytes")?,
                size => size,
            },
            disk_format: owned(&["disk_format", "Disk Format"])?,
            container_format: owned(&["container_format", "Container Format"])?,
            min_disk: number("min_disk", "GiB")?,
            min_ram: number("min_ram", "MiB")?,
            created_at: time(place, &["created_at"])?,
            updated_at: time(place, &["updated_at"])?,
            sums,
            // Not of `image show`: newer clients leave out what is null.
            is_short: place.has(&["ID"]) && !place.has(&["Checksum", "Hash Value"]),
            properties,
        })
    }

    /// A snapshot of a server that boots from a volume: Glance has none of its bytes, and the
    /// sums are those of nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.size == Some(0)
    }

    pub(super) fn maps_volumes(&self) -> bool {
        self.properties.contains_key("block_device_mapping")
    }
}

/// An id, which is made a word of a command.
pub(super) fn id(place: &Place) -> anyhow::Result<String> {
    let field = place.needed(&["id", "ID"])?;
    let id = field.text("an id")?;
    match id.is_empty()
        || !id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        || id.starts_with('-')
    {
        true => Err(field.wrong("an id")),
        false => Ok(id.to_string()),
    }
}

/// Unix seconds; None where there is none.
pub(super) fn time(place: &Place, names: &[&str]) -> anyhow::Result<Option<u64>> {
    let Some(field) = place.field(names) else {
        return Ok(None);
    };
    let time = clock::parse_utc(field.text("a time such as 2026-11-02T10:00:00Z")?);
    match time {
        Some(time) => Ok(Some(time)),
        None => Err(field.wrong("a time such as 2026-11-02T10:00:00Z")),
    }
}

/// Where there is no sum clients also write `""` or `None`.
fn sum(text: Option<&str>) -> Option<String> {
    let text = text?.trim().to_ascii_lowercase();
    (!matches!(text.as_str(), "" | "none" | "null")).then_some(text)
}

/// Whether an image is of the same content as the newest.
#[derive(Debug, PartialEq)]
pub(super) enum Content {
    /// By which sum that is known.
    Same(&'static str),
    Other,
    /// For this reason.
    Unknown(String),
}

/// Why nothing can be said of what [`Image::is_short`].
pub(super) const IS_SHORT: &str =
    "Checksum is missing: add --long to `openstack image list`, which prints it then";

pub(super) fn compare(newest: &Image, image: &Image) -> Content {
    if newest.is_short || image.is_short {
        return Content::Unknown(IS_SHORT.into());
    }
    if let (Some(one), Some(other)) = (&newest.disk_format, &image.disk_format)
        && one != other
    {
        return Content::Unknown(format!("another disk format: {other}, not {one}"));
    }
    let is_of_another_size = newest
        .size
        .zip(image.size)
        .is_some_and(|(one, other)| one != other);
    match (newest.sums.compare(&image.sums), is_of_another_size) {
        (Some((by, true)), false) => Content::Same(by),
        (Some((_, false)), _) | (_, true) => Content::Other,
        (None, false) => {
            let why = match (newest.sums.is_empty(), image.sums.is_empty()) {
                (true, true) => "neither has a hash",
                (true, false) => "the newest has no hash",
                (false, true) => "it has no hash",
                (false, false) => "they have no hash of the same kind",
            };
            Content::Unknown(why.into())
        }
    }
}

/// Whether a sum of what is stored is the same, in whatever format that is said to be.
pub(super) fn has_same_data(newest: &Image, image: &Image) -> bool {
    matches!(newest.sums.compare(&image.sums), Some((_, true)))
}

impl Sums {
    fn is_empty(&self) -> bool {
        *self == Sums::default()
    }

    /// By the first kind of sum that both have; None where there is no such kind.
    fn compare(&self, other: &Sums) -> Option<(&'static str, bool)> {
        if let (Some((algorithm, hash)), Some((its, theirs))) = (&self.hash, &other.hash)
            && algorithm == its
        {
            return Some(("hash", hash == theirs));
        }
        let equal = |pair: (&str, &str)| pair.0 == pair.1;
        let md5 = self.md5.as_deref().zip(other.md5.as_deref());
        let sha256 = || self.any_sha256().zip(other.any_sha256());
        md5.map(|pair| ("MD5", equal(pair)))
            .or_else(|| sha256().map(|pair| ("recorded sha256", equal(pair))))
    }

    /// Glance's own may be one.
    fn any_sha256(&self) -> Option<&str> {
        let glances = self
            .hash
            .as_ref()
            .filter(|(algorithm, _)| algorithm == "sha256");
        glances
            .map(|(_, hash)| hash.as_str())
            .or(self.sha256.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_content_is_the_same_hash_else_md5_else_a_recorded_sha256() {
        let sums = |hash: &str, md5: &str, sha256: &str| Image {
            size: Some(5),
            disk_format: Some("raw".into()),
            sums: Sums {
                hash: hash
                    .split_once(':')
                    .map(|(algorithm, value)| (algorithm.into(), value.into())),
                md5: Some(md5.into()).filter(|md5: &String| !md5.is_empty()),
                sha256: Some(sha256.into()).filter(|sum: &String| !sum.is_empty()),
            },
            ..Image::default()
        };
        let unknown = |why: &str| Content::Unknown(why.into());
        let cases = [
            (
                sums("sha512:a", "1", ""),
                sums("sha512:a", "2", ""),
                Content::Same("hash"),
            ),
            (
                sums("sha512:a", "1", ""),
                sums("sha512:b", "1", ""),
                Content::Other,
            ),
            (
                sums("sha512:a", "1", ""),
                sums("sha256:b", "1", ""),
                Content::Same("MD5"),
            ),
            (
                sums("", "1", "x"),
                sums("sha512:a", "2", "x"),
                Content::Other,
            ),
            (
                sums("sha512:a", "", "x"),
                sums("", "1", "x"),
                Content::Same("recorded sha256"),
            ),
            (
                sums("sha256:x", "", ""),
                sums("", "", "x"),
                Content::Same("recorded sha256"),
            ),
            (
                sums("sha512:a", "", ""),
                sums("", "1", ""),
                unknown("they have no hash of the same kind"),
            ),
        ];
        for (a, b, expected) in cases {
            assert_eq!(compare(&a, &b), expected, "{a:?} {b:?}");
            assert_eq!(compare(&b, &a), expected, "{b:?} {a:?}");
        }
        let (with, without) = (sums("sha512:a", "1", ""), sums("", "", ""));
        assert_eq!(compare(&without, &with), unknown("the newest has no hash"));
        assert_eq!(compare(&with, &without), unknown("it has no hash"));
        assert_eq!(compare(&without, &without), unknown("neither has a hash"));
        let larger = |image: Image| Image {
            size: Some(6),
            ..image
        };
        let a = sums("sha512:a", "1", "");
        // Such a sum is of something else.
        assert_eq!(compare(&a, &larger(a.clone())), Content::Other);
        assert_eq!(
            compare(&sums("", "", ""), &larger(a.clone())),
            Content::Other
        );
        let qcow2 = Image {
            disk_format: Some("qcow2".into()),
            ..a.clone()
        };
        assert_eq!(
            compare(&a, &qcow2),
            unknown("another disk format: qcow2, not raw")
        );
    }

    #[test]
    fn what_is_no_sum_is_none() {
        let md5 = "d41d8cd98f00b204e9800998ecf8427E";
        let lower = md5.to_ascii_lowercase();
        for (text, expected) in [
            (Some(md5), Some(lower)),
            (Some(""), None),
            (Some("None"), None),
            (Some(" aaa111 "), Some("aaa111".into())),
            (None, None),
        ] {
            assert_eq!(sum(text), expected, "{text:?}");
        }
    }

    #[test]
    fn each_status_has_its_word() {
        for (status, word) in STATUSES {
            assert_eq!(status.word(), word);
        }
    }
}

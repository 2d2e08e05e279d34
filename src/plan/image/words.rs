//! An image in words.

use crate::clock;
use crate::plan::images::{IS_SHORT, Image, Status};
use crate::text;

pub(super) fn in_words(image: &Image) -> String {
    let size = image.size.map_or_else(|| "no size".into(), text::bytes);
    let sum = match (&image.sums.hash, &image.sums.md5, &image.sums.sha256) {
        (Some((algorithm, hash)), ..) => format!("{algorithm} {hash:.16}…"),
        (None, Some(md5), _) => format!("MD5 {md5}"),
        (None, None, Some(sha256)) => format!("recorded sha256 {sha256:.16}…"),
        (None, None, None) => "no hash".into(),
    };
    text::printable(&format!("{} of {}, {size}, {sum},", image.id, date(image)))
}

pub(super) fn date(image: &Image) -> String {
    image
        .created_at
        .map_or_else(|| "an unknown date".into(), clock::utc)
}

/// Why an image is no copy to take.
pub(super) fn reason_of_none(image: &Image) -> String {
    match (image.status, image.is_empty(), image.maps_volumes()) {
        (Status::Active, false, _) if image.is_short => IS_SHORT.into(),
        (Status::Active, true, true) => {
            "a snapshot of volumes (size 0, block_device_mapping) is refused: its bytes are in the volume \
             snapshots, make an image of a volume instead"
                .into()
        }
        (Status::Active, true, false) => {
            "an image of size 0 is refused: it has no bytes here, as that of a server that boots from a volume".into()
        }
        (Status::Active, ..) => "it has no size".into(),
        (status, ..) => format!("it is {}", status.word()),
    }
}

//! What a cloud has of the newest copy.

use super::clouds::Cloud;
use super::words::{date, reason_of_none};
use crate::order::sort_by_key;
use crate::plan::images::{Content, IS_SHORT, Image, Status, compare, has_same_data};
use crate::text;

pub(super) const NOTHING_TO_DO: u8 = 0;
pub(super) const CONFLICT: u8 = 4;
pub(super) const CANNOT_TELL: u8 = 5;
pub(super) const SOMETHING_TO_COPY: u8 = 10;

#[derive(Debug, PartialEq)]
pub(super) enum Verdict<'a> {
    /// It has it, by this sum.
    There(&'a Image, &'static str),
    Newest,
    Copy,
    Conflict(&'a Image),
    CannotTell(&'a Image, String),
}

/// None where it is as if it was not there.
fn of_same_name<'a>(image: &'a Image, newest: &Image) -> Option<Verdict<'a>> {
    let cannot_tell = |why: String| Some(Verdict::CannotTell(image, why));
    match image.status {
        status if status.is_over() => return None,
        status if status.is_unfinished() => {
            return cannot_tell(format!("it is {}, and not finished", status.word()));
        }
        _ if image.is_short => {}
        _ if image.is_empty() || image.size.is_none() => return cannot_tell(reason_of_none(image)),
        _ => {}
    }
    match (compare(newest, image), image.status) {
        (Content::Other, _) => Some(Verdict::Conflict(image)),
        (Content::Same(_), _) => cannot_tell(
            "the same content, and deactivated: an administrator can make it usable again".into(),
        ),
        (Content::Unknown(why), _) => cannot_tell(why),
    }
}

impl<'a> Verdict<'a> {
    /// The image with the same content counts whatever its name is; else the one of the same name.
    pub(super) fn of(cloud: &'a Cloud, name: &str, source: &Cloud, newest: &Image) -> Verdict<'a> {
        if cloud.name == source.name {
            return Verdict::Newest;
        }
        let active = cloud
            .images
            .values()
            .filter(|image| image.status == Status::Active);
        let mut there = active
            .clone()
            .filter_map(|image| match compare(newest, image) {
                Content::Same(by) => Some(Verdict::There(image, by)),
                _ => None,
            });
        if let Some(there) = there.next() {
            return there;
        }
        let mut verdicts: Vec<Verdict> = cloud
            .named(name)
            .filter_map(|image| of_same_name(image, newest))
            .collect();
        let same = active.clone().filter(|image| has_same_data(newest, image));
        verdicts.extend(same.map(|image| match compare(newest, image) {
            Content::Unknown(why) => {
                Verdict::CannotTell(image, format!("the same hash, and {why}"))
            }
            _ => Verdict::CannotTell(image, "the same hash, and another size".into()),
        }));
        // Each of them may be the one, whatever its name is.
        let short = active.filter(|image| image.is_short);
        verdicts.extend(short.map(|image| Verdict::CannotTell(image, IS_SHORT.into())));
        sort_by_key(&mut verdicts, |verdict| {
            !matches!(verdict, Verdict::Conflict(_))
        });
        verdicts.into_iter().next().unwrap_or(Verdict::Copy)
    }

    pub(super) fn word(&self) -> &'static str {
        match self {
            Verdict::There(..) | Verdict::Newest => "there",
            Verdict::Copy => "copy",
            Verdict::Conflict(_) => "conflict",
            Verdict::CannotTell(..) => "cannot tell",
        }
    }

    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Verdict::There(..) | Verdict::Newest => NOTHING_TO_DO,
            Verdict::Copy => SOMETHING_TO_COPY,
            Verdict::Conflict(_) => CONFLICT,
            Verdict::CannotTell(..) => CANNOT_TELL,
        }
    }

    pub(super) fn reason(&self, source: &str, newest: &Image) -> String {
        match self {
            Verdict::Newest => "the newest".into(),
            Verdict::There(image, by) if image.name == newest.name => {
                format!("{} has the same {by}", image.id)
            }
            Verdict::There(image, by) => {
                let name = text::excerpt(&image.name);
                format!("{} has the same {by}, under the name \"{name}\"", image.id)
            }
            Verdict::Copy => {
                let size = newest
                    .size
                    .map_or_else(|| "what there is".into(), text::bytes);
                format!("{size} from {source}")
            }
            Verdict::Conflict(image) => {
                let age = match (image.created_at, newest.created_at) {
                    (Some(its), Some(newests)) if its < newests => {
                        format!("it is older ({}, and not {})", date(image), date(newest))
                    }
                    (Some(_), Some(_)) => format!("it is as new ({})", date(image)),
                    _ => "which is newer cannot be told without image show of both".into(),
                };
                format!("{} has this name and other content; {age}", image.id)
            }
            Verdict::CannotTell(image, why) if image.name == newest.name => {
                format!("{} has this name: {why}", image.id)
            }
            Verdict::CannotTell(image, why) => {
                format!("{} (\"{}\"): {why}", image.id, text::excerpt(&image.name))
            }
        }
    }
}

//! Which copy of an image is the newest.

use anyhow::anyhow;

use super::clouds::Cloud;
use super::words::{date, reason_of_none};
use crate::plan::images::{Content, Image, Status, compare};
use crate::text;

pub(super) enum Newest<'a> {
    Is(&'a Cloud, &'a Image),
    CannotBeTold(String),
}

/// Of the active copies the one that was made last.
pub(super) fn of<'a>(
    clouds: &'a [Cloud],
    name: &str,
    warnings: &mut Vec<String>,
) -> anyhow::Result<Newest<'a>> {
    let all = || {
        clouds
            .iter()
            .flat_map(|cloud| cloud.named(name).map(move |image| (cloud, image)))
    };
    let usable = |(_, image): &(&Cloud, &Image)| {
        image.status == Status::Active && image.size.is_some() && !image.is_empty()
    };
    let copies: Vec<(&Cloud, &Image)> = all().filter(usable).collect();
    for (cloud, image) in
        all().filter(|(_, image)| image.status == Status::Active && image.is_empty())
    {
        warnings.push(format!(
            "{} of {}: {}",
            image.id,
            cloud.name,
            reason_of_none(image)
        ));
    }
    let dated = copies
        .iter()
        .filter(|(_, image)| image.created_at.is_some());
    let Some(last) = dated.clone().max_by_key(|(_, image)| image.created_at) else {
        return match &copies[..] {
            [] => Err(no_copy(all().collect(), name)),
            [(cloud, image)] => Ok(Newest::Is(cloud, image)),
            [(cloud, image), rest @ ..] if is_same_as_all(image, rest) => Ok(Newest::Is(cloud, image)),
            _ => Ok(Newest::CannotBeTold(
                "image list prints no dates, and these are not of one content; give `openstack image show -f json` of each".into(),
            )),
        };
    };
    let same_time = dated
        .clone()
        .filter(|(_, image)| image.created_at == last.1.created_at);
    for (cloud, image) in same_time {
        if image.id != last.1.id && compare(last.1, image) == Content::Other {
            let (one, other) = (&last.0.name, &cloud.name);
            return Ok(Newest::CannotBeTold(format!(
                "those of {one} and {other} were made in the same second, and are not the same"
            )));
        }
    }
    for (cloud, image) in &copies {
        let is_same = matches!(compare(last.1, image), Content::Same(_));
        if image.created_at.is_none() && !is_same {
            warnings.push(format!(
                "whether {} of {} is newer cannot be told: image list prints no dates, image show does",
                image.id, cloud.name
            ));
        }
    }
    warnings.extend(copied_late(&dated.copied().collect::<Vec<_>>(), last.1));
    // Of those that are the same the first one given is as good.
    Ok(Newest::Is(last.0, last.1))
}

fn is_same_as_all(image: &Image, others: &[(&Cloud, &Image)]) -> bool {
    others
        .iter()
        .all(|(_, other)| matches!(compare(image, other), Content::Same(_)))
}

/// A date is that of the copy: an old content that was copied yesterday looks new.
fn copied_late(dated: &[(&Cloud, &Image)], newest: &Image) -> Option<String> {
    let of_content =
        |(_, image): &&(&Cloud, &Image)| matches!(compare(newest, image), Content::Same(_));
    let (first_cloud, first) = dated
        .iter()
        .filter(of_content)
        .min_by_key(|(_, image)| image.created_at)?;
    let others = dated
        .iter()
        .filter(|(_, image)| compare(newest, image) == Content::Other);
    let (cloud, other) = others.max_by_key(|(_, image)| image.created_at)?;
    (other.created_at > first.created_at).then(|| {
        format!(
            "the content of the newest is on {} since {}, and that of {} is of {}: if the newest was only \
             copied later, that one is newer",
            first_cloud.name,
            date(first),
            cloud.name,
            date(other)
        )
    })
}

fn no_copy(found: Vec<(&Cloud, &Image)>, name: &str) -> anyhow::Error {
    let name = text::excerpt(name);
    if found.is_empty() {
        return anyhow!("there is no image of the name \"{name}\" in these files");
    }
    let why = found.iter().map(|(cloud, image)| {
        let (cloud, id) = (&cloud.name, &image.id);
        format!("{cloud}: {id}: {}", reason_of_none(image))
    });
    anyhow!(
        "no copy of \"{name}\" can be taken: {}",
        why.collect::<Vec<_>>().join("; ")
    )
}

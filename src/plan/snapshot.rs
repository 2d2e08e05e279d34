//! `plan snapshot`: whether a snapshot of a server is finished.
//!
//! That its image is active does not say so by itself: Nova may still be uploading.

use std::time::Duration;

use anyhow::bail;
use serde_json::json;

use super::Answer;
use super::images::{self, Image, Status};
use super::input::{Document, Place};
use crate::cli::Format;
use crate::clock;
use crate::text;

const FINISHED: u8 = 0;
const FAILED: u8 = 1;
/// EX_TEMPFAIL.
const NOT_YET: u8 = 75;

/// What decides of the server.
struct Server {
    id: String,
    /// What Nova is doing with it.
    task: Option<String>,
}

impl Server {
    fn read(place: &Place) -> anyhow::Result<Server> {
        const TASK: &str = "OS-EXT-STS:task_state";
        let fields = place.object("a server")?;
        if !fields.contains_key(TASK) {
            // Its absence is not that it is null.
            place.needed(&[TASK])?;
        }
        let task = place.field(&[TASK]);
        let task = task.map(|task| task.text("a task's name")).transpose()?;
        // As clients may write what is null.
        let task = task.filter(|task| !matches!(*task, "" | "None"));
        Ok(Server {
            id: images::id(place)?,
            task: task.map(String::from),
        })
    }
}

/// Decides from `image show` and `server show`, at this Unix second.
///
/// # Errors
///
/// What is wrong with them, and that the image is not of that server.
pub(crate) fn answer(
    image: &Document,
    server: &Document,
    patience: Duration,
    now: u64,
    format: Format,
) -> anyhow::Result<Answer> {
    let image = Image::read(&image.root())?;
    let server = Server::read(&server.root())?;
    let of_server = image.properties.get("instance_uuid");
    if let Some(other) = of_server.filter(|uuid| !uuid.eq_ignore_ascii_case(&server.id)) {
        bail!(
            "the image {} is a snapshot of the server {}, and --server is of {}",
            image.id,
            text::excerpt(other),
            server.id
        );
    }
    let (exit_code, state, words) = match judge(&image, server.task.as_deref(), patience, now) {
        Verdict::Finished(words) => (FINISHED, "finished", words),
        Verdict::NotYet(words) => (NOT_YET, "not yet", words),
        Verdict::Failed(words) => (FAILED, "failed", words),
    };
    Ok(Answer {
        text: match format {
            Format::Table => text::one_line(&format!("{state}: {words}")) + "\n",
            Format::Json => super::json(&json!({
                "state": state,
                "why": words,
                "image": image.id,
                "server": server.id,
            })),
        },
        exit_code,
        warnings: Vec::new(),
    })
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Finished(String),
    NotYet(String),
    Failed(String),
}

fn judge(image: &Image, task: Option<&str>, patience: Duration, now: u64) -> Verdict {
    let status = image.status.word();
    match image.status {
        Status::Active if has_no_bytes(image) => return Verdict::Failed(where_it_is(image).into()),
        Status::Active | Status::Queued | Status::Saving => {}
        Status::Uploading | Status::Importing => {}
        Status::Deactivated => {
            let words = "the image is deactivated: an administrator keeps it from being used";
            return Verdict::Failed(words.into());
        }
        Status::Killed => {
            let words = "the image is killed: its upload failed, delete it and make another";
            return Verdict::Failed(words.into());
        }
        Status::Deleted | Status::PendingDelete => {
            return Verdict::Failed(format!("the image is {status}: somebody deleted it"));
        }
    }
    let missing = match (image.status, image.size, task) {
        (Status::Active, Some(size), None) => return Verdict::Finished(finished(image, size)),
        (Status::Active, None, None) => "the image is active, and has no size".to_string(),
        (Status::Active, _, Some(task)) => {
            format!(
                "the image is active, and the server's task is {}",
                text::excerpt(task)
            )
        }
        (_, _, Some(task)) => {
            format!(
                "the image is {status}, the server's task is {}",
                text::excerpt(task)
            )
        }
        (_, _, None) => format!("the image is {status}"),
    };
    match image.updated_at.or(image.created_at) {
        None => Verdict::NotYet(format!("{missing}; since when is not said")),
        Some(since) => {
            let lasts = Duration::from_secs(now.saturating_sub(since));
            let words = format!("{missing}, for {}", clock::span(lasts));
            // What Nova still works at may wait for its turn; without a task nobody will go on.
            let may_be_stuck = image.status == Status::Saving || task.is_none();
            match may_be_stuck && lasts > patience {
                true => Verdict::Failed(format!(
                    "stuck: {words}, which is longer than --patience {}",
                    clock::span(patience)
                )),
                false => Verdict::NotYet(words),
            }
        }
    }
}

fn has_no_bytes(image: &Image) -> bool {
    image.is_empty() || image.size.is_none() && image.maps_volumes()
}

fn where_it_is(image: &Image) -> &'static str {
    match image.maps_volumes() {
        true => {
            "the server boots from a volume, and the image is but a note (size 0, \
             block_device_mapping): look at the volume snapshots (openstack volume snapshot list)"
        }
        false => "the image is active with a size of 0: nothing was stored",
    }
}

fn finished(image: &Image, size: u64) -> String {
    let size = text::bytes(size);
    match (&image.sums.hash, &image.sums.md5) {
        (Some((algorithm, hash)), _) => format!("{size}, {} {hash}", text::excerpt(algorithm)),
        (None, Some(md5)) => format!("{size}, MD5 {md5}"),
        (None, None) => format!(
            "{size}, not verifiable: it has no checksum, as where Nova adds an image by its location (Ceph)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::images::Sums;

    const NOW: u64 = 1_800_000_000;
    const PATIENCE: Duration = Duration::from_secs(3600);

    /// Ten minutes old.
    fn image(status: Status, size: Option<u64>) -> Image {
        Image {
            status,
            size,
            created_at: Some(NOW - 7200),
            updated_at: Some(NOW - 600),
            ..Image::default()
        }
    }

    #[test]
    fn it_is_finished_only_if_active_with_a_size_and_without_a_task() {
        let uploading = Some("image_uploading");
        let (finished, not_yet, failed) = ("finished", "not yet", "failed");
        let cases = [
            (Status::Active, Some(5), None, finished, "5 B"),
            (
                Status::Active,
                Some(5),
                uploading,
                not_yet,
                "task is image_uploading, for 10 min",
            ),
            (
                Status::Active,
                Some(5),
                Some("image_pending_upload"),
                not_yet,
                "image_pending_upload",
            ),
            (Status::Active, None, None, not_yet, "has no size"),
            (Status::Active, Some(0), None, failed, "nothing was stored"),
            (
                Status::Active,
                Some(0),
                uploading,
                failed,
                "nothing was stored",
            ),
            (
                Status::Queued,
                None,
                uploading,
                not_yet,
                "queued, the server's task is",
            ),
            (Status::Queued, None, None, not_yet, "queued, for 10 min"),
            (
                Status::Saving,
                None,
                uploading,
                not_yet,
                "saving, the server's task is",
            ),
            (Status::Saving, Some(0), None, not_yet, "saving, for"),
            (Status::Uploading, None, None, not_yet, "uploading"),
            (Status::Importing, None, None, not_yet, "importing"),
            (
                Status::Deactivated,
                Some(5),
                None,
                failed,
                "an administrator",
            ),
            (Status::Killed, None, uploading, failed, "its upload failed"),
            (Status::Deleted, Some(5), None, failed, "deleted"),
            (
                Status::PendingDelete,
                Some(5),
                None,
                failed,
                "pending_delete",
            ),
        ];
        for (status, size, task, outcome, words) in cases {
            let said = match judge(&image(status, size), task, PATIENCE, NOW) {
                Verdict::Finished(words) => (finished, words),
                Verdict::NotYet(words) => (not_yet, words),
                Verdict::Failed(words) => (failed, words),
            };
            assert_eq!(said.0, outcome, "{status:?} {size:?} {task:?}: {}", said.1);
            assert!(
                said.1.contains(words),
                "{status:?} {size:?} {task:?}: {}",
                said.1
            );
        }
    }

    #[test]
    fn what_is_saved_for_longer_than_the_patience_is_stuck() {
        let saving = image(Status::Saving, None);
        let at = |age: u64| judge(&saving, None, PATIENCE, NOW - 600 + age);
        assert!(matches!(at(3600), Verdict::NotYet(_)));
        let Verdict::Failed(words) = at(3601) else {
            panic!("not stuck");
        };
        assert!(words.starts_with("stuck: the image is saving"), "{words}");
        // Others wait for their turn; and of an image that was finished before, the dates say
        // nothing of what its server is at now.
        // But if the server has no task any more, nobody goes on with them.
        for (status, size) in [
            (Status::Queued, None),
            (Status::Uploading, None),
            (Status::Importing, None),
            (Status::Active, None),
        ] {
            let image = image(status, size);
            let later = |task| judge(&image, task, PATIENCE, NOW + 3600);
            assert!(matches!(later(Some("image_uploading")), Verdict::NotYet(_)));
            let Verdict::Failed(words) = later(None) else {
                panic!("{status:?} is not stuck");
            };
            assert!(words.starts_with("stuck: the image is "), "{words}");
            let early = judge(&image, None, PATIENCE, NOW + 3000);
            assert!(matches!(early, Verdict::NotYet(_)), "{status:?}");
        }
        let stored = image(Status::Active, Some(5));
        let later = judge(&stored, Some("image_uploading"), PATIENCE, NOW + 3600);
        assert!(matches!(later, Verdict::NotYet(_)));
        let undated = Image {
            created_at: None,
            updated_at: None,
            ..image(Status::Saving, None)
        };
        assert!(matches!(
            judge(&undated, None, PATIENCE, NOW),
            Verdict::NotYet(_)
        ));
        // Its clock may be ahead of ours.
        assert!(matches!(
            judge(&image(Status::Saving, None), None, PATIENCE, 0),
            Verdict::NotYet(_)
        ));
    }

    #[test]
    fn a_snapshot_of_volumes_is_looked_for_elsewhere_and_one_without_a_checksum_is_said_to_be() {
        let mut of_volumes = image(Status::Active, Some(0));
        of_volumes
            .properties
            .insert("block_device_mapping".into(), "[]".into());
        let Verdict::Failed(words) = judge(&of_volumes, None, PATIENCE, NOW) else {
            panic!();
        };
        assert!(words.contains("look at the volume snapshots"), "{words}");

        let finished = |sums| {
            let image = Image {
                sums,
                ..image(Status::Active, Some(1 << 30))
            };
            judge(&image, None, PATIENCE, NOW)
        };
        let Verdict::Finished(words) = finished(Sums::default()) else {
            panic!();
        };
        assert!(words.starts_with("1.0 GiB, not verifiable: "), "{words}");
        let md5 = Sums {
            md5: Some("ab".into()),
            ..Sums::default()
        };
        assert_eq!(finished(md5), Verdict::Finished("1.0 GiB, MD5 ab".into()));
    }
}

//! `plan image`: which copy of an image is the newest, which cloud has to get it, and what is
//! there already.

mod clouds;
mod copying;
mod newest;
#[cfg(test)]
mod tests;
mod verdict;
mod words;

pub(crate) use clouds::{Clouds, Source, of_which_cloud, one_folder_for_all};

use clouds::Cloud;
use newest::Newest;
use verdict::{CANNOT_TELL, CONFLICT, NOTHING_TO_DO, SOMETHING_TO_COPY, Verdict};

use anyhow::anyhow;
use serde_json::{Value, json};

use super::Answer;
use crate::cli::Format;
use crate::clock;
use crate::failure::Failure;
use crate::plan::images::Image;
use crate::text;

/// Decides for each cloud.
///
/// # Errors
///
/// That no copy can be taken, or the name is missing where several could be meant.
pub(crate) fn answer(
    clouds: Clouds,
    name: Option<&str>,
    format: Format,
) -> Result<Answer, Failure> {
    if clouds.have_none() {
        let words = "there is no image in these files; what `openstack image show -f json` printed of a copy is \
                     expected, or `image list --long -f json`";
        return Err(Failure::Other(anyhow!(words)));
    }
    let name = name.or_else(|| clouds.only_name()).map(String::from);
    let name = name.ok_or_else(|| {
        Failure::Usage(
            "which image is meant? --name says it where the files show several, or lists alone"
                .into(),
        )
    })?;
    let clouds = clouds.all();
    let mut warnings = Vec::new();
    let (source, newest) = match newest::of(&clouds, &name, &mut warnings)? {
        Newest::Is(source, newest) => (source, newest),
        Newest::CannotBeTold(why) => {
            return Ok(Answer {
                text: match format {
                    Format::Table => format!("newest: cannot be told: {why}\n"),
                    Format::Json => super::json(&json!({
                        "newest": null,
                        "why": why,
                        "clouds": [],
                        "commands": [],
                        "warnings": warnings,
                    })),
                },
                exit_code: CANNOT_TELL,
                warnings,
            });
        }
    };
    let verdicts = clouds
        .iter()
        .map(|cloud| (cloud, Verdict::of(cloud, &name, source, newest)));
    let verdicts: Vec<(&Cloud, Verdict)> = verdicts.collect();
    let row = |(cloud, verdict): &(&Cloud, Verdict)| {
        let state = match cloud.is_to_have_it {
            true => verdict.word(),
            false => "not asked for",
        };
        [
            cloud.name.clone(),
            state.into(),
            verdict.reason(&source.name, newest),
        ]
    };
    let rows: Vec<[String; 3]> = verdicts.iter().map(row).collect();
    let wanted = || verdicts.iter().filter(|(cloud, _)| cloud.is_to_have_it);
    let targets = wanted().filter(|(_, verdict)| matches!(verdict, Verdict::Copy));
    let targets: Vec<&str> = targets.map(|(cloud, _)| cloud.name.as_str()).collect();
    let mut commands = Vec::new();
    if !targets.is_empty() {
        commands = copying::commands(newest, &source.name, &targets);
        warnings.extend(copying::warnings(newest, &source.name));
    }
    let has = |code: u8| wanted().any(|(_, verdict)| verdict.exit_code() == code);
    let worst_first = [CONFLICT, CANNOT_TELL, SOMETHING_TO_COPY];
    let exit_code = worst_first.into_iter().find(|code| has(*code));
    Ok(Answer {
        text: match format {
            Format::Table => as_text(source, newest, rows, &commands),
            Format::Json => super::json(&json!({
                "newest": {
                    "cloud": source.name,
                    "id": newest.id,
                    "name": newest.name,
                    "size": newest.size,
                    "created_at": newest.created_at.map(clock::utc),
                },
                "clouds": rows.iter().map(as_json).collect::<Vec<Value>>(),
                "commands": commands,
                "warnings": warnings,
            })),
        },
        exit_code: exit_code.unwrap_or(NOTHING_TO_DO),
        warnings,
    })
}

fn as_text(source: &Cloud, newest: &Image, rows: Vec<[String; 3]>, commands: &[String]) -> String {
    let mut text = format!(
        "newest: {} on {}\n\n",
        words::in_words(newest),
        text::printable(&source.name)
    );
    text += &text::table(&["CLOUD", "STATE", "WHY"], rows.into_iter());
    // Each runs only if the one before succeeded.
    if !commands.is_empty() {
        text += &format!("\n{}\n", commands.join(" &&\n"));
    }
    text
}

fn as_json([cloud, state, why]: &[String; 3]) -> Value {
    json!({"cloud": cloud, "state": state, "why": why})
}

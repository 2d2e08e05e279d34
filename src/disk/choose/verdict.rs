//! What comes of judging: accepted devices with their evidence, and verdicts.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::stripe::{Joined, Stripe};
use crate::config::Spec;
use crate::disk::reason::Reason;
use crate::disk::signature::Content;
use crate::host::block_device::Number;
use crate::text;

/// A device that may be mounted as the scratch disk. Only [`choose`](super::choose) makes one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Accepted {
    pub(super) node: PathBuf,
    pub(super) number: Number,
    pub(super) size_bytes: u64,
    pub(super) filesystem: String,
    pub(super) label: Option<String>,
    pub(super) uuid: Option<String>,
    pub(super) evidence: Evidence,
    pub(super) made_of: Vec<PathBuf>,
    pub(super) mounted_on: Vec<PathBuf>,
    pub(super) twin_of: Option<PathBuf>,
    pub(super) is_unclean: bool,
}

/// Why a disk may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Evidence {
    /// Whoever made the file system called it what the image asks for.
    Label(String),
    /// The cloud's own mark says that it is local scratch; in words.
    Local(String),
    /// A name led to it, and nothing is in it.
    Empty,
    /// A name led to it, and this program has staged it before.
    Ours,
    /// A name led to it, and it is blank.
    Blank,
    /// A name led to it, and this program was making a file system on it.
    HalfMade,
    /// A name led to it, and it is mounted on the mount point.
    Staged,
}

impl Evidence {
    /// Whether nothing but a name led to the disk.
    pub(crate) fn is_of_a_name(&self) -> bool {
        match self {
            Evidence::Empty
            | Evidence::Ours
            | Evidence::Blank
            | Evidence::HalfMade
            | Evidence::Staged => true,
            Evidence::Label(_) | Evidence::Local(_) => false,
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Evidence::Label(label) => write!(f, "LABEL={label}"),
            Evidence::Local(words) => write!(f, "local: {words}"),
            Evidence::Empty => write!(f, "empty"),
            Evidence::Ours => write!(f, "ours"),
            Evidence::Blank => write!(f, "blank"),
            Evidence::HalfMade => write!(f, "half made"),
            Evidence::Staged => write!(f, "staged already"),
        }
    }
}

impl Accepted {
    pub(crate) fn node(&self) -> &Path {
        &self.node
    }

    pub(crate) fn number(&self) -> Number {
        self.number
    }

    /// What was on it when it was accepted.
    pub(crate) fn content(&self) -> Content {
        Content::Filesystem {
            kind: self.filesystem.clone(),
            label: self.label.clone(),
        }
    }

    /// libblkid's name for the file system.
    pub(crate) fn filesystem(&self) -> &str {
        &self.filesystem
    }

    pub(crate) fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// Of the file system.
    pub(crate) fn uuid(&self) -> Option<&str> {
        self.uuid.as_deref()
    }

    pub(crate) fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The disks that it is made of, where it is an array.
    pub(crate) fn made_of(&self) -> &[PathBuf] {
        &self.made_of
    }

    /// Where else it is mounted already.
    pub(crate) fn mounted_on(&self) -> &[PathBuf] {
        &self.mounted_on
    }

    /// A device with the same UUID that is mounted.
    pub(crate) fn twin_of(&self) -> Option<&Path> {
        self.twin_of.as_deref()
    }

    /// It was not unmounted cleanly, or errors were found in it.
    pub(crate) fn is_unclean(&self) -> bool {
        self.is_unclean
    }
}

/// A disk that would be used if there were a file system on it that keeps owners. Only
/// [`choose`](super::choose) makes one: of a disk that was seen to be all zero, in whose file system there is
/// nothing at all, or on which this program's own mkfs did not come to its end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ToBeMade {
    pub(super) node: PathBuf,
    pub(super) number: Number,
    pub(super) size_bytes: u64,
    pub(super) content: Content,
    pub(super) uuid: Option<String>,
    pub(super) in_place_of: InPlaceOf,
    pub(super) evidence: Evidence,
    pub(super) array: Option<String>,
    pub(super) fate: Fate,
}

/// What becomes of a disk that lacks a file system.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fate {
    GetsOne,
    /// A warning says why. It still goes before what later specs lead to.
    CannotGetOne,
}

/// What is lost when a file system is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum InPlaceOf {
    Nothing,
    /// What a run that died while mkfs ran has left.
    HalfMade,
    /// A file system of this kind, with nothing in it.
    Empty(String),
}

impl ToBeMade {
    pub(crate) fn node(&self) -> &Path {
        &self.node
    }

    pub(crate) fn number(&self) -> Number {
        self.number
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// What was on it when it was judged.
    pub(crate) fn content(&self) -> &Content {
        &self.content
    }

    /// Whether this is what was on it when it was judged, by all that a superblock tells: kind,
    /// label, and UUID (of vfat, NTFS and exFAT the volume's serial number).
    pub(crate) fn is_of(&self, content: &Content, uuid: Option<&str>) -> bool {
        self.content == *content && self.uuid.as_deref() == uuid
    }

    pub(crate) fn in_place_of(&self) -> &InPlaceOf {
        &self.in_place_of
    }

    pub(crate) fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Whether it gets a file system.
    pub(crate) fn is_made(&self) -> bool {
        self.fate == Fate::GetsOne
    }

    /// The UUID of an array that this is.
    pub(crate) fn array(&self) -> Option<&str> {
        self.array.as_deref()
    }

    /// A label led to it: nothing that a later spec leads to may be used instead.
    pub(super) fn is_decisive(&self) -> bool {
        matches!(self.evidence, Evidence::Label(_))
    }
}

/// What became of one device under one spec, or of a spec that led to no device.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) spec: Spec,
    /// The spec's own path where there is no device behind it.
    pub(crate) device: Option<PathBuf>,
    pub(crate) judgement: Judgement,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Judgement {
    Accepted(Accepted),
    ToBeMade(ToBeMade),
    /// It is one of several that are to be one disk.
    Joined(Joined),
    Absent,
    Rejected(Reason),
}

/// The verdicts in the order of the specs, and what a person should know of them.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) warnings: Vec<String>,
    /// Likewise, what is lost when disks become one, or why they do not: to be told before
    /// anything is made.
    pub(crate) of_several: Option<String>,
    /// Disks that are to be one; verdicts on each say so.
    pub(crate) stripe: Option<Stripe>,
    /// The device that has to be looked into before the choice can be made.
    pub(crate) to_look_into: Option<Number>,
}

impl Choice {
    /// The accepted devices, in the order in which they are to be tried.
    pub(crate) fn accepted(&self) -> impl Iterator<Item = &Accepted> {
        self.verdicts
            .iter()
            .take_while(|verdict| !is_decisive(&verdict.judgement))
            .filter_map(|verdict| match &verdict.judgement {
                Judgement::Accepted(accepted) => Some(accepted),
                _ => None,
            })
    }

    /// The one that is to be tried.
    pub(crate) fn first_accepted(&self) -> Option<&Accepted> {
        self.accepted().next()
    }

    /// Rejects what could not be mounted, under every spec that led to it.
    pub(crate) fn refuse(&mut self, refused: &Accepted, error: &str) {
        for verdict in &mut self.verdicts {
            let is_it = |accepted: &Accepted| {
                accepted.number == refused.number && accepted.content() == refused.content()
            };
            if matches!(&verdict.judgement, Judgement::Accepted(accepted) if is_it(accepted)) {
                verdict.judgement = Judgement::Rejected(Reason::NotMountable(error.into()));
            }
        }
    }

    /// The first disk that only lacks a file system.
    pub(crate) fn to_be_made(&self) -> Option<&ToBeMade> {
        self.verdicts
            .iter()
            .find_map(|verdict| match &verdict.judgement {
                Judgement::ToBeMade(one) if one.fate == Fate::GetsOne => Some(one),
                _ => None,
            })
    }

    /// Takes back, of this disk or of all, that a file system is made, and says why.
    pub(crate) fn cannot_make(&mut self, number: Option<Number>, why: String) {
        for verdict in &mut self.verdicts {
            if let Judgement::ToBeMade(one) = &mut verdict.judgement
                && number.is_none_or(|number| number == one.number)
            {
                one.fate = Fate::CannotGetOne;
            }
        }
        if !self.warnings.contains(&why) {
            self.warnings.push(why);
        }
    }

    /// The disks that are to be put together, where nothing speaks against doing so at once: a
    /// label that the array has goes before whatever else was found.
    pub(crate) fn to_assemble_at_once(&self) -> Option<&Stripe> {
        let is_labelled = |accepted: &Accepted| matches!(accepted.evidence, Evidence::Label(_));
        let is_free = !self.first_accepted().is_some_and(is_labelled);
        let stripe = self.stripe.as_ref();
        stripe.filter(|stripe| is_free && stripe.is_harmless())
    }

    /// The disks that are to be one, where none that only lacks a file system goes before them.
    pub(crate) fn to_be_one(&self) -> Option<&Stripe> {
        let mut judgements = self.verdicts.iter().map(|verdict| &verdict.judgement);
        let first = judgements
            .find(|judgement| matches!(judgement, Judgement::ToBeMade(_) | Judgement::Joined(_)));
        self.stripe
            .as_ref()
            .filter(|_| matches!(first, Some(Judgement::Joined(_))))
    }

    /// Whether this very disk still only lacks a file system.
    pub(crate) fn is_to_make(&self, to_be_made: &ToBeMade) -> bool {
        let mut verdicts = self.verdicts.iter();
        verdicts.any(
            |verdict| matches!(&verdict.judgement, Judgement::ToBeMade(one) if one == to_be_made),
        )
    }

    /// The one that a label led to, which goes before whatever later specs lead to.
    pub(crate) fn to_be_made_at_once(&self) -> Option<&ToBeMade> {
        let is_first = self.first_accepted().is_none() && self.to_be_one().is_none();
        self.to_be_made()
            .filter(|one| one.is_decisive() && is_first)
    }
}

fn is_decisive(judgement: &Judgement) -> bool {
    matches!(judgement, Judgement::ToBeMade(one) if one.is_decisive())
}

/// One line: `LABEL=ephemeral0: /dev/vdb is accepted (LABEL=ephemeral0)`.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.spec)?;
        if let (Spec::Label(_) | Spec::Local, Some(device)) = (&self.spec, &self.device) {
            write!(f, ": {}", device.display())?;
        }
        write!(f, " {}", self.judgement)
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Judgement::Accepted(accepted) => write!(f, "is accepted ({})", accepted.reasons()),
            Judgement::Joined(joined) => write!(f, "{joined}"),
            Judgement::ToBeMade(one) => {
                if one.fate == Fate::CannotGetOne {
                    return write!(f, "lacks a file system and cannot get one");
                }
                match &one.in_place_of {
                    InPlaceOf::Nothing => write!(f, "is blank and gets a file system")?,
                    InPlaceOf::HalfMade if one.array.is_some() => {
                        write!(f, "is an array without a file system yet, and gets one")?;
                    }
                    InPlaceOf::HalfMade => write!(
                        f,
                        "has a file system that this program was making when it was ended; it is made anew"
                    )?,
                    InPlaceOf::Empty(kind) => write!(
                        f,
                        "holds an empty {kind}, and gets a file system in its place"
                    )?,
                }
                match one.evidence.is_of_a_name() {
                    true => Ok(()),
                    false => write!(f, " ({})", one.evidence),
                }
            }
            Judgement::Absent => write!(f, "is absent"),
            Judgement::Rejected(reason) => write!(f, "{reason}"),
        }
    }
}

/// What a file system is and why it may be used, as it is said of the disk that is staged:
/// `ext4, LABEL=ephemeral0`, `ext4, empty`, `ext4, LABEL=thesis, ours`. Of an array, given its
/// disks, also what it is made of.
pub(crate) fn known_by(
    filesystem: &str,
    label: Option<&str>,
    evidence: Option<&str>,
    disks: &[PathBuf],
) -> String {
    let label = label.map(|label| format!("LABEL={label}"));
    // The label may be the evidence.
    let evidence = evidence.filter(|evidence| label.as_deref() != Some(*evidence));
    let words = [Some(filesystem), label.as_deref(), evidence];
    with_disks(
        words.into_iter().flatten().collect::<Vec<_>>().join(", "),
        disks,
    )
}

fn with_disks(words: String, disks: &[PathBuf]) -> String {
    match disks {
        [] => words,
        disks => format!("{words}, made of {}", text::all_of(disks)),
    }
}

impl Accepted {
    /// As it is said of the disk that is staged.
    pub(crate) fn known_by(&self) -> String {
        let evidence = self.evidence.to_string();
        known_by(
            &self.filesystem,
            self.label(),
            Some(&evidence),
            &self.made_of,
        )
    }

    /// `ext4, empty`, `LABEL=ephemeral0`.
    pub(crate) fn reasons(&self) -> String {
        let evidence = &self.evidence;
        let words = match evidence.is_of_a_name() {
            true => format!("{}, {evidence}", self.filesystem),
            false => evidence.to_string(),
        };
        with_disks(words, &self.made_of)
    }
}

/// All verdicts and warnings in one line.
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let verdicts: Vec<_> = self.verdicts.iter().map(Verdict::to_string).collect();
        write!(f, "{}", verdicts.join(" | "))?;
        self.warnings
            .iter()
            .try_for_each(|warning| write!(f, "; {warning}"))
    }
}

//! `plan flavor`: the closest flavor that has all that is asked for.

use serde_json::{Value, json};

use super::flavors::{self, Flavor};
use super::images::Status;
use super::input::{Document, Place};
use super::properties::Asked;
use super::{Answer, FOUND};
use crate::cli::{FlavorArgs, Format};
use crate::order::in_order;
use crate::resources::{self, MIB_PER_GIB, Request, size_in_words};
use crate::text;

const NONE_FITS: u8 = 3;

/// Glance's formats of which the size is the one of the disk.
const AS_LARGE_AS_THEY_ARE: [&str; 5] = ["raw", "iso", "ami", "aki", "ari"];

/// What a flavor has of each, and what of it is asked for, in the order of [`Ask::rank`] unless
/// another is wished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Cores,
    Memory,
    Scratch,
    Root,
    Swap,
}

const PARTS: [Part; 5] = [
    Part::Cores,
    Part::Memory,
    Part::Scratch,
    Part::Root,
    Part::Swap,
];

impl Part {
    fn name(self) -> &'static str {
        ["cores", "memory", "scratch", "root", "swap"][self as usize]
    }

    /// In the JSON, with the unit.
    fn key(self) -> &'static str {
        ["cores", "memory_mib", "scratch_mib", "root_mib", "swap_mib"][self as usize]
    }

    fn of(self, flavor: &Flavor) -> u64 {
        match self {
            Part::Cores => flavor.cores,
            Part::Memory => flavor.memory_mib,
            Part::Scratch => flavor.scratch_mib,
            Part::Root => flavor.root_mib,
            Part::Swap => flavor.swap_mib,
        }
    }

    fn in_words(self, amount: u64) -> String {
        match self {
            Part::Cores => amount.to_string(),
            _ => size_in_words(amount),
        }
    }
}

/// What is asked for, in the units of [`Flavor`].
pub(crate) struct Ask {
    /// For each of [`PARTS`].
    least: [u64; 5],
    /// What the image needs of a root disk that is not as large as the image whatever that is.
    image_root_mib: u64,
    properties: Vec<String>,
    rank: [Part; 5],
    warnings: Vec<String>,
}

impl Ask {
    /// # Errors
    ///
    /// What is wrong with an argument.
    pub(crate) fn from_arguments(arguments: &FlavorArgs) -> Result<Ask, String> {
        let named = |option: &str, error| format!("--{option}: {error}");
        let mut request = Request::default();
        if let Some(text) = &arguments.request {
            request = Request::parse(text).map_err(|e| named("request", e))?;
        }
        let options = [
            ("memory", &arguments.memory, &mut request.memory_mib),
            ("cores", &arguments.cores, &mut request.cores),
            ("scratch", &arguments.scratch, &mut request.scratch_mib),
        ];
        for (option, text, place) in options {
            let Some(text) = text else { continue };
            let amount = match option {
                "memory" => resources::memory_mib(text),
                "cores" => resources::cores(text),
                _ => resources::disk_mib(text),
            };
            *place = Some(amount.map_err(|e| named(option, e))?);
        }
        if request == Request::default() && arguments.image.is_none() {
            return Err(
                "nothing is asked for: say --memory, --cores, --scratch, --request or --image"
                    .into(),
            );
        }
        let least = [
            request.cores,
            request.memory_mib,
            request.scratch_mib,
            request.root_mib,
            None,
        ];
        let least = least.map(Option::unwrap_or_default);
        Ok(Ask {
            least,
            image_root_mib: 0,
            properties: arguments.properties.clone(),
            rank: rank(arguments.rank.as_deref()).map_err(|e| named("rank", e))?,
            warnings: Vec::new(),
        })
    }

    /// Asks for what an image needs as well.
    ///
    /// # Errors
    ///
    /// What is wrong with the document, with file and place.
    pub(crate) fn take_image(&mut self, document: &Document) -> anyhow::Result<()> {
        let image = document.root();
        image.object("an image")?;
        let number = |name, unit: &str| {
            let place = image.field(&[name]);
            place.map_or(Ok(0), |place: Place| place.number(unit))
        };
        let min_disk = number("min_disk", "GiB")?;
        let size = number("size", "bytes")?;
        let virtual_size = number("virtual_size", "bytes")?;
        if image.field(&["size"]).is_none() && image.field(&["min_disk"]).is_none() {
            return Err(image.error(
                "it has neither size nor min_disk: `openstack image show -f json` is expected",
            ));
        }
        let status = image.field(&["status"]);
        let status = status.map(|status| Status::read(&status)).transpose()?;
        if let Some(status) = status.filter(|status| status.is_over()) {
            return Err(image.error(&format!(
                "it is {}, and can be launched in no flavor; give one that is active",
                status.word()
            )));
        }
        let status = status.filter(|status| *status != Status::Active);
        self.warnings.extend(status.map(|status| {
            format!(
                "the image is {}: it cannot be launched as it is",
                status.word()
            )
        }));
        let format = image.field(&["disk_format"]);
        let format = format.map(|format| format.text("a disk format"));
        let format = format.transpose()?.unwrap_or("of an unknown disk format");
        if size == 0 {
            self.warnings.push(
                "the image has no size: it is not finished, or its data are in a volume".into(),
            );
        } else if !AS_LARGE_AS_THEY_ARE.contains(&format) && virtual_size == 0 && min_disk == 0 {
            self.warnings.push(format!(
                "the image is {}, its virtual size is not known, and its min_disk is 0: the root disk may \
                 be too small for it",
                text::excerpt(format)
            ));
        }
        let memory = &mut self.least[Part::Memory as usize];
        *memory = (*memory).max(number("min_ram", "MiB")?);
        self.image_root_mib = size
            .max(virtual_size)
            .div_ceil(1 << 20)
            .max(min_disk.saturating_mul(MIB_PER_GIB));
        Ok(())
    }

    /// How much of it a flavor must have.
    fn least(&self, part: Part, flavor: &Flavor) -> u64 {
        let least = self.least[part as usize];
        match part {
            // Nova makes a root disk of 0 GiB as large as the image.
            Part::Root if flavor.root_mib > 0 => least.max(self.image_root_mib),
            _ => least,
        }
    }

    fn spare(&self, part: Part, flavor: &Flavor) -> u64 {
        part.of(flavor).saturating_sub(self.least(part, flavor))
    }

    fn missing(&self, part: Part, flavor: &Flavor) -> u64 {
        self.least(part, flavor).saturating_sub(part.of(flavor))
    }
}

/// The parts in the order of a list, and then the others.
fn rank(list: Option<&str>) -> Result<[Part; 5], String> {
    let mut rank = PARTS;
    let names = list.into_iter().flat_map(|list| list.split(','));
    for (done, name) in names.enumerate() {
        let is_it = |part: &Part| part.name() == name.trim();
        let Some(at) = rank.iter().position(is_it) else {
            return Err(format!(
                "\"{name}\" is none of cores, memory, scratch, root, swap"
            ));
        };
        if at < done {
            return Err(format!("{name} is there twice"));
        }
        rank[done..=at].rotate_right(1);
    }
    Ok(rank)
}

/// What became of a flavor.
struct Verdict<'a> {
    flavor: &'a Flavor,
    /// Why it may not be taken, beside what it is short of.
    against: Vec<String>,
    is_short: bool,
}

impl<'a> Verdict<'a> {
    fn new(ask: &Ask, flavor: &'a Flavor) -> Verdict<'a> {
        let mut against = Vec::new();
        if flavor.is_disabled {
            against.push("disabled".to_string());
        }
        if flavor.name.is_empty() || flavor.name.contains(text::is_control) {
            against.push("its name cannot be printed as it is".to_string());
        }
        for property in flavor.needs() {
            if !ask.properties.iter().any(|asked| Asked(asked).is(property)) {
                against.push(format!(
                    "is for those who ask for {}={}",
                    property.0, property.1
                ));
            }
        }
        for asked in &ask.properties {
            match &flavor.properties {
                None => against.push(format!("whether it has {asked} is not known")),
                Some(all) if all.iter().any(|property| Asked(asked).is(property)) => {}
                Some(_) => against.push(format!("has no {asked}")),
            }
        }
        Verdict {
            flavor,
            against,
            is_short: PARTS.iter().any(|part| ask.missing(*part, flavor) > 0),
        }
    }

    fn fits(&self) -> bool {
        !self.is_short && self.against.is_empty()
    }

    /// In thousandths of what is asked for, and as much for every other reason.
    fn distance(&self, ask: &Ask) -> u128 {
        let missing = PARTS.map(|part| {
            let missing = u128::from(ask.missing(part, self.flavor)) * 1000;
            missing.div_ceil(u128::from(ask.least(part, self.flavor).max(1)))
        });
        missing.iter().sum::<u128>() + 1000 * self.against.len() as u128
    }

    /// The closest is the least.
    fn closeness(&self, ask: &Ask) -> (u128, [u64; 5], &'a str) {
        let spare = ask.rank.map(|part| ask.spare(part, self.flavor));
        (self.distance(ask), spare, &self.flavor.name)
    }

    /// What it lacks, and what else speaks against it.
    fn reasons(&self, ask: &Ask) -> Vec<String> {
        let short = PARTS.into_iter().filter_map(|part| {
            let missing = ask.missing(part, self.flavor);
            let how = match part {
                Part::Cores => "too few",
                _ => "too little",
            };
            (missing > 0).then(|| format!("{}: {} {how}", part.name(), part.in_words(missing)))
        });
        self.against.iter().cloned().chain(short).collect()
    }
}

/// Decides, and says it.
pub(crate) fn answer(ask: &Ask, flavors: &[Flavor], format: Format) -> Answer {
    let judged = flavors.iter().map(|flavor| Verdict::new(ask, flavor));
    let judged: Vec<Verdict> = judged.collect();
    let closeness: Vec<_> = judged.iter().map(|one| one.closeness(ask)).collect();
    let order = in_order(judged.len(), &|one, other| {
        closeness[one].cmp(&closeness[other])
    });
    let verdicts: Vec<&Verdict> = order.iter().map(|at| &judged[*at]).collect();
    let taken = verdicts.first().filter(|verdict| verdict.fits());
    let mut warnings = ask.warnings.clone();
    warnings.extend(flavors::without_properties(flavors));
    warnings.extend(of_all(flavors));
    match (taken, verdicts.first()) {
        (Some(taken), _) => {
            let flavor = taken.flavor;
            if flavor.root_mib == 0 {
                warnings.push(format!(
                    "the root disk of {} is 0 GiB: Nova makes it as large as the image, and checks \
                     nothing",
                    flavor.name
                ));
            }
        }
        (None, Some(nearest)) => warnings.push(format!(
            "no flavor fits; the nearest is {}: {}",
            nearest.flavor.name,
            nearest.reasons(ask).join(", ")
        )),
        (None, None) => {}
    }
    let exit_code = match taken {
        Some(_) => FOUND,
        None => NONE_FITS,
    };
    let text = match format {
        Format::Table => table(ask, &verdicts),
        Format::Json => super::json(&document(ask, &verdicts, &warnings)),
    };
    Answer {
        text,
        exit_code,
        warnings,
    }
}

/// What is to be said of the flavors, whichever is taken.
fn of_all(flavors: &[Flavor]) -> Vec<String> {
    let lies = flavors.iter().filter_map(Flavor::lie).collect();
    let by_name = |one: usize, other: usize| flavors[one].name.cmp(&flavors[other].name);
    let mut several: Vec<String> = Vec::new();
    let mut first: Option<(&Flavor, bool)> = None;
    for at in in_order(flavors.len(), &by_name) {
        let flavor = &flavors[at];
        match &mut first {
            Some((first, is_told)) if first.name == flavor.name => {
                if !*is_told && *first != flavor {
                    *is_told = true;
                    let name = &flavor.name;
                    several.push(format!("there are several flavors {name}, which differ"));
                }
            }
            _ => first = Some((flavor, false)),
        }
    }
    let mut warnings = at_most_some(lies);
    warnings.extend(at_most_some(several));
    warnings
}

/// Where a whole cloud has it, nobody reads all of it.
fn at_most_some(mut warnings: Vec<String>) -> Vec<String> {
    const MOST: usize = 10;
    let more = warnings.len().saturating_sub(MOST);
    warnings.truncate(MOST);
    warnings.extend((more > 0).then(|| format!("and {more} more")));
    warnings
}

/// The name alone, and then all flavors, the closest first.
fn table(ask: &Ask, verdicts: &[&Verdict]) -> String {
    let taken = verdicts.first().filter(|verdict| verdict.fits());
    let name = taken.map_or("", |verdict| &verdict.flavor.name);
    let row = |(at, verdict): (usize, &&Verdict)| {
        let cell = |part: Part| {
            let has = part.in_words(part.of(verdict.flavor));
            match (
                ask.spare(part, verdict.flavor),
                ask.missing(part, verdict.flavor),
            ) {
                (0, 0) => has,
                (0, missing) => format!("{has} (-{})", part.in_words(missing)),
                (spare, _) => format!("{has} (+{})", part.in_words(spare)),
            }
        };
        let [cores, memory, scratch, root, swap] = PARTS.map(cell);
        let verdict_in_words = match (at, verdict.fits()) {
            (0, true) => "taken".to_string(),
            (_, true) => "fits, and has more to spare".to_string(),
            (_, false) => verdict.reasons(ask).join(", "),
        };
        [
            verdict.flavor.name.clone(),
            cores,
            memory,
            scratch,
            root,
            swap,
            verdict_in_words,
        ]
    };
    let header = [
        "FLAVOR", "CORES", "MEMORY", "SCRATCH", "ROOT", "SWAP", "VERDICT",
    ];
    let rows = verdicts.iter().enumerate().map(row);
    format!("{name}\n\n{}", text::table(&header, rows))
}

fn document(ask: &Ask, verdicts: &[&Verdict], warnings: &[String]) -> Value {
    let amounts = |amount: &dyn Fn(Part) -> u64| -> Value {
        let entry = |part: Part| (part.key().to_string(), amount(part).into());
        Value::Object(PARTS.into_iter().map(entry).collect())
    };
    let flavor = |verdict: &&Verdict| {
        let flavor = verdict.flavor;
        json!({
            "name": flavor.name,
            "fits": verdict.fits(),
            "has": amounts(&|part| part.of(flavor)),
            "spare": amounts(&|part| ask.spare(part, flavor)),
            "missing": amounts(&|part| ask.missing(part, flavor)),
            "reasons": verdict.reasons(ask),
        })
    };
    let taken = verdicts.first().filter(|verdict| verdict.fits());
    json!({
        "flavor": taken.map(|verdict| verdict.flavor.name.as_str()),
        "asked": amounts(&|part| ask.least[part as usize]),
        "image_root_mib": ask.image_root_mib,
        "flavors": verdicts.iter().map(flavor).collect::<Vec<Value>>(),
        "warnings": warnings,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::flavors::example::flavor;
    use super::*;

    /// The flavors of a cloud for batch jobs: memory and cores grow together, and with scratch
    /// space or without.
    fn seven() -> Vec<Flavor> {
        vec![
            flavor("m1024c1s0", 1024, 1, 0, 20),
            flavor("m1024c1s10", 1024, 1, 10, 20),
            flavor("m2048c1s20", 2048, 1, 20, 20),
            flavor("m4096c2s0", 4096, 2, 0, 40),
            flavor("m4096c2s40", 4096, 2, 40, 20),
            flavor("m8192c4s80", 8192, 4, 80, 20),
            flavor("m16384c8s160", 16384, 8, 160, 20),
        ]
    }

    fn ask(request: &str) -> Ask {
        Ask::from_arguments(&arguments(request)).unwrap()
    }

    fn arguments(request: &str) -> FlavorArgs {
        FlavorArgs {
            files: Vec::new(),
            memory: None,
            cores: None,
            scratch: None,
            request: Some(request.into()),
            image: None,
            properties: Vec::new(),
            rank: None,
            format: Format::Table,
        }
    }

    /// A tenth off is no lie of a name, and still less than was asked for.
    #[test]
    fn a_flavor_that_has_less_than_its_own_name_asks_for_does_not_fit() {
        let nearly = [
            flavor("m1024c1s10", 1024, 1, 9, 20),
            flavor("z-exact", 1024, 1, 10, 20),
            flavor("c8-30gb-186", 30_000, 8, 186, 20),
            flavor("SCS-16V-16-20", 16 * 1024, 16, 0, 19),
        ];
        for (request, expected, code) in [
            ("m1024c1s10", "z-exact", FOUND),
            ("c8-30gb-186", "", NONE_FITS),
            ("SCS-16V-16-20", "", NONE_FITS),
        ] {
            let answer = answer(&ask(request), &nearly, Format::Table);
            assert_eq!(first_line(&answer), expected, "{request}");
            assert_eq!(answer.exit_code, code, "{request}");
            assert!(
                !answer.warnings.iter().any(|words| words.contains("name")),
                "{:?}",
                answer.warnings
            );
        }
    }

    fn first_line(answer: &Answer) -> &str {
        answer.text.lines().next().unwrap()
    }

    #[test]
    fn the_closest_that_has_all_is_taken() {
        for (request, expected) in [
            ("m1024c1s10", "m1024c1s10"),
            ("memory=1G,cores=1,scratch=10G", "m1024c1s10"),
            ("m1000c1s11", "m2048c1s20"),
            ("m1024c2s10", "m4096c2s40"),
            ("m4096c2s0", "m4096c2s0"),
            ("SCS-1V-1-30", "m4096c2s0"),
            ("cores=3", "m8192c4s80"),
            ("m1024c1s161", ""),
            ("m16385c1s0", ""),
        ] {
            let answer = answer(&ask(request), &seven(), Format::Table);
            assert_eq!(first_line(&answer), expected, "{request}");
            let code = if expected.is_empty() {
                NONE_FITS
            } else {
                FOUND
            };
            assert_eq!(answer.exit_code, code, "{request}");
        }
    }

    #[test]
    fn what_is_needed_beside_size_has_to_be_asked_for() {
        let with = |key: &str| Some(vec![(key.to_string(), "1".to_string())]);
        let mut flavors = vec![
            Flavor {
                properties: with("resources:VGPU"),
                ..flavor("gpu", 1024, 1, 10, 20)
            },
            Flavor {
                is_disabled: true,
                ..flavor("disabled", 1024, 1, 10, 20)
            },
            flavor("two\nlines", 1024, 1, 10, 20),
            flavor("plain", 2048, 1, 10, 20),
        ];
        let plain = answer(&ask("m1024c1s10"), &flavors, Format::Table);
        assert_eq!(first_line(&plain), "plain");
        for reason in [
            "is for those who ask for resources:VGPU=1",
            "disabled",
            "its name cannot be printed as it is",
        ] {
            assert!(plain.text.contains(reason), "{}", plain.text);
        }
        let mut for_gpu = ask("m1024c1s10");
        for_gpu.properties = vec!["resources:VGPU".into()];
        let gpu = answer(&for_gpu, &flavors, Format::Table);
        assert_eq!(first_line(&gpu), "gpu");
        assert!(gpu.text.contains("has no resources:VGPU"));
        let properties = flavors[0].properties.iter_mut();
        properties.for_each(|all| all.extend(with("trait:HW_NUMA_ROOT").unwrap()));
        let none = answer(&for_gpu, &flavors, Format::Table);
        assert_eq!(none.exit_code, NONE_FITS);
    }

    #[test]
    fn where_none_fits_it_says_what_the_nearest_lacks() {
        let none = answer(
            &ask("memory=18G,cores=9,scratch=10G"),
            &seven(),
            Format::Table,
        );
        assert_eq!(none.exit_code, NONE_FITS);
        assert_eq!(first_line(&none), "");
        assert_eq!(
            none.warnings,
            [
                "no flavor fits; the nearest is m16384c8s160: cores: 1 too few, memory: 2 GiB too little"
            ]
        );
    }

    fn image(json: &str) -> anyhow::Result<Ask> {
        let mut ask = ask("m1024c1s10");
        let documents = Document::parse_all("image.json", json.as_bytes())?;
        ask.take_image(&documents[0])?;
        Ok(ask)
    }

    #[test]
    fn the_image_fits_into_root_disk_and_memory() {
        for (json, expected) in [
            // Scientific Linux 5, 10 GiB; and a byte more than fits into 20.
            (
                r#"{"size": 10737418240, "min_disk": 0, "min_ram": 0}"#,
                "m1024c1s10",
            ),
            (
                r#"{"size": 1, "virtual_size": 21474836481}"#,
                "m4096c2s40-root",
            ),
            (r#"{"size": "21474836481"}"#, "m4096c2s40-root"),
            (r#"{"size": 1, "min_disk": 21}"#, "m4096c2s40-root"),
            (r#"{"size": 1, "min_ram": 1025}"#, "m2048c1s20"),
            (r#"{"size": 1, "min_disk": 41}"#, ""),
        ] {
            let mut flavors = seven();
            flavors.push(flavor("m4096c2s40-root", 4096, 2, 40, 40));
            let answer = answer(&image(json).unwrap(), &flavors, Format::Table);
            assert_eq!(first_line(&answer), expected, "{json}");
        }
    }

    #[test]
    fn a_root_disk_of_0_is_as_large_as_the_image_and_that_is_said() {
        let flavors = [flavor("m1024c1s10", 1024, 1, 10, 0)];
        let large = image(r#"{"size": 1, "min_disk": 4000}"#).unwrap();
        let taken = answer(&large, &flavors, Format::Table);
        assert_eq!(first_line(&taken), "m1024c1s10");
        assert!(
            taken.warnings[0].contains("checks nothing"),
            "{:?}",
            taken.warnings
        );
        // But it is none of the size that was asked for.
        let asked = answer(&ask("SCS-1V-1-20"), &flavors, Format::Table);
        assert_eq!(asked.exit_code, NONE_FITS);
    }

    #[test]
    fn an_image_that_is_none_is_refused_and_one_without_size_warned_of() {
        for (json, words) in [
            (
                "[]",
                "image.json: an image, as an object, is expected, not a list",
            ),
            (r#"{"Name": "x"}"#, "it has neither size nor min_disk"),
            (
                r#"{"size": -1}"#,
                "image.json: size: a number of bytes is expected, not -1",
            ),
            (
                r#"{"size": 1, "min_disk": []}"#,
                "min_disk: a number of GiB is expected",
            ),
        ] {
            let error = image(json).err().unwrap().to_string();
            assert!(error.contains(words), "{json}: {error}");
        }
        for status in ["killed", "deleted", "pending_delete"] {
            let json = format!(r#"{{"size": 1, "min_disk": 0, "status": "{status}"}}"#);
            let error = image(&json).err().unwrap().to_string();
            let words = format!("image.json: it is {status}, and can be launched in no flavor");
            assert!(error.starts_with(&words), "{error}");
        }
        for status in ["queued", "saving", "uploading", "importing", "deactivated"] {
            let json = format!(r#"{{"size": 1, "disk_format": "raw", "status": "{status}"}}"#);
            let warned = image(&json).unwrap().warnings;
            assert_eq!(
                warned,
                [format!(
                    "the image is {status}: it cannot be launched as it is"
                )]
            );
        }
        let volume = image(r#"{"size": 0, "min_disk": 1}"#).unwrap();
        assert!(volume.warnings[0].contains("no size"));
        let unfinished = image(r#"{"size": null, "min_disk": 0}"#).unwrap();
        assert!(unfinished.warnings[0].contains("no size"));
    }

    #[test]
    fn of_a_compressed_image_the_size_is_not_that_of_its_disk() {
        for (fields, is_warned_of) in [
            (r#""disk_format": "qcow2""#, true),
            (
                r#""disk_format": "vmdk", "virtual_size": null, "min_disk": 0"#,
                true,
            ),
            (r#""name": "of no format""#, true),
            (r#""disk_format": "qcow2", "virtual_size": 5"#, false),
            (r#""disk_format": "qcow2", "min_disk": 1"#, false),
            (r#""disk_format": "raw""#, false),
            (r#""disk_format": "iso", "status": "active""#, false),
        ] {
            let warnings = image(&format!(r#"{{"size": 1, {fields}}}"#))
                .unwrap()
                .warnings;
            let words = "its virtual size is not known, and its min_disk is 0";
            let is_it = |warning: &String| warning.contains(words);
            assert_eq!(
                warnings.iter().any(is_it),
                is_warned_of,
                "{fields}: {warnings:?}"
            );
            assert_eq!(
                warnings.len(),
                usize::from(is_warned_of),
                "{fields}: {warnings:?}"
            );
        }
    }

    #[test]
    fn a_rank_puts_what_is_named_first() {
        let [c, m, s, r, w] = PARTS;
        for (list, expected) in [
            (None, PARTS),
            (Some("memory,cores,scratch"), [m, c, s, r, w]),
            (Some("swap"), [w, c, m, s, r]),
            (Some("root, scratch"), [r, s, c, m, w]),
        ] {
            assert_eq!(rank(list), Ok(expected));
        }
        for list in ["", "memory,", "disk", "cores,cores", "memory,cores,memory"] {
            assert!(rank(Some(list)).is_err(), "{list}");
        }
        let flavors = [
            flavor("cores", 2048, 3, 10, 0),
            flavor("memory", 3072, 2, 10, 0),
        ];
        let mut asked = ask("m1024c1s10");
        assert_eq!(
            first_line(&answer(&asked, &flavors, Format::Table)),
            "memory"
        );
        asked.rank = rank(Some("memory")).unwrap();
        assert_eq!(
            first_line(&answer(&asked, &flavors, Format::Table)),
            "cores"
        );
    }

    #[test]
    fn names_that_lie_or_are_there_twice_are_warned_of() {
        let flavors = [
            flavor("m1024c1s10", 1024, 1, 0, 20),
            flavor("twice", 1024, 1, 10, 20),
            flavor("twice", 2048, 1, 10, 20),
            flavor("twice", 4096, 1, 10, 20),
            flavor("same", 2048, 1, 10, 20),
            flavor("same", 2048, 1, 10, 20),
        ];
        let answer = answer(&ask("m1024c1s10"), &flavors, Format::Table);
        assert_eq!(first_line(&answer), "twice");
        assert_eq!(
            answer.warnings,
            [
                "the name of m1024c1s10 says 10 GiB of scratch, and it has 0 MiB",
                "there are several flavors twice, which differ",
            ]
        );
    }

    #[test]
    fn many_warnings_of_a_kind_are_cut_short() {
        let lie = |at: usize| flavor(&format!("m1024c1s{at}"), 1024, 1, 0, 20);
        let twin = |at: usize| flavor(&format!("twin{}", at % 13), at as u64, 1, 0, 20);
        let flavors: Vec<Flavor> = (1..16).map(lie).chain((0..26).map(twin)).collect();
        let warnings = of_all(&flavors);
        assert_eq!(warnings.len(), 22, "{warnings:#?}");
        assert!(warnings[9].starts_with("the name of m1024c1s10 says"));
        assert_eq!(warnings[10], "and 5 more");
        assert_eq!(
            warnings[20],
            "there are several flavors twin6, which differ"
        );
        assert_eq!(warnings[21], "and 3 more");
    }

    #[test]
    fn for_programs_it_is_json() {
        let text = answer(&ask("m1024c1s10"), &seven(), Format::Json).text;
        let document: Value = serde_json::from_slice(text.as_bytes()).unwrap();
        assert_eq!(document["flavor"], "m1024c1s10");
        assert_eq!(document["asked"]["scratch_mib"], 10240);
        let flavors = document["flavors"].as_array().unwrap();
        assert_eq!(flavors.len(), 7);
        assert_eq!(flavors[1]["name"], "m2048c1s20");
        assert_eq!(flavors[1]["spare"]["memory_mib"], 1024);
        assert_eq!(flavors[6]["missing"]["scratch_mib"], 10240);
        let none = answer(&ask("m1024c1s161"), &seven(), Format::Json).text;
        let document: Value = serde_json::from_slice(none.as_bytes()).unwrap();
        assert_eq!(document["flavor"], Value::Null);
    }

    #[test]
    fn what_is_asked_for_wrongly_is_told_with_its_option() {
        let nothing = FlavorArgs {
            request: None,
            ..arguments("")
        };
        assert!(
            Ask::from_arguments(&nothing)
                .err()
                .unwrap()
                .contains("nothing is asked for")
        );
        let with_image = FlavorArgs {
            image: Some("image.json".into()),
            ..nothing
        };
        assert!(Ask::from_arguments(&with_image).is_ok());
        let memory = FlavorArgs {
            memory: Some("10T".into()),
            cores: Some("1".into()),
            request: None,
            ..arguments("")
        };
        let error = Ask::from_arguments(&memory).err().unwrap();
        assert_eq!(
            error,
            "--memory: 10T of memory is taken for a mistake of its unit"
        );
        let error = Ask::from_arguments(&arguments("m1.large")).err().unwrap();
        assert!(
            error.starts_with("--request: \"m1.large\" is no request"),
            "{error}"
        );
    }

    fn any_flavor() -> impl Strategy<Value = Flavor> {
        let sizes = (0..5_u64, 0..5_u64, 0..5_u64, 0..5_u64, 0..3_u64);
        (sizes, "[ab]{1,2}", 0..8_u8).prop_map(
            |((cores, memory, scratch, root, swap), name, odd)| Flavor {
                is_disabled: odd == 0,
                swap_mib: swap * 512,
                properties: Some(match odd {
                    1 => vec![("trait:X".into(), "required".into())],
                    _ => Vec::new(),
                }),
                ..flavor(&name, memory * 1024, cores, scratch, root)
            },
        )
    }

    proptest! {
        #[test]
        fn the_answer_fits_and_none_that_fits_is_closer(
            flavors in prop::collection::vec(any_flavor(), 1..9),
            cores in 0..4_u64,
            memory in 0..4096_u64,
            scratch in 0..4_u64,
            image in 0..4_u64,
            by_memory: bool,
        ) {
            let mut ask = ask(&format!("m{memory}c{cores}s{scratch}"));
            ask.image_root_mib = image * 1024;
            // By the words of the documentation, not by those of the code above.
            let fits = |flavor: &Flavor| {
                flavor.cores >= cores
                    && flavor.memory_mib >= memory
                    && flavor.scratch_mib >= scratch * 1024
                    && (flavor.root_mib == 0 || flavor.root_mib >= image * 1024)
                    && !flavor.is_disabled
                    && flavor.properties == Some(Vec::new())
            };
            let key = |flavor: &Flavor| {
                let cores = flavor.cores - cores;
                let memory = flavor.memory_mib - memory;
                let root = flavor.root_mib.saturating_sub(image * 1024);
                let rest = (flavor.scratch_mib, root, flavor.swap_mib, flavor.name.clone());
                match by_memory {
                    true => (memory, cores, rest),
                    false => (cores, memory, rest),
                }
            };
            if by_memory {
                ask.rank = rank(Some("memory")).unwrap();
            }
            let answer = answer(&ask, &flavors, Format::Table);
            let closest = flavors.iter().filter(|flavor| fits(flavor)).min_by_key(|flavor| key(flavor));
            match closest {
                Some(closest) => {
                    prop_assert_eq!(answer.exit_code, FOUND);
                    prop_assert_eq!(first_line(&answer), &closest.name);
                }
                None => {
                    prop_assert_eq!(answer.exit_code, NONE_FITS);
                    prop_assert_eq!(first_line(&answer), "");
                    prop_assert!(answer.warnings.iter().any(|words| words.starts_with("no flavor fits")));
                }
            }
        }
    }
}

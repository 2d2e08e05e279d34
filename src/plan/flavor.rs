//! `plan flavor`: the closest flavor that has all that is asked for.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::flavors::Flavor;
use super::input::{Document, Place};
use super::properties::{Asked, is_a_need};
use super::{Answer, FOUND};
use crate::cli::{FlavorArgs, Format};
use crate::resources::{self, MIB_PER_GIB, Request, size_in_words};
use crate::text;

const NONE_FITS: u8 = 3;

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
        Ok(Ask {
            least: least.map(Option::unwrap_or_default),
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
        let sizes = size.max(number("virtual_size", "bytes")?);
        if image.field(&["size"]).is_none() && image.field(&["min_disk"]).is_none() {
            return Err(image.error(
                "it has neither size nor min_disk: `openstack image show -f json` is expected",
            ));
        }
        if size == 0 {
            self.warnings.push(
                "the image has no size: it is not finished, or its data are in a volume".into(),
            );
        }
        let memory = &mut self.least[Part::Memory as usize];
        *memory = (*memory).max(number("min_ram", "MiB")?);
        self.image_root_mib = sizes
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
    let mut done = 0;
    for name in list.into_iter().flat_map(|list| list.split(',')) {
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
        done += 1;
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
        for property in flavor
            .properties
            .iter()
            .filter(|property| is_a_need(property))
        {
            if !ask.properties.iter().any(|asked| Asked(asked).is(property)) {
                against.push(format!(
                    "is for those who ask for {}={}",
                    property.0, property.1
                ));
            }
        }
        for asked in &ask.properties {
            if !flavor
                .properties
                .iter()
                .any(|property| Asked(asked).is(property))
            {
                against.push(format!("has no {asked}"));
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
            let what = match part {
                Part::Root => "root disk",
                other => other.name(),
            };
            (missing > 0).then(|| format!("{} too little {what}", part.in_words(missing)))
        });
        let short = short.map(|words| words.replace("too little cores", "too few cores"));
        self.against.iter().cloned().chain(short).collect()
    }
}

/// Decides, and says it.
pub(crate) fn answer(ask: &Ask, flavors: &[Flavor], format: Format) -> Answer {
    let mut verdicts: Vec<Verdict> = flavors
        .iter()
        .map(|flavor| Verdict::new(ask, flavor))
        .collect();
    verdicts.sort_by(|a, b| {
        let order = |verdict: &Verdict| Reverse(verdict.fits());
        (order(a), a.closeness(ask)).cmp(&(order(b), b.closeness(ask)))
    });
    let taken = verdicts.first().filter(|verdict| verdict.fits());
    let mut warnings = ask.warnings.clone();
    warnings.extend(of_all(flavors));
    match (taken, verdicts.first()) {
        (Some(taken), _) => {
            let flavor = taken.flavor;
            if flavor.root_mib == 0 && ask.image_root_mib > 0 {
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
    let mut warnings: Vec<String> = flavors.iter().filter_map(Flavor::lie).collect();
    let mut by_name: BTreeMap<&str, &Flavor> = BTreeMap::new();
    for flavor in flavors {
        match by_name.insert(&flavor.name, flavor) {
            Some(other) if other != flavor => {
                warnings.push(format!(
                    "there are several flavors {}, which differ",
                    flavor.name
                ));
            }
            _ => {}
        }
    }
    warnings
}

/// The name alone, and then all flavors, the closest first.
fn table(ask: &Ask, verdicts: &[Verdict]) -> String {
    let taken = verdicts.first().filter(|verdict| verdict.fits());
    let name = taken.map_or("", |verdict| &verdict.flavor.name);
    let row = |(at, verdict): (usize, &Verdict)| {
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

fn document(ask: &Ask, verdicts: &[Verdict], warnings: &[String]) -> Value {
    let amounts = |amount: &dyn Fn(Part) -> u64| -> Value {
        let entry = |part: Part| (part.key().to_string(), amount(part).into());
        Value::Object(PARTS.into_iter().map(entry).collect())
    };
    let flavor = |verdict: &Verdict| {
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
}

//! `plan grid`: the set of flavors that wastes least on given requests.
//!
//! A request gets the flavor of the set that wastes least on it. The best flavors are those that
//! just have room for the requests that get them, so that a set of flavors is a partition of the
//! requests. Few different requests: the best partition is found by trying all (`exact`). Many:
//! they are taken together where they are nearly the same (`cells`), a good set is searched
//! (`search`), a bound says how much better any other can be (`bound`), and with it the sets that
//! may be better are tried, all of them if they are not too many (`sets`).

mod bound;
mod cells;
mod exact;
mod requests;
mod search;
mod sets;
#[cfg(test)]
mod tests;
mod waste;

use std::io::Read;

use serde_json::{Value, json};

use self::cells::Cells;
use self::waste::{Amounts, Group, Point, Weights, best, fold, weighted};
use super::flavors::{self, Flavor};
use super::{Answer, FOUND, shell};
use crate::cli::Format;
use crate::resources::{self, MIB_PER_GIB, size_in_words};
use crate::text;

/// Choosing takes longer the more there may be.
pub(crate) const MOST_FLAVORS: u64 = 100;

const NAMES: [&str; 3] = ["cores", "memory", "scratch"];

/// `cores=2,memory=1`; what is not named does not count.
///
/// # Errors
///
/// What was expected instead.
pub(crate) fn weights(list: Option<&str>) -> Result<Weights, String> {
    let Some(list) = list else {
        return Ok([1.0 / 3.0; 3]);
    };
    let mut weights = [None; 3];
    for part in list.split(',') {
        let (name, weight) = part.split_once('=').unwrap_or((part, ""));
        let at = NAMES.iter().position(|known| *known == name.trim());
        // As thousandths: the standard library's floats come with a large table.
        match (at, resources::thousandths(weight.trim())) {
            (Some(at), Some(_)) if weights[at].is_some() => {
                return Err(format!("the weight of {} is there twice", NAMES[at]));
            }
            (Some(at), Some(weight)) => weights[at] = Some(weight as f64),
            _ => {
                return Err(format!(
                    "weights such as cores=2,memory=1,scratch=0.5 are expected, not \"{part}\""
                ));
            }
        }
    }
    let weights = weights.map(Option::unwrap_or_default);
    let all: f64 = weights.iter().sum();
    match all > 0.0 {
        true => Ok(weights.map(|weight| weight / all)),
        false => Err("one of the weights must not be 0".into()),
    }
}

/// Reads requests, and chooses at most so many flavors for them. Of `have`, none is to be made
/// again.
///
/// # Errors
///
/// That no request can be used.
pub(crate) fn answer(
    name: &str,
    requests: impl Read,
    most: usize,
    weights: &Weights,
    have: &[Flavor],
    format: Format,
) -> anyhow::Result<Answer> {
    let requests = requests::read(name, requests)?;
    let choice = choose(&requests.points, most, weights);
    let grid = Grid::new(&choice, &requests.points, weights);
    let mut warnings = requests.warnings;
    warnings.extend(flavors::without_properties(have));
    let commands = commands(&grid, have, &mut warnings);
    Ok(Answer {
        text: match format {
            Format::Table => table(&grid, most, &commands),
            Format::Json => super::json(&document(&grid, &commands, &warnings)),
        },
        exit_code: FOUND,
        warnings,
    })
}

struct Choice {
    flavors: Vec<Amounts>,
    /// What any set of so many flavors wastes at least: weighted, the sum over all requests.
    bound: f64,
}

fn choose(points: &[Point], most: usize, weights: &Weights) -> Choice {
    if most == 1 {
        return one_for_all(points, weights);
    }
    if points.len() > exact::MOST_GROUPS {
        let cells = Cells::new(points, cells::MOST_CELLS);
        return search(points, &cells, most, weights, sets::WORK);
    }
    let groups: Vec<Group> = points.iter().map(Group::of).collect();
    let flavors = exact::best_flavors(&groups, most, weights);
    let wastes = groups
        .iter()
        .filter_map(|group| best(group, &flavors, weights));
    let bound = wastes.map(|(_, waste)| waste).sum();
    Choice { flavors, bound }
}

/// Each part of it is the most that is asked for: of a larger flavor, all waste more.
fn one_for_all(points: &[Point], weights: &Weights) -> Choice {
    let groups = points.iter().map(Group::of);
    let all = groups.fold(Group::EMPTY, |all, group| all.join(&group));
    Choice {
        flavors: vec![all.flavor],
        bound: all.waste_in(&all.flavor, weights),
    }
}

/// `work` is how much [`sets`] may do.
fn search(points: &[Point], cells: &Cells, most: usize, weights: &Weights, work: usize) -> Choice {
    let (mut flavors, earlier) = search::join(&cells.groups(), most, weights);
    search::exchange(&mut flavors, &earlier, cells, most, weights);
    let bound = bound::bound(cells, &flavors, most, weights);
    search::exchange(&mut flavors, &bound.candidates, cells, most, weights);
    let found = sets::improve(&flavors, &bound.prices, cells, most, weights, work);
    let is_proven = found.are_all_tried && cells.are_requests(points);
    flavors = found.flavors;
    // Each request may have a better flavor than most of its cell.
    for _ in 0..2 {
        search::shrink(&mut flavors, &mut points.iter().map(Group::of), weights);
    }
    Choice {
        flavors,
        bound: match is_proven {
            true => found.waste,
            false => bound.waste,
        },
    }
}

/// The flavors, and what becomes of the requests.
struct Grid {
    /// In ascending order.
    shares: Vec<Share>,
    all: Share,
    /// Weighted, the mean over all requests; and what it is at least for any set.
    waste: f64,
    bound: f64,
    /// The request that wastes most, and its flavor.
    worst: (f64, Amounts, Amounts),
}

/// What a flavor gets, or all of them.
#[derive(Clone, Default)]
struct Share {
    flavor: Amounts,
    requests: u64,
    /// Of cores, memory and scratch space, summed up.
    waste: [f64; 3],
}

impl Share {
    fn add(&mut self, requests: u64, waste: &[f64; 3]) {
        self.requests += requests;
        for (sum, waste) in self.waste.iter_mut().zip(waste) {
            *sum += waste;
        }
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.requests.max(1) as f64
    }

    fn name(&self) -> String {
        name(&self.flavor)
    }
}

/// By the convention that [`crate::resources`] reads: MiB, cores, GiB.
fn name([cores, memory, scratch]: &Amounts) -> String {
    format!("m{memory}c{cores}s{}", scratch / MIB_PER_GIB)
}

/// Binary fractions are not exact.
const ROUNDING: f64 = 1e-9;

impl Grid {
    fn new(choice: &Choice, points: &[Point], weights: &Weights) -> Grid {
        let as_points = choice.flavors.iter().map(|flavor| Point {
            asked: *flavor,
            count: 1,
        });
        let mut flavors: Vec<Point> = as_points.collect();
        fold(&mut flavors);
        let flavors: Vec<Amounts> = flavors.iter().map(|flavor| flavor.asked).collect();
        let mut grid = Grid {
            shares: flavors
                .iter()
                .map(|flavor| Share {
                    flavor: *flavor,
                    ..Share::default()
                })
                .collect(),
            all: Share::default(),
            waste: 0.0,
            bound: 0.0,
            worst: (-1.0, [0; 3], [0; 3]),
        };
        for point in points {
            let group = Group::of(point);
            let Some((at, waste)) = best(&group, &flavors, weights) else {
                continue;
            };
            let of_each = group.waste_of_each(&flavors[at]);
            grid.shares[at].add(point.count, &of_each);
            grid.all.add(point.count, &of_each);
            let of_one = waste / group.count;
            if of_one > grid.worst.0 {
                grid.worst = (of_one, point.asked, flavors[at]);
            }
        }
        grid.shares.retain(|share| share.requests > 0);
        grid.waste = grid.all.mean(weighted(&grid.all.waste, weights));
        grid.bound = grid.all.mean(choice.bound).min(grid.waste);
        grid
    }

    fn is_best(&self) -> bool {
        self.waste - self.bound <= ROUNDING
    }
}

/// What makes the flavors that are not there.
fn commands(grid: &Grid, have: &[Flavor], warnings: &mut Vec<String>) -> Vec<String> {
    let mut commands = Vec::new();
    for share in &grid.shares {
        let [cores, memory, scratch] = share.flavor;
        let is_it = |flavor: &&Flavor| {
            flavor.is_for_everybody()
                && [flavor.cores, flavor.memory_mib, flavor.scratch_mib] == share.flavor
        };
        let name = share.name();
        if have.iter().any(|flavor| is_it(&flavor)) {
            continue;
        }
        if have.iter().any(|flavor| flavor.name == name) {
            warnings.push(format!(
                "{name} is there already, and is something else; it has to go before it can be made"
            ));
            continue;
        }
        commands.push(format!(
            "openstack flavor create --ram {memory} --vcpus {cores} --ephemeral {} {}",
            scratch / MIB_PER_GIB,
            shell::word(&name)
        ));
    }
    commands
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn table(grid: &Grid, most: usize, commands: &[String]) -> String {
    let row = |share: &Share| {
        let [cores, memory, scratch] = share.flavor;
        let [a, b, c] = share.waste.map(|waste| percent(share.mean(waste)));
        [
            share.name(),
            cores.to_string(),
            size_in_words(memory),
            size_in_words(scratch),
            share.requests.to_string(),
            format!("{a}, {b}, {c}"),
        ]
    };
    let header = [
        "FLAVOR",
        "CORES",
        "MEMORY",
        "SCRATCH",
        "REQUESTS",
        "WASTED (CORES, MEMORY, SCRATCH)",
    ];
    let mut text = text::table(&header, grid.shares.iter().map(row));
    let [cores, memory, scratch] = grid.all.waste.map(|waste| percent(grid.all.mean(waste)));
    let (worst, asked, given) = grid.worst;
    text += &format!(
        "\nwasted: {} (cores {cores}, memory {memory}, scratch {scratch})\n",
        percent(grid.waste)
    );
    text += &match grid.is_best() {
        true => format!("no set of {most} flavors wastes less\n"),
        false => format!(
            "no set of {most} flavors wastes less than {}: a better one, if there is any, is at \
             most {:.1} points better\n",
            percent(grid.bound),
            (grid.waste - grid.bound) * 100.0
        ),
    };
    text += &format!(
        "the worst: cores {}, memory {}, scratch {} gets {}, and wastes {} of it\n\n",
        asked[0],
        size_in_words(asked[1]),
        size_in_words(asked[2]),
        name(&given),
        percent(worst)
    );
    text += &commands.join("\n");
    text + if commands.is_empty() {
        "all of them are there\n"
    } else {
        "\n"
    }
}

fn document(grid: &Grid, commands: &[String], warnings: &[String]) -> Value {
    let waste = |share: &Share| {
        let [cores, memory, scratch] = share.waste.map(|waste| share.mean(waste));
        json!({"cores": cores, "memory": memory, "scratch": scratch})
    };
    let flavor = |share: &Share| {
        json!({
            "name": share.name(),
            "cores": share.flavor[0],
            "memory_mib": share.flavor[1],
            "scratch_mib": share.flavor[2],
            "requests": share.requests,
            "waste": waste(share),
        })
    };
    let (worst, asked, given) = grid.worst;
    json!({
        "flavors": grid.shares.iter().map(flavor).collect::<Vec<Value>>(),
        "requests": grid.all.requests,
        "waste": waste(&grid.all),
        "mean_waste": grid.waste,
        "bound": grid.bound,
        "proven": grid.is_best(),
        "worst": {
            "cores": asked[0],
            "memory_mib": asked[1],
            "scratch_mib": asked[2],
            "flavor": name(&given),
            "waste": worst,
        },
        "commands": commands,
        "warnings": warnings,
    })
}

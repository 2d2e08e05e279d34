//! Many requests made few: those that are nearly the same are taken together.

use super::waste::{Amounts, Group, Point, fold, smallest_flavor};

/// Requests of one range in each dimension: all of them, or one where there are few.
pub(super) struct Cell {
    pub(super) group: Group,
    /// Its range in each dimension.
    pub(super) ranges: [usize; 3],
}

/// In each dimension, what a flavor can have, in ranges.
pub(super) struct Cells {
    pub(super) cells: Vec<Cell>,
    pub(super) ranges: [Vec<Range>; 3],
}

/// The least and the most that a flavor of a range has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: u64,
    pub(super) to: u64,
}

/// So many ranges in one dimension at the most, and so many of their combinations.
const MOST_RANGES: usize = 200;
const MOST_COMBINATIONS: usize = 64_000;
/// So many of these may be used; the search takes seconds then.
pub(super) const MOST_CELLS: usize = 2000;

impl Cells {
    pub(super) fn new(points: &[Point], most_cells: usize) -> Cells {
        let values = [0, 1, 2].map(|part| {
            let value = |point: &Point| Point {
                asked: [smallest_flavor(&point.asked)[part], 0, 0],
                count: point.count,
            };
            let mut values: Vec<Point> = points.iter().map(value).collect();
            fold(&mut values);
            values
        });
        let mut most = MOST_RANGES;
        loop {
            let ranges = [0, 1, 2].map(|part| ranges(&values[part], most));
            if ranges.iter().map(Vec::len).product::<usize>() <= MOST_COMBINATIONS {
                let cells = match points.len() <= most_cells {
                    true => points
                        .iter()
                        .map(|point| cell(Group::of(point), &ranges))
                        .collect(),
                    false => cells(points, &ranges),
                };
                if cells.len() <= most_cells || most <= 2 {
                    return Cells { cells, ranges };
                }
            }
            most = most * 4 / 5;
        }
    }

    /// Whether nothing was taken together: each cell is a request, and each range a value.
    pub(super) fn are_requests(&self, points: &[Point]) -> bool {
        let mut ranges = self.ranges.iter().flatten();
        self.cells.len() == points.len() && ranges.all(|range| range.from == range.to)
    }

    pub(super) fn groups(&self) -> Vec<Group> {
        self.cells.iter().map(|cell| cell.group).collect()
    }
}

/// Ranges with about as many requests and about the same ratio of their ends each; single values
/// where there are few.
fn ranges(values: &[Point], most: usize) -> Vec<Range> {
    let (Some(first), Some(last)) = (values.first(), values.last()) else {
        return Vec::new();
    };
    // The bits of a float grow about as its logarithm.
    let logarithm = |value: u64| ((value + 1) as f64).to_bits() as f64;
    let width = (logarithm(last.asked[0]) - logarithm(first.asked[0])).max(1.0);
    let all: u64 = values.iter().map(|value| value.count).sum();
    let mut before = 0;
    let mut ranges: Vec<Range> = Vec::new();
    let mut current = 0;
    for (at, Point { asked, count }) in values.iter().enumerate() {
        let value = asked[0];
        let share = (before as f64 + *count as f64 / 2.0) / all as f64;
        let height = (logarithm(value) - logarithm(first.asked[0])) / width;
        let range = match values.len() <= most {
            true => at,
            false => ((share + height) / 2.0 * most as f64) as usize,
        };
        before += count;
        match ranges.last_mut() {
            Some(last) if range == current => last.to = value,
            _ => ranges.push(Range {
                from: value,
                to: value,
            }),
        }
        current = range;
    }
    ranges
}

fn cells(points: &[Point], ranges: &[Vec<Range>; 3]) -> Vec<Cell> {
    let mut groups = vec![Group::EMPTY; ranges.iter().map(Vec::len).product()];
    for point in points {
        let group = Group::of(point);
        let at = index(&ranges_of(&group.flavor, ranges), ranges);
        groups[at] = groups[at].join(&group);
    }
    let is_used = |group: &Group| group.count > 0.0;
    groups
        .into_iter()
        .filter(is_used)
        .map(|group| cell(group, ranges))
        .collect()
}

fn cell(group: Group, ranges: &[Vec<Range>; 3]) -> Cell {
    Cell {
        ranges: ranges_of(&group.flavor, ranges),
        group,
    }
}

pub(super) fn ranges_of(flavor: &Amounts, ranges: &[Vec<Range>; 3]) -> [usize; 3] {
    let mut at = [0; 3];
    for part in 0..3 {
        at[part] = ranges[part].partition_point(|range| range.to < flavor[part]);
    }
    at
}

/// Of one range in each dimension among all.
pub(super) fn index(at: &[usize; 3], ranges: &[Vec<Range>; 3]) -> usize {
    (at[0] * ranges[1].len() + at[1]) * ranges[2].len() + at[2]
}

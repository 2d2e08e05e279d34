//! What a flavor wastes of itself on those who get it.
//!
//! (given − asked) / given is 1 − asked / given: for many requests in one flavor their number
//! and the sum of what they ask for are enough.

/// Cores, MiB of memory, MiB of scratch space.
pub(super) type Amounts = [u64; 3];

/// How much each of [`Amounts`] counts; together 1.
pub(super) type Weights = [f64; 3];

/// OpenStack gives scratch space in GiB.
const SCRATCH_STEP_MIB: u64 = crate::resources::MIB_PER_GIB;

/// The smallest flavor that has what is asked for.
pub(super) fn smallest_flavor(asked: &Amounts) -> Amounts {
    let [cores, memory, scratch] = *asked;
    [cores, memory, scratch.next_multiple_of(SCRATCH_STEP_MIB)]
}

pub(super) fn has_room(flavor: &Amounts, asked: &Amounts) -> bool {
    flavor
        .iter()
        .zip(asked)
        .all(|(given, asked)| given >= asked)
}

/// A request, and how often it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    pub(super) asked: Amounts,
    pub(super) count: u64,
}

/// Sorts them, and takes those that are the same together.
pub(super) fn fold(points: &mut Vec<Point>) {
    points.sort_unstable();
    points.dedup_by(|next, kept| {
        let is_same = next.asked == kept.asked;
        kept.count += if is_same { next.count } else { 0 };
        is_same
    });
}

/// Requests that are to get the same flavor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) count: f64,
    pub(super) asked: [f64; 3],
    /// The most that one of them asks for, of each.
    pub(super) most_asked: Amounts,
    /// The least that one of them wastes in the smallest flavor that has room for it.
    pub(super) unavoidable: [f64; 3],
    /// The smallest flavor that has room for all.
    pub(super) flavor: Amounts,
}

impl Group {
    pub(super) const EMPTY: Group = Group {
        count: 0.0,
        asked: [0.0; 3],
        most_asked: [0; 3],
        unavoidable: [f64::INFINITY; 3],
        flavor: [0; 3],
    };

    pub(super) fn of(point: &Point) -> Group {
        let flavor = smallest_flavor(&point.asked);
        let count = point.count as f64;
        let asked = point.asked.map(|asked| asked as f64 * count);
        let mut unavoidable = [0.0; 3];
        for part in 0..3 {
            unavoidable[part] = waste_of_one(1.0, point.asked[part] as f64, flavor[part]);
        }
        Group {
            count,
            asked,
            most_asked: point.asked,
            unavoidable,
            flavor,
        }
    }

    pub(super) fn join(&self, other: &Group) -> Group {
        let mut both = *self;
        both.count += other.count;
        for part in 0..3 {
            both.asked[part] += other.asked[part];
            both.most_asked[part] = both.most_asked[part].max(other.most_asked[part]);
            both.unavoidable[part] = both.unavoidable[part].min(other.unavoidable[part]);
            both.flavor[part] = both.flavor[part].max(other.flavor[part]);
        }
        both
    }

    /// Of cores, memory and scratch space, in a flavor that has room.
    pub(super) fn waste_of_each(&self, flavor: &Amounts) -> [f64; 3] {
        let mut waste = [0.0; 3];
        for part in 0..3 {
            waste[part] = waste_of_one(self.count, self.asked[part], flavor[part]);
        }
        waste
    }

    /// Weighted; infinite where there is no room.
    pub(super) fn waste_in(&self, flavor: &Amounts, weights: &Weights) -> f64 {
        match has_room(flavor, &self.flavor) {
            true => weighted(&self.waste_of_each(flavor), weights),
            false => f64::INFINITY,
        }
    }
}

/// Of nothing, nothing can be wasted.
pub(super) fn waste_of_one(count: f64, asked: f64, given: u64) -> f64 {
    match given {
        0 => 0.0,
        _ => count - asked / given as f64,
    }
}

pub(super) fn weighted(waste: &[f64; 3], weights: &Weights) -> f64 {
    waste[0] * weights[0] + waste[1] * weights[1] + waste[2] * weights[2]
}

/// The flavor that wastes least on a group, and how much; none where no flavor has room.
pub(super) fn best(group: &Group, flavors: &[Amounts], weights: &Weights) -> Option<(usize, f64)> {
    let mut best = None;
    for (at, flavor) in flavors.iter().enumerate() {
        let waste = group.waste_in(flavor, weights);
        if waste < best.map_or(f64::INFINITY, |(_, least)| least) {
            best = Some((at, waste));
        }
    }
    best
}

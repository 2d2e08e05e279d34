use proptest::prelude::*;

use super::*;

const ALIKE: Weights = [1.0 / 3.0; 3];

/// How many random cases there are, where others have a proptest's usual 256 or a part of them.
pub(super) fn some_of_all_cases(all: u32) -> u32 {
    (ProptestConfig::default().cases * all).div_ceil(256)
}

fn points(requests: &[(Amounts, u64)]) -> Vec<Point> {
    let mut points: Vec<Point> = requests
        .iter()
        .map(|(asked, count)| Point {
            asked: *asked,
            count: *count,
        })
        .collect();
    points.sort_unstable();
    points.dedup_by_key(|point| point.asked);
    points
}

/// Of requests that are the same, in a flavor.
pub(super) fn waste_of_each(point: &Point, flavor: &Amounts, weights: &Weights) -> f64 {
    let parts = (0..3).map(|part| {
        let (given, asked) = (flavor[part] as f64, point.asked[part] as f64);
        match (given >= asked, given > 0.0) {
            (false, _) => f64::INFINITY,
            (true, false) => 0.0,
            (true, true) => weights[part] * (given - asked) / given,
        }
    });
    point.count as f64 * parts.sum::<f64>()
}

/// By the definition: the mean over requests and parts of (given − asked) / given, each request
/// in the flavor where that is least.
pub(super) fn waste_of(flavors: &[Amounts], points: &[Point], weights: &Weights) -> f64 {
    let least = |point: &Point| {
        let wastes = flavors
            .iter()
            .map(|flavor| waste_of_each(point, flavor, weights));
        wastes.fold(f64::INFINITY, f64::min)
    };
    let all: u64 = points.iter().map(|point| point.count).sum();
    points.iter().map(least).sum::<f64>() / all as f64
}

/// What the best of all sets of flavors wastes, whatever is among the flavors that can be
/// needed: each of their parts is what somebody asks for.
fn least_of_all_sets(points: &[Point], most: usize, weights: &Weights) -> f64 {
    let part = |part: usize| {
        let values = points.iter().map(|point| match part {
            2 => point.asked[2].div_ceil(1024) * 1024,
            _ => point.asked[part],
        });
        let mut values: Vec<u64> = values.collect();
        values.sort_unstable();
        values.dedup();
        values
    };
    let (cores, memory, scratch) = (part(0), part(1), part(2));
    // What each wastes in each of the flavors.
    let mut wastes = Vec::new();
    for a in &cores {
        for b in &memory {
            wastes.extend(scratch.iter().map(|c| {
                let of = |point| waste_of_each(point, &[*a, *b, *c], weights);
                points.iter().map(of).collect::<Vec<f64>>()
            }));
        }
    }
    fn least(rest: &[f64], wastes: &[Vec<f64>], most: usize) -> f64 {
        let mut waste = rest.iter().sum();
        if most > 0 {
            for (at, others) in wastes.iter().enumerate() {
                let both = rest.iter().zip(others).map(|(a, b)| a.min(*b));
                let rest: Vec<f64> = both.collect();
                waste = least(&rest, &wastes[at + 1..], most - 1).min(waste);
            }
        }
        waste
    }
    let all: u64 = points.iter().map(|point| point.count).sum();
    least(&vec![f64::INFINITY; points.len()], &wastes, most) / all as f64
}

pub(super) fn some_requests(most: usize) -> impl Strategy<Value = Vec<Point>> {
    let one = (1..6_u64, 1..9_u64, 0..5_u64, 1..20_u64)
        .prop_map(|(cores, memory, disk, count)| ([cores, memory * 512, disk * 700], count));
    prop::collection::vec(one, 1..=most).prop_map(|requests| points(&requests))
}

/// More than `exact` takes, of round sizes: there are few flavors, and all their sets can be tried.
/// Some need the same flavor, and waste differently in others.
pub(super) fn round_requests() -> impl Strategy<Value = Vec<Point>> {
    let scratch = prop::sample::select(vec![0, 10_000, 10_240, 40_960]);
    let asked = (0..4_u64, 0..4_u64, scratch)
        .prop_map(|(cores, memory, scratch)| [1 << cores, 512 << memory, scratch]);
    prop::collection::btree_map(asked, 1..6_u64, 13..=18)
        .prop_map(|requests| points(&requests.into_iter().collect::<Vec<_>>()))
}

fn some_weights() -> impl Strategy<Value = Weights> {
    (0..3_u32, 0..3_u32, 1..3_u32).prop_map(|(a, b, c)| {
        let all = f64::from(a + b + c);
        [a, b, c].map(|weight| f64::from(weight) / all)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(some_of_all_cases(48)))]

    #[test]
    fn for_few_requests_no_set_of_all_wastes_less(
        points in some_requests(4), most in 1..4_usize, weights in some_weights(),
    ) {
        let choice = choose(&points, most, &weights);
        prop_assert!(choice.flavors.len() <= most);
        let grid = Grid::new(&choice, &points, &weights);
        let least = least_of_all_sets(&points, most, &weights);
        prop_assert!((waste_of(&choice.flavors, &points, &weights) - least).abs() < 1e-9);
        prop_assert!((grid.waste - least).abs() < 1e-9);
        prop_assert!(grid.is_best());
    }

    #[test]
    fn for_more_requests_of_round_sizes_no_set_of_all_wastes_less(
        points in round_requests(), most in 1..=3_usize, weights in some_weights(),
    ) {
        let choice = choose(&points, most, &weights);
        prop_assert!(choice.flavors.len() <= most);
        let grid = Grid::new(&choice, &points, &weights);
        let least = least_of_all_sets(&points, most, &weights);
        prop_assert!((grid.waste - least).abs() < 1e-9, "{} {least}", grid.waste);
        prop_assert!(grid.is_best());
    }

    #[test]
    fn what_is_searched_is_never_below_the_bound_nor_the_bound_above_the_best(
        points in some_requests(12), most in 1..5_usize, weights in some_weights(),
    ) {
        let best = Grid::new(&choose(&points, most, &weights), &points, &weights);
        let cells = Cells::new(&points, cells::MOST_CELLS);
        let choice = search(&points, &cells, most, &weights, sets::WORK);
        prop_assert!(choice.flavors.len() <= most);
        let searched = Grid::new(&choice, &points, &weights);
        let waste = waste_of(&choice.flavors, &points, &weights);
        prop_assert!((searched.waste - waste).abs() < 1e-9);
        prop_assert!(searched.bound <= best.waste + 1e-9);
        prop_assert!(best.waste <= searched.waste + 1e-9);
        // Nor where cells stand for several requests.
        let few = Cells::new(&points, 3);
        let among_few = search(&points, &few, most, &weights, sets::WORK);
        let among_few = Grid::new(&among_few, &points, &weights);
        prop_assert!(among_few.bound <= best.waste + 1e-9);
        prop_assert!(best.waste <= among_few.waste + 1e-9);
        // All sets that can be better are tried.
        prop_assert!(searched.waste <= best.waste + 1e-9, "{} {}", searched.waste, best.waste);
        prop_assert!(searched.is_best());
    }
}

#[test]
fn a_flavor_that_earns_less_than_the_others_is_in_the_best_set() {
    let requests = points(&[
        ([1, 512, 0], 10),
        ([1, 1536, 2100], 4),
        ([1, 4096, 1400], 7),
        ([2, 4096, 0], 4),
        ([3, 2048, 2100], 12),
        ([3, 3072, 1400], 14),
        ([3, 3584, 0], 9),
        ([4, 3072, 700], 9),
        ([5, 512, 2100], 3),
    ]);
    let weights = [0.5, 0.25, 0.25];
    let cells = Cells::new(&requests, cells::MOST_CELLS);
    let choice = search(&requests, &cells, 4, &weights, sets::WORK);
    let best = [[1, 512, 0], [3, 3072, 3072], [3, 4096, 0], [5, 4096, 3072]];
    let mut found = choice.flavors;
    found.sort_unstable();
    assert_eq!(found, best);
}

/// The same numbers on each machine.
fn many(count: usize) -> Vec<Point> {
    let mut state = 1_u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    let mut requests = Vec::new();
    for _ in 0..count {
        let memory = 256 + random(64_000) * random(1000) / 1000;
        let scratch = random(200_000) * random(1000) / 1000;
        requests.push(([1 << random(5), memory, scratch], 1 + random(3)));
    }
    points(&requests)
}

#[test]
fn cells_that_stand_for_many_requests_do_not_make_the_bound_a_lie() {
    let all = many(1000);
    let few = Cells::new(&all, 300);
    assert!(few.cells.len() <= 300);
    for most in [1, 2, 20] {
        // What else may be done makes the flavors better by little, and takes seconds.
        let choice = search(&all, &few, most, &ALIKE, sets::WORK / 50);
        let grid = Grid::new(&choice, &all, &ALIKE);
        assert!(!grid.is_best());
        assert_eq!(
            grid.all.requests,
            all.iter().map(|point| point.count).sum::<u64>()
        );
        assert!(choice.flavors.len() <= most);
        assert!((grid.waste - waste_of(&choice.flavors, &all, &ALIKE)).abs() < 1e-9);
        assert!(
            grid.bound <= grid.waste,
            "{most}: {} {}",
            grid.bound,
            grid.waste
        );
        println!(
            "{most}: {} cells, {} {}",
            few.cells.len(),
            grid.bound,
            grid.waste
        );
        // Only one flavor has room for all, and the bound does not know of it that it is alone.
        let distance = grid.waste - grid.bound;
        assert!(distance < 0.2, "{most}: {distance}");
    }
}

#[test]
fn of_one_flavor_for_all_it_is_proven_that_none_wastes_less() {
    for count in [2, 100, 3000] {
        let all = many(count);
        let choice = choose(&all, 1, &ALIKE);
        let most = |part: usize| all.iter().map(|point| point.asked[part]).max().unwrap();
        let least = [most(0), most(1), most(2).next_multiple_of(1024)];
        assert_eq!(choice.flavors, [least]);
        let grid = Grid::new(&choice, &all, &ALIKE);
        assert!(grid.is_best(), "{} {}", grid.bound, grid.waste);
        assert!((grid.waste - waste_of(&[least], &all, &ALIKE)).abs() < 1e-9);
    }
}

#[test]
fn the_commands_make_what_is_missing_and_say_what_is_in_the_way() {
    use super::super::flavors::example::flavor;
    let text = "1024 1 10485760\n4096 2 1\n8192 4 0\n2048 1 0\n";
    let have = [
        flavor("of another name", 1024, 1, 10, 20),
        flavor("m4096c2s1", 4096, 2, 0, 20),
        Flavor {
            is_disabled: true,
            ..flavor("off", 8192, 4, 0, 20)
        },
    ];
    let answer = |most, have: &[Flavor], format| {
        super::answer("f", text.as_bytes(), most, &ALIKE, have, format).unwrap()
    };
    let all = answer(4, &have, Format::Table);
    assert!(
        all.text.ends_with(
            "\n\nopenstack flavor create --ram 2048 --vcpus 1 --ephemeral 0 m2048c1s0\n\
             openstack flavor create --ram 8192 --vcpus 4 --ephemeral 0 m8192c4s0\n"
        ),
        "{}",
        all.text
    );
    assert!(all.text.contains("\nno set of 4 flavors wastes less\n"));
    let expected = "m4096c2s1 is there already, and is something else";
    assert!(all.warnings[0].starts_with(expected), "{:?}", all.warnings);
    let one = answer(1, &[flavor("x", 8192, 4, 10, 0)], Format::Json);
    let document: Value = serde_json::from_slice(one.text.as_bytes()).unwrap();
    assert_eq!(document["flavors"][0]["name"], "m8192c4s10");
    assert_eq!(document["flavors"][0]["requests"], 4);
    assert_eq!(document["commands"], json!([]));
    assert_eq!(document["proven"], true);
    // Memory: 7/8, 1/2, 0, 3/4. Cores: 3/4, 1/2, 0, 3/4. Scratch: 0, nearly 1, 1, 1.
    assert_eq!(document["waste"]["memory"], 17.0 / 32.0);
    assert_eq!(document["waste"]["cores"], 0.5);
    assert_eq!(document["worst"]["memory_mib"], 2048);
}

#[test]
fn weights_are_by_name_and_add_up_to_one() {
    assert_eq!(weights(None), Ok(ALIKE));
    assert_eq!(weights(Some("cores=3, memory=1")), Ok([0.75, 0.25, 0.0]));
    for list in [
        "",
        "cores",
        "cores=x",
        "cores=-1",
        "cores=nan",
        "cores=inf",
        "disk=1",
        "cores=0",
        "cores=1,cores=2",
        "cores=0,memory=1,cores=2",
    ] {
        assert!(weights(Some(list)).is_err(), "{list}");
    }
}

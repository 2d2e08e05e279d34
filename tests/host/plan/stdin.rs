//! Standard input can be read once.

use super::said::{Folder, plan_in, printed};

claims![what_is_read_from_standard_input_twice_is_wrong_usage];

fn what_is_read_from_standard_input_twice_is_wrong_usage() {
    let folder = Folder::with(&[("f", printed("10.5.0", "flavors"))]);
    let flavors = printed("10.5.0", "flavors");
    for words in [
        "flavor --cores 1 - -",
        "flavor --cores 1 f - --image -",
        "grid --have - -",
        "image a=- b=-",
        "image --to a=- b=-",
        "image --name x --to a=- --to b=-",
        "snapshot - --server -",
        "expire - -",
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        plan_in(&folder.0, &words, &flavors).is(2, &["standard input (-) can be read only once"]);
    }
    let once = ["flavor", "--cores", "1", "f", "-"];
    plan_in(&folder.0, &once, &flavors).is(0, &[]);
}

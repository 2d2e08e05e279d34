use std::os::unix::fs::symlink;

use super::line::{Statement, logical, statement};
use super::*;
use crate::host::tree::Tree;

const FIRST: &str = "etc/condor/condor_config";

fn tree(files: &[(&str, &str)]) -> Tree {
    let accounts = "root:x:0:0::/root:/bin/sh\ncondor:x:64:64::/home/condor:/bin/false\n";
    let own = [("etc/passwd", accounts), ("usr/", "")];
    Tree::new(&[&own, files].concat())
}

fn read_tree(tree: &Tree) -> Configuration {
    read(&Root::open(tree.root()).unwrap(), None)
}

/// The names of a configuration that are asked for, with their values or why there is none.
#[track_caller]
fn assert_values(files: &[(&str, &str)], expected: &[(&str, &str)]) {
    let found = read_tree(&tree(files));
    for (name, value) in expected {
        let known = found.value(name).unwrap_or_else(|why| format!("? {why}"));
        assert_eq!(known, *value, "{name} of {files:?}");
    }
}

#[track_caller]
fn assert_unclear(files: &[(&str, &str)], expected: &[(&str, &str)]) {
    let found = read_tree(&tree(files));
    let unclear: Vec<(&str, &str)> = found.unclear.iter().map(|(a, b)| (&**a, &**b)).collect();
    assert_eq!(unclear, expected, "{files:?}");
}

#[test]
fn lines_are_read_as_htcondor_reads_them() {
    let set = |name, value: &str| Statement::Set {
        name,
        value: value.into(),
    };
    for (line, expected) in [
        ("start=TRUE", set("start", "TRUE")),
        ("STARTD.EXECUTE  =  /x", set("STARTD.EXECUTE", "/x")),
        ("A += b", set("A", "$(A) b")),
        ("A =", set("A", "")),
        ("IF = 1", set("IF", "1")),
        ("IF_X = 1", set("IF_X", "1")),
        ("use2 = 1", set("use2", "1")),
        ("A = x : y", set("A", "x : y")),
        ("[heading]", Statement::Nothing),
        ("warning : old", Statement::Nothing),
        ("IF defined x", Statement::If("defined x")),
        ("if !$(x)", Statement::If("!$(x)")),
        ("Else", Statement::Else(None)),
        ("elif 1", Statement::Else(Some("1"))),
        ("endif", Statement::EndIf),
        ("nothing of it", Statement::Unknown),
        ("a b = c", Statement::Unknown),
    ] {
        assert_eq!(statement(line), expected, "{line}");
    }
    for (line, options, target) in [
        ("include : /a b", "", "/a b"),
        ("@INCLUDE:/a", "", "/a"),
        (
            "include ifexist command into /c : x | y",
            "ifexist command into /c",
            "x | y",
        ),
    ] {
        assert_eq!(
            statement(line),
            Statement::Include { options, target },
            "{line}"
        );
    }
    let (category, names) = ("ROLE", "Execute, Submit");
    let expected = Statement::Use { category, names };
    assert_eq!(statement("use ROLE : Execute, Submit"), expected);
}

#[test]
fn a_line_goes_on_behind_a_backslash_and_over_comments() {
    let text =
        "\n  # A = 0 \\\nA = $(B) \\\n  # $(C) \\\n  $(D)\nX @=end\n one = 1\n two\n@end\nY = 1\\";
    let lines = logical(text);
    let expected = [(3, "A = $(B) $(D)"), (6, "X = one = 1 two"), (10, "Y = 1")];
    let found: Vec<(usize, &str)> = lines.iter().map(|(n, line)| (*n, &**line)).collect();
    assert_eq!(found, expected);
    // Without an end.
    assert_eq!(logical("A @=x\nb").len(), 1);
}

#[test]
fn macros_are_put_in_where_what_they_mean_is_known() {
    let text = "LOCAL_DIR = /scratch\nlog = $(local_dir)/log\nA = $(HOSTNAME)\nB = $(TILDE)/b\n\
                C = one\nC = $(C) two\nC = $(c) three\nD = $(NONE:$(C))\nE = $(NONE)\nF = $ENV(HOME)\n\
                G = $(H)\nH = $(G)\nI = $(I)x\nJ = $(CONFIG_ROOT)/j\nK = $(FULL_HOSTNAME)\nL = cost $5\n\
                M = $INT(1+1)\nN = $$(Name)\nO = $(LOG\n";
    let files = [(FIRST, text), ("etc/hostname", "node7.example.org\n")];
    let endless = "? there are too many macros in it";
    assert_values(
        &files,
        &[
            ("SPOOL", "/scratch/spool"),
            ("LOG", "/scratch/log"),
            ("LOCK", "/scratch/log"),
            ("A", "node7"),
            ("B", "/home/condor/b"),
            ("C", "one two three"),
            ("D", "one two three"),
            ("E", "? $(NONE) is not set in its files"),
            ("F", "? $ENV(HOME) is not worked out here"),
            ("G", endless),
            ("I", "x"),
            ("J", "/etc/condor/j"),
            ("K", "node7.example.org"),
            ("L", "cost $5"),
            ("M", "? $INT(1+1) is not worked out here"),
            ("N", "? $$(Name) is not worked out here"),
            ("O", "? $(LOG is not worked out here"),
        ],
    );
    // Twice as much with each line.
    let mut doubling = "A0 = xxxxxxxx\n".to_string();
    for n in 1..60 {
        doubling += &format!("A{n} = $(A{0})$(A{0})\n", n - 1);
    }
    assert_values(&[(FIRST, &doubling)], &[("A59", endless)]);
}

#[test]
fn a_condition_counts_where_it_can_be_told() {
    for (condition, expected) in [
        ("true", "/yes"),
        ("!yes", "/no"),
        ("0", "/no"),
        ("$(SWITCH)", "/no"),
        ("! $(SWITCH)", "/yes"),
        ("defined SWITCH", "/yes"),
        ("! defined switch", "/no"),
        ("version >= 8.1.6", "?"),
        ("defined UNHEARD_OF", "?"),
        ("$(UNHEARD_OF)", "?"),
    ] {
        let text = format!(
            "SWITCH = False\nif {condition}\n if true\n EXECUTE = /yes\n endif\nelse\nEXECUTE = /no\nendif\n"
        );
        let found = read_tree(&tree(&[(FIRST, &text)]));
        let value = found.value("EXECUTE");
        let value = value.unwrap_or_else(|_| "?".into());
        assert_eq!(value, expected, "{condition}");
    }
    let chain =
        "if false\nA = 1\nelif version > 9\nA = 2\nelif true\nA = 3\nelse\nA = 4\nendif\nB = 5\n";
    let found = read_tree(&tree(&[(FIRST, chain)]));
    let set = found
        .settings
        .iter()
        .filter(|setting| !setting.place.is_empty());
    let set: Vec<(&str, bool)> = set.map(|set| (&*set.value, set.is_certain)).collect();
    assert_eq!(set, [("2", false), ("3", false), ("5", true)]);
}

#[test]
fn files_are_read_in_htcondors_order_and_only_those_that_it_reads() {
    let files = [
        (
            FIRST,
            "DIR = /etc/condor\nLOCAL_CONFIG_DIR = /usr/share/condor/config.d,$(DIR)/config.d\n\
             LOCAL_CONFIG_FILE = $(DIR)/$(HOSTNAME).local, /etc/condor/second /nowhere\nA = 0\n",
        ),
        ("etc/hostname", "node7\n"),
        ("usr/share/condor/config.d/50", "A = $(A) shared\n"),
        ("etc/condor/config.d/10-site", "A = $(A) early\n"),
        ("etc/condor/config.d/99-z", "a = $(A) late\n"),
        ("etc/condor/config.d/99-z.rpmsave", "A = old\n"),
        ("etc/condor/config.d/50.d/x", "A = below\n"),
        ("etc/condor/config.d/99-vmstage.config", "A = ours\n"),
        (
            "etc/condor/node7.local",
            "A = $(A) first\nLOCAL_CONFIG_FILE = /etc/condor/second /etc/third\n",
        ),
        (
            "etc/condor/second",
            "A = $(A) second\nLOCAL_CONFIG_DIR = /etc/condor/local.d\n",
        ),
        ("etc/third", "A = $(A) third\n"),
        ("etc/condor/local.d/x", "A = $(A) again\n"),
        (
            "etc/default/condor",
            "# A\nexport _CONDOR_A=\"environment\"\n",
        ),
    ];
    let found = read_tree(&tree(&files));
    assert_eq!(found.value("A").unwrap(), "environment");
    let last = found.settings.iter().rposition(|s| s.name == "A").unwrap();
    let of_files = found.last("A", last).unwrap().unwrap();
    let expected = "0 shared early late first second third again";
    assert_eq!(found.value_at(of_files).unwrap(), expected);
    assert!(found.reads_our_directory);
    let after: Vec<&str> = found
        .settings
        .iter()
        .filter(|set| set.is_read_after_ours && set.name == "A")
        .map(|set| set.place.as_str())
        .collect();
    assert_eq!(after[0], "/etc/condor/config.d/99-z:1");
    assert_eq!((after.len(), found.unclear.len()), (6, 0));
}

#[test]
fn the_first_file_is_where_the_daemons_look_for_it() {
    let at = |files: &[(&str, &str)]| {
        let found = read_tree(&tree(files));
        found.files.first().map(|path| path.display().to_string())
    };
    let tarball = ("opt/condor/etc/condor_config", "");
    let home = ("home/condor/condor_config", "");
    let named = ("etc/sysconfig/condor", "CONDOR_CONFIG=/srv/condor.conf\n");
    assert_eq!(at(&[]), None);
    assert_eq!(at(&[tarball]).unwrap(), "/opt/condor/etc/condor_config");
    assert_eq!(at(&[tarball, home]).unwrap(), "/home/condor/condor_config");
    assert_eq!(
        at(&[home, (FIRST, "")]).unwrap(),
        "/etc/condor/condor_config"
    );
    let elsewhere = [named, (FIRST, ""), ("srv/condor.conf", "")];
    assert_eq!(at(&elsewhere).unwrap(), "/srv/condor.conf");
    // Where it is named, no other is read.
    assert_eq!(at(&[named, (FIRST, "")]), None);
    for computed in ["CONDOR_CONFIG=$(locate)\n", "CONDOR_CONFIG=ONLY_ENV\n"] {
        let unclear = (
            "/etc/default/condor:1",
            "what it says is not worked out here",
        );
        assert_unclear(&[("etc/default/condor", computed), (FIRST, "")], &[unclear]);
    }
}

#[test]
fn files_are_included_and_programs_are_not_run() {
    let files = [
        (
            FIRST,
            "D = /etc/condor\ninclude : $(D)/a\n@include ifexist : /nowhere\ninclude command into /var/cached : make\n",
        ),
        ("etc/condor/a", "A = 1\ninclude:/etc/condor/b\n"),
        ("etc/condor/b", "B = 2\n"),
        ("var/cached", "C = 3\n"),
    ];
    assert_values(&files, &[("A", "1"), ("B", "2"), ("C", "3")]);
    assert_unclear(&files, &[]);
    let program = "a program says what is set, and none is run here";
    for (line, why) in [
        ("include : /bin/make |", program),
        ("include command : /bin/make", program),
        ("include command into /var/none : /bin/make", program),
        ("include : relative", "relative is no absolute path"),
        ("include : $(X)", "$(X) is not set in its files"),
        ("use OTHER : x", "what OTHER sets is not known"),
        ("use feature : Remote_Config", program),
        ("what is it", "the line is not understood"),
    ] {
        assert_unclear(&[(FIRST, line)], &[("/etc/condor/condor_config:1", why)]);
    }
    assert_unclear(
        &[(FIRST, "include : /none")],
        &[("/none", "it is not there")],
    );
    let piped = "LOCAL_CONFIG_FILE = /bin/make -x|";
    let why = format!("LOCAL_CONFIG_FILE: {program}");
    assert_unclear(&[(FIRST, piped)], &[("/etc/condor/condor_config:1", &why)]);
    assert_unclear(
        &[(
            FIRST,
            "use ROLE : Execute\nuse feature:GPUs\nuse policy : Desktop",
        )],
        &[],
    );
}

#[test]
fn what_has_no_end_ends() {
    let own = "A = 1\ninclude : /etc/condor/condor_config\ninclude : /etc/condor/condor_config\n";
    let start = std::time::Instant::now();
    let found = read_tree(&tree(&[(FIRST, own)]));
    assert!(found.files.len() <= MOST_FILES && !found.unclear.is_empty());
    let growing = "LOCAL_CONFIG_FILE = $(LOCAL_CONFIG_FILE) /etc/x$(N)\nN = $(N)1\n";
    read_tree(&tree(&[
        (FIRST, "LOCAL_CONFIG_FILE = /etc/x\n"),
        ("etc/x", growing),
    ]));
    let large = "# x\n".repeat(300_000);
    assert_unclear(
        &[(FIRST, &large)],
        &[(
            "/etc/condor/condor_config",
            "it cannot be read: it is larger than 1048576 bytes",
        )],
    );
    let many: String = (0..90_000).map(|n| format!("A{n}=1\n")).collect();
    let found = read_tree(&tree(&[(FIRST, &many), ("etc/default/condor", &many)]));
    assert!(found.settings.len() < MOST_LINES + 10);
    assert_eq!(
        found.unclear,
        [(
            format!("/etc/condor/condor_config:{}", MOST_LINES + 1),
            TOO_LARGE.into()
        )]
    );
    assert!(start.elapsed().as_secs() < 60);
}

#[test]
fn nothing_outside_of_the_tree_is_read() {
    let tree = tree(&[(
        FIRST,
        "include : /etc/out\ninclude : /etc/device\n\
         LOCAL_CONFIG_DIR = /etc/up /etc/d d\n",
    )]);
    symlink("../../../../etc/hostname", tree.root().join("etc/out")).unwrap();
    symlink("../../../../etc", tree.root().join("etc/up")).unwrap();
    std::fs::create_dir(tree.root().join("etc/d")).unwrap();
    symlink("../../../../etc/hostname", tree.root().join("etc/d/x")).unwrap();
    let device = tree.root().join("etc/device");
    nix::unistd::mkfifo(&device, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let found = read_tree(&tree);
    assert_eq!(found.files, [Path::new("/etc/condor/condor_config")]);
    let places: Vec<&str> = found.unclear.iter().map(|(place, _)| &**place).collect();
    assert_eq!(
        places,
        ["/etc/out", "/etc/device", "/etc/up", "/etc/d/x", "d"]
    );
}

use std::fs::set_permissions;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use nix::unistd::{mkfifo, symlinkat};

use super::*;
use crate::host::regular_file::MIB;
use crate::host::tree::Tree;
use crate::host::wait;

/// A tree with these files and links; `etc` and `usr` are there.
fn tree(files: &[(&str, &str)], links: &[(&str, &str)]) -> (Tree, Root) {
    let tree = Tree::new(&[&[("etc/", ""), ("usr/", "")], files].concat());
    for (path, text) in links {
        symlink(text, tree.root().join(path)).unwrap();
    }
    let root = Root::open(tree.root()).unwrap();
    (tree, root)
}

fn read(root: &Root, path: &str) -> std::result::Result<Option<String>, String> {
    match root.read(path.as_ref(), MIB) {
        Ok(content) => Ok(content.map(|bytes| String::from_utf8(bytes).unwrap())),
        Err(e) if leads_out(&e) => Err("leads out".into()),
        Err(e) => Err(e.kind().to_string()),
    }
}

const OURS: Attributes = Attributes::Ours { mode: 0o644 };

#[test]
fn links_are_followed_inside_of_the_tree_and_what_leads_out_is_refused() {
    let files = [
        ("etc/rc.d/init.d/condor", "script"),
        ("etc/passwd", "the image's"),
    ];
    let links = [
        ("etc/init.d", "/etc/rc.d/init.d"),
        ("etc/again", "../etc/./init.d"),
        ("etc/accounts", "/etc/passwd"),
        ("etc/up", "../../etc/passwd"),
        ("etc/far", "../../../../../../../../../etc/passwd"),
        ("etc/a", "b"),
        ("etc/b", "a"),
        ("etc/nowhere", "/not/there"),
        ("loop", "loop/loop"),
    ];
    let (_tree, root) = tree(&files, &links);
    let out = || Err("leads out".to_string());
    let found = |text: &str| Ok(Some(text.to_string()));
    for (path, expected) in [
        ("/etc/init.d/condor", found("script")),
        ("/etc/again/condor", found("script")),
        ("etc/accounts", found("the image's")),
        ("/etc/../etc/passwd", found("the image's")),
        ("/etc/up", out()),
        ("/etc/far", out()),
        ("/../etc/passwd", out()),
        ("/etc/nowhere", Ok(None)),
        ("/etc/passwd/below", Ok(None)),
        ("/etc/none", Ok(None)),
        ("/etc", Err("invalid input parameter".into())),
    ] {
        assert_eq!(read(&root, path), expected, "{path}");
    }
    for circle in ["/etc/a", "/loop"] {
        let error = root.read(circle.as_ref(), MIB).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::ELOOP as i32));
    }
    let real = root.real_path("/etc/again/condor".as_ref()).unwrap();
    assert_eq!(real, Path::new("/etc/rc.d/init.d/condor"));
}

#[test]
fn what_is_no_regular_file_is_not_opened() {
    let (tree, root) = tree(&[("large", "12345")], &[]);
    mkfifo(&tree.root().join("pipe"), Mode::S_IRWXU).unwrap();
    assert_eq!(read(&root, "/pipe").unwrap_err(), "invalid input parameter");
    let too_large = root.read("/large".as_ref(), 4).unwrap_err();
    assert_eq!(too_large.kind(), ErrorKind::FileTooLarge);
    let error = root.write("/pipe".as_ref(), b"x", OURS).unwrap_err();
    assert!(format!("{error:#}").ends_with("not a regular file"));
}

#[test]
fn a_file_is_written_with_its_directories_through_links_and_only_where_it_differs() {
    let (tree, root) = tree(&[], &[("etc/init.d", "/etc/rc.d/init.d")]);
    let (path, mode) = (Path::new("/etc/init.d/vmstage"), 0o755);
    let write = |content: &[u8]| root.write(path, content, Attributes::Ours { mode });
    assert_eq!(write(b"one").unwrap(), Change::Done);
    assert_eq!(write(b"one").unwrap(), Change::None);
    assert_eq!(write(b"two").unwrap(), Change::Done);
    assert_eq!(tree.text("etc/rc.d/init.d/vmstage"), "two");
    assert_eq!(root.entry(path).unwrap().unwrap().mode, mode);
    assert_eq!(tree.names("etc/rc.d/init.d"), ["vmstage"]);
}

#[test]
fn a_file_of_others_keeps_its_mode_and_what_a_killed_run_left_goes() {
    let files = [("etc/fstab", "old"), ("etc/.fstab.vmstage-new", "half")];
    let (tree, root) = tree(&files, &[]);
    let fstab = tree.root().join("etc/fstab");
    set_permissions(&fstab, fs::Permissions::from_mode(0o640)).unwrap();
    let path = Path::new("/etc/fstab");
    root.write(path, b"new", Attributes::AsBefore).unwrap();
    assert_eq!(tree.text("etc/fstab"), "new");
    assert_eq!(fstab.metadata().unwrap().mode() & 0o7777, 0o640);
    assert_eq!(tree.names("etc"), ["fstab"]);
}

#[test]
fn links_are_made_replaced_and_removed_and_nothing_else_gives_way_to_one() {
    let (tree, root) = tree(&[("etc/file", "kept")], &[]);
    let path = Path::new("/etc/rc3.d/S85vmstage");
    let link = |text: &str| root.link(path, text.as_ref());
    assert_eq!(link("../init.d/vmstage").unwrap(), Change::Done);
    assert_eq!(link("../init.d/vmstage").unwrap(), Change::None);
    assert_eq!(link("/dev/null").unwrap(), Change::Done);
    assert_eq!(
        root.link_text(path).unwrap().unwrap(),
        Path::new("/dev/null")
    );
    assert_eq!(root.remove(path).unwrap(), Change::Done);
    assert_eq!(root.remove(path).unwrap(), Change::None);
    root.link("/etc/file".as_ref(), "x".as_ref()).unwrap_err();
    assert_eq!(tree.text("etc/file"), "kept");
    let directory = Path::new("/etc/rc3.d");
    assert_eq!(root.remove_empty("/etc".as_ref()).unwrap(), Change::None);
    assert_eq!(root.remove_empty(directory).unwrap(), Change::Done);
    assert_eq!(root.remove_empty(directory).unwrap(), Change::None);
}

#[test]
fn names_that_are_no_text_survive() {
    let name = OsString::from_vec(vec![b'a', 0xff]);
    let (tree, root) = tree(&[], &[]);
    let path = Path::new("/etc").join(&name);
    root.write(&path, b"x", OURS).unwrap();
    assert_eq!(root.names("/etc".as_ref()).unwrap(), vec![name.clone()]);
    assert_eq!(fs::read(tree.root().join("etc").join(name)).unwrap(), b"x");
    assert!(root.names("/none".as_ref()).unwrap().is_empty());
}

#[test]
fn this_machines_own_root_has_to_be_meant() {
    let link = Tree::new(&[]);
    symlink("/", link.root().join("root")).unwrap();
    for path in [
        link.root().join("root"),
        "/proc/self/root".into(),
        "//".into(),
    ] {
        let error = Root::open(&path).err().unwrap().to_string();
        assert!(error.ends_with("say --root /"), "{error}");
    }
    assert!(Root::open(Path::new("/")).unwrap().is_own());
}

#[test]
fn what_is_no_root_directory_is_refused() {
    let tree = Tree::new(&[("etc/", ""), ("file", "")]);
    let out = Tree::new(&[("etc/", "")]);
    symlink("../outside", out.root().join("usr")).unwrap();
    for (path, words) in [
        (tree.root().to_path_buf(), "has no /usr"),
        (out.root().to_path_buf(), "/usr leads out of it, by a link"),
        (tree.root().join("file"), "cannot open"),
        (tree.root().join("none"), "cannot open"),
    ] {
        let error = Root::open(&path).err().unwrap().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn one_at_a_time_is_at_work_in_a_tree() {
    let (tree, root) = tree(&[], &[]);
    root.lock().unwrap();
    let other = Root::open(tree.root()).unwrap();
    assert!(other.lock().is_err());
    drop(root);
    // What another test starts has a copy of the lock until it runs its own program.
    let free = wait::until(Duration::from_secs(5), Duration::from_millis(10), || {
        other.lock().ok()
    });
    assert!(free.is_some());
}

/// Deeper than a path can be long, and than files can be open.
#[test]
fn a_tree_is_removed_however_deep_it_is_and_however_long_its_names() {
    use nix::sys::stat::mkdirat;

    let (tree, root) = tree(&[("etc/of/others", "kept")], &[]);
    let name = "n".repeat(255);
    let at = tree.root().join("etc/deep");
    fs::create_dir(&at).unwrap();
    let mut here = walk::open_directory(File::open(&at).unwrap(), OsStr::new(".")).unwrap();
    for level in 0..1200 {
        let name = OsStr::new(if level < 40 { name.as_str() } else { "d" });
        mkdirat(&here, name, Mode::from_bits_truncate(0o755)).unwrap();
        symlinkat("/etc/of", &here, "link").unwrap();
        here = walk::open_directory(&here, name).unwrap();
    }
    drop(here);
    let path = Path::new("/etc/deep");
    assert_eq!(root.remove_tree(path).unwrap(), Change::Done);
    assert_eq!(root.remove_tree(path).unwrap(), Change::None);
    assert_eq!(tree.names(""), ["etc/of/others"]);
    fs::write(tree.root().join("etc").join(&name), "x").unwrap();
    let long = Path::new("/etc").join(&name);
    root.write(&long, b"y", OURS).unwrap();
    assert_eq!(tree.text(&format!("etc/{name}")), "y");
    assert_eq!(root.remove(&long).unwrap(), Change::Done);
    assert_eq!(tree.names(""), ["etc/of/others"]);
}

#[test]
fn a_tree_is_a_file_or_a_link_as_well_and_never_the_whole_system() {
    let files = [("etc/file", "x"), ("etc/of/others", "kept")];
    let (tree, root) = tree(&files, &[("etc/link", "of")]);
    for path in ["/etc/file", "/etc/link"] {
        assert_eq!(root.remove_tree(path.as_ref()).unwrap(), Change::Done);
    }
    for path in ["/", "/.", "/etc/.."] {
        let error = root.remove_tree(path.as_ref()).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.ends_with("it is the whole system"), "{path}: {error}");
    }
    assert_eq!(tree.names(""), ["etc/of/others"]);
}

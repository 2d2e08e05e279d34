//! Making several disks one with the guest's mdadm, and putting them together again: with that,
//! or, where there is none, by the kernel's own calls.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use log::info;
use nix::libc;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::array::{NAME, Record};
use super::blank::{self, Found};
use super::choose::{Part, Stripe, Task, Was};
use super::content::Content;
use super::signature;
use crate::config::{Filesystem, Staging};
use crate::host::block_device::Number;
use crate::host::bounded::{self, Child, GaveUp, Limit};
use crate::host::progress::{self, Progress};
use crate::host::{Host, kernel_calls, kernel_file, program, sysfs, wait};

/// What begins a file system of the array that was on the disks before; twice what libblkid reads.
const BEGIN: u64 = 1 << 20;

/// How long an array that does not run is tried to be stopped.
const STOPPING: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_millis(100);

/// How long mdadm may take at most: it waits for udev as well.
const BY_MDADM: Duration = Duration::from_secs(60);

/// Of mdadm and the kernel, which are given up where a disk hangs.
fn limit_of_all(host: &Host, stripe: &Stripe, config: &Staging) -> Limit {
    let numbers = stripe.parts().iter().map(Part::number).collect();
    let progress = Progress::with_requests(host, numbers, config.device_timeout);
    Limit::without(progress, BY_MDADM)
}

/// Which of the disks keep somebody waiting that was given up.
fn name_those_that_hang(host: &Host, stripe: &Stripe, mut error: anyhow::Error) -> anyhow::Error {
    let is_late = error.is::<program::Late>()
        || matches!(error.downcast_ref::<GaveUp>(), Some(GaveUp::Late(_)));
    for part in stripe.parts() {
        if is_late && progress::has_requests(host, part.number()) {
            error = anyhow!("{error:#}; {} does not answer", part.node().display());
        }
    }
    error
}

/// Makes an array of disks, or puts one together. `limit` is asked for a new time limit for each
/// of them. Where none can be made, disks that were blank are blank again.
///
/// # Errors
///
/// That one of the disks is not any more what it was, or is in use, or does not answer; what
/// mdadm or the kernel said, and which disk keeps what mdadm wrote on it.
pub(crate) fn combine(
    host: &Host,
    stripe: &Stripe,
    config: &Staging,
    limit: impl Fn(Number) -> Limit,
) -> Result<()> {
    let mut keepers = Vec::new();
    let done = keep_open_and_combine(host, stripe, config, &limit, &mut keepers);
    for keeper in keepers {
        // It may hang.
        keeper.give_up();
    }
    done
}

fn keep_open_and_combine(
    host: &Host,
    stripe: &Stripe,
    config: &Staging,
    limit: &dyn Fn(Number) -> Limit,
    keepers: &mut Vec<Child>,
) -> Result<()> {
    for part in stripe.parts() {
        keep_open(host, part, limit(part.number()), keepers)?;
    }
    for name in stripe.held_by() {
        stop(host, name, stripe)
            .with_context(|| format!("{name} has disks that are to be in another array"))?;
    }
    let array = free_array(host).context("md has no free device")?;
    match stripe.task() {
        Task::Assemble(uuid) => {
            info!("putting {stripe} together");
            assemble(host, stripe, config, array, uuid)?;
            see_that_it_runs(host, stripe)
        }
        Task::Create { instead_of } => {
            info!("making {stripe} one disk");
            // The zeros of many disks take time, in which somebody may write to the first.
            for look in [Look::ForZeros, Look::AtSignatures] {
                for part in stripe.parts() {
                    in_child(limit(part.number()), &|| {
                        see_that_it_is_as_it_was(host, part, look)
                    })
                    .with_context(|| format!("cannot look at {}", part.node().display()))?;
                }
            }
            let wipe = || {
                for (part, keeper) in stripe.parts().iter().zip(keepers) {
                    if let Was::Member(member) = part.was() {
                        let limit = limit(part.number());
                        wipe_by(keeper, member.data_offset, limit).with_context(|| {
                            format!("cannot write to {}", part.node().display())
                        })?;
                    }
                }
                Ok(())
            };
            let made = create(host, stripe, config, array, instead_of, wipe);
            // mdadm may have failed of what it does beside that.
            match (made, see_that_it_runs(host, stripe)) {
                (Err(error), Ok(())) => {
                    info!("{error:#}; the array runs");
                    Ok(())
                }
                (Ok(()), runs) => runs,
                (made, Err(_)) => made,
            }
            .map_err(|error| take_back(host, stripe, limit, error))
        }
    }
}

/// What a child keeps open.
static KEPT: OnceLock<File> = OnceLock::new();

/// Has a child open a disk and keep it so: this process would hang with the disk. While it is
/// open no other device can have its number. Closing what was open for writing has udev look at a
/// disk, which is not to be before it is a member.
fn keep_open(host: &Host, part: &Part, limit: Limit, keepers: &mut Vec<Child>) -> Result<()> {
    let mut keeper = Child::start(&[], |parent| {
        let opened = open(host, part).map(|device| drop(KEPT.set(device)));
        parent.tell(&opened.map_err(|e| format!("{e:#}")));
    })?;
    let opened: Result<Result<(), String>, GaveUp> = keeper.wait(limit);
    keepers.push(keeper);
    opened
        .with_context(|| format!("cannot open {}", part.node().display()))?
        .map_err(anyhow::Error::msg)
}

fn open(host: &Host, part: &Part) -> Result<File> {
    let path = host.path(part.node());
    let opened = match part.was() {
        Was::Member(_) => writable(&path, part.number()),
        Was::Blank | Was::HalfMade => signature::open_node(&path, part.number()),
    };
    opened.with_context(|| format!("cannot open {}", part.node().display()))
}

fn writable(path: &Path, number: Number) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true);
    signature::of_number(options.custom_flags(libc::O_NONBLOCK).open(path)?, number)
}

/// Stops an array that does not run, and that has no disks but these.
fn stop(host: &Host, name: &str, stripe: &Stripe) -> Result<()> {
    let path = host.path(sysfs::node_of(name));
    in_child(Limit::after(2 * STOPPING), &|| {
        // udev may look at it, or put it together meanwhile.
        let mut error = String::new();
        let stopped = wait::until(STOPPING, RETRY, || {
            if let Err(why) = may_be_stopped(host, name, stripe) {
                return Some(Err(why));
            }
            let stopped = File::open(&path).and_then(|array| kernel_calls::stop_array(&array));
            stopped.map_err(|e| error = e.to_string()).ok().map(Ok)
        });
        stopped.unwrap_or(Err(error))
    })
    .context("cannot stop it")
}

fn may_be_stopped(host: &Host, name: &str, stripe: &Stripe) -> Result<(), String> {
    let directory = host.path("/sys/block").join(name);
    let state = sysfs::attribute(&directory.join("md/array_state"));
    if !matches!(state.as_deref(), Some("inactive" | "clear")) {
        return Err("it runs".into());
    }
    let is_part = |node: &PathBuf| stripe.parts().iter().any(|part| part.node() == node);
    let members = sysfs::members(host, name);
    match members.iter().find(|node| !is_part(node)) {
        Some(other) => Err(format!("it has {} too", other.display())),
        None => Ok(()),
    }
}

/// What may hang.
fn in_child(limit: Limit, work: &dyn Fn() -> Result<(), String>) -> Result<()> {
    bounded::run(limit, &[], work)?.map_err(anyhow::Error::msg)
}

/// The number of one that nobody has: mdadm takes them from here down too.
fn free_array(host: &Host) -> Option<u64> {
    let is_free = |number: &u64| !host.path(format!("/sys/block/md{number}")).exists();
    (0..128).rev().find(is_free)
}

#[derive(Clone, Copy)]
enum Look {
    /// And at signatures.
    ForZeros,
    AtSignatures,
}

/// Once more, and right before any of them is written to.
fn see_that_it_is_as_it_was(host: &Host, part: &Part, look: Look) -> Result<(), String> {
    let (node, path) = (part.node().display(), host.path(part.node()));
    let claimed = claim(host, part)?;
    let reading = signature::read(&path);
    let is_same = match (part.was(), look) {
        (Was::Member(member), _) => reading.facts.member.as_ref() == Some(member),
        (Was::HalfMade, _) | (Was::Blank, Look::AtSignatures) => {
            reading.content == Content::Nothing
        }
        (Was::Blank, Look::ForZeros) => {
            let is_zero = match blank::scan(&claimed, blank::SAMPLES, || ()) {
                Ok(Found::Zeros { .. }) => true,
                Ok(Found::Something { .. }) => false,
                Err(e) => return Err(format!("{node} cannot be read: {e}")),
            };
            is_zero && reading.content == Content::Nothing
        }
    };
    match is_same {
        true => Ok(()),
        false => Err(format!(
            "{node} is not what it was: it now has {} on it",
            reading.content
        )),
    }
}

/// udev looks at a disk that was in an array until now, and has it alone for a moment.
fn claim(host: &Host, part: &Part) -> Result<File, String> {
    let path = host.path(part.node());
    let mut error = String::new();
    let claimed = wait::until(STOPPING, RETRY, || {
        let claimed = signature::claim(&path, part.number());
        claimed.map_err(|e| error = e.to_string()).ok()
    });
    claimed.ok_or_else(|| format!("cannot have {} alone: {error}", part.node().display()))
}

/// Makes disks that were blank so again after mdadm failed of this. Returns that, and what could
/// not be taken back.
fn take_back(
    host: &Host,
    stripe: &Stripe,
    limit: impl Fn(Number) -> Limit,
    mut error: anyhow::Error,
) -> anyhow::Error {
    let Some(record) = Record::read(host) else {
        return error;
    };
    for part in stripe.parts() {
        let name = sysfs::kernel_name(host, part.number()).unwrap_or_default();
        for holder in sysfs::holders(host, &name) {
            let _ = stop(host, &holder, stripe);
        }
    }
    let parts = stripe.parts().iter();
    for part in parts.filter(|part| *part.was() == Was::Blank) {
        let taken_back = in_child(limit(part.number()), &|| {
            see_that_it_is_blank(host, part, &record.uuid)
        });
        if let Err(why) = taken_back {
            let node = part.node().display();
            error = anyhow!("{error:#}; {node} keeps what mdadm wrote on it: {why:#}");
        }
    }
    error
}

/// It was, and what mdadm writes lies in front of what is in the array.
fn see_that_it_is_blank(host: &Host, part: &Part, array: &str) -> Result<(), String> {
    let _claimed = claim(host, part)?;
    let path = host.path(part.node());
    match signature::read(&path).facts.member {
        Some(member) if member.uuid == array => {
            let wiped = writable(&path, part.number()).and_then(|device| wipe(&device, 0));
            wiped.map_err(|e| e.to_string())
        }
        _ => Ok(()),
    }
}

/// Nothing of what was in an array of this program's may show in the new one.
fn wipe_by(keeper: &mut Child, offset: u64, limit: Limit) -> Result<()> {
    keeper
        .ask::<Wipe>(&offset, limit)?
        .map_err(anyhow::Error::msg)
}

/// Wipes what is kept open, from this offset in bytes.
struct Wipe;

impl bounded::Task for Wipe {
    type Order = u64;
    type Outcome = Result<(), String>;

    fn perform(offset: u64) -> Result<(), String> {
        let kept = KEPT.get().ok_or("it is not open")?;
        wipe(kept, offset).map_err(|e| e.to_string())
    }
}

fn wipe(mut device: &File, offset: u64) -> io::Result<()> {
    let end = device.seek(SeekFrom::End(0))?;
    let length = BEGIN.min(end.saturating_sub(offset));
    device.write_all_at(&vec![0; length as usize], offset)?;
    device.sync_all()
}

/// `wipe` is called once nothing but mdadm itself can fail.
fn create(
    host: &Host,
    stripe: &Stripe,
    config: &Staging,
    array: u64,
    instead_of: &[String],
    wipe: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let mdadm = program::find(host, "mdadm").context("this system has no mdadm")?;
    let uuid = kernel_file::random_uuid().context("cannot draw a UUID")?;
    let uuid = uuid.replace('-', "");
    // A blank one is blank until it has a superblock.
    let written = stripe.parts().iter();
    let written = written.filter(|part| *part.was() != Was::Blank);
    let mut disks: Vec<(String, u64)> = Vec::new();
    for part in written {
        let name = sysfs::kernel_name(host, part.number()).unwrap_or_default();
        disks.push((name, part.size_bytes()));
    }
    Record::of(host, &uuid, instead_of, &disks)
        .write(host)
        .context("cannot write down that an array is being made")?;
    wipe()?;
    // An XFS has a log of at most 256 KiB a stripe.
    let chunk = match config.filesystem {
        Filesystem::Xfs => 256,
        _ => 512,
    };
    // Without this mdadm refuses disks that it sees something on: nobody answers its question.
    let run_it = match disks.is_empty() {
        true => "",
        false => " --run",
    };
    let options = format!(
        "--create /dev/md{array}{run_it} --level=0 --metadata=1.2 --homehost=any --chunk={chunk} --name={NAME} --uuid={uuid} --raid-devices={}",
        stripe.parts().len()
    );
    run(host, &mdadm, &options, stripe, config)
}

fn run(host: &Host, mdadm: &Path, options: &str, stripe: &Stripe, config: &Staging) -> Result<()> {
    let mut command = Command::new(mdadm);
    command.args(options.split(' '));
    for part in stripe.parts() {
        let node = part.node();
        if host.block_number(node) != Some(part.number()) {
            bail!("{} is another device now", node.display());
        }
        command.arg(node);
    }
    program::run_well(command, limit_of_all(host, stripe, config))
        .map_err(|error| name_those_that_hang(host, stripe, error))
        .with_context(|| format!("mdadm with {stripe}"))
}

fn assemble(host: &Host, stripe: &Stripe, config: &Staging, array: u64, uuid: &str) -> Result<()> {
    if let Some(mdadm) = program::find(host, "mdadm") {
        // A line of mdadm.conf may have the array left alone by udev.
        let options = format!("--assemble /dev/md{array} --config=none --uuid={uuid}");
        match run(host, &mdadm, &options, stripe, config) {
            Ok(()) => return Ok(()),
            Err(error) => info!("{error:#}; the kernel is asked itself"),
        }
    }
    let array = free_array(host).context("md has no free device")?;
    let numbers: Vec<Number> = stripe.parts().iter().map(Part::number).collect();
    let node = host.path(format!("/dev/md{array}"));
    in_child(limit_of_all(host, stripe, config), &|| {
        by_the_kernel(&node, array, &numbers).map_err(|e| e.to_string())
    })
    .map_err(|error| name_those_that_hang(host, stripe, error))
    .with_context(|| format!("the kernel cannot put {stripe} together"))
}

/// Opening a node of md's makes the device, and loads the driver.
fn by_the_kernel(node: &Path, array: u64, members: &[Number]) -> io::Result<()> {
    const MD: u64 = 9;
    let own = node.with_file_name(".vmstage-md");
    let _ = fs::remove_file(&own);
    mknod(
        &own,
        SFlag::S_IFBLK,
        Mode::S_IRUSR | Mode::S_IWUSR,
        makedev(MD, array),
    )?;
    let opened = File::options().read(true).write(true).open(&own);
    let done = opened.and_then(|device| kernel_calls::run_array(&device, members));
    // Where the kernel makes no nodes this is the one.
    match done.is_ok() && !node.exists() {
        true => fs::rename(&own, node)?,
        false => fs::remove_file(&own)?,
    }
    done
}

/// That the kernel has an array of these disks, and that it has a size.
fn see_that_it_runs(host: &Host, stripe: &Stripe) -> Result<()> {
    let mut array: Option<String> = None;
    for part in stripe.parts() {
        let name = sysfs::kernel_name(host, part.number()).unwrap_or_default();
        let mut holders = sysfs::holders(host, &name);
        holders.retain(|holder| holder.starts_with("md"));
        let holder = holders.pop();
        if holder.is_none() || array.is_some() && array != holder {
            bail!("the kernel does not show {stripe} as one disk");
        }
        array = holder;
    }
    let size = host
        .path("/sys/block")
        .join(array.unwrap_or_default())
        .join("size");
    match sysfs::attribute(&size).as_deref() {
        None | Some("0") => bail!("the kernel does not run the array of {stripe}"),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::host::tree::Tree;

    fn machine() -> (Tree, Host, Stripe) {
        let tree = Tree::new(&[("sys/block/md127/", ""), ("dev/", "")]);
        let host = tree.with_devices(&["nvme0n1", "nvme1n1"], None);
        let disk = |minor| Number { major: 252, minor };
        let stripe = Stripe::of_blank(&[("nvme0n1", disk(0)), ("nvme1n1", disk(1))]);
        (tree, host, stripe)
    }

    fn config(filesystem: Filesystem) -> Staging {
        Staging {
            filesystem,
            ..Staging::default()
        }
    }

    #[test]
    fn mdadm_makes_an_array_that_any_later_boot_finds_and_the_record_comes_first() {
        for (filesystem, chunk) in [(Filesystem::Ext4, 512), (Filesystem::Xfs, 256)] {
            let (tree, host, stripe) = machine();
            let record = tree.root().join("var/lib/vmstage/array.json");
            let said = tree.root().join("said");
            let script = format!(
                "cat {} >{0}.seen; echo \"$@\" >{}",
                record.display(),
                said.display()
            );
            tree.script("sbin/mdadm", &script);
            let array = free_array(&host).unwrap();
            let config = config(filesystem);
            let wipe = || {
                assert!(Record::read(&host).is_some());
                Ok(())
            };
            let before = ["before".into()];
            create(&host, &stripe, &config, array, &before, wipe).unwrap();
            let record = Record::read(&host).unwrap();
            assert!(record.is_of("before") && !record.is_staged);
            let expected = format!(
                "--create /dev/md126 --level=0 --metadata=1.2 --homehost=any --chunk={chunk} --name=ephemeral0 --uuid={} --raid-devices=2 /dev/nvme0n1 /dev/nvme1n1\n",
                record.uuid
            );
            assert_eq!(tree.text("said"), expected);
            let seen = tree.text("var/lib/vmstage/array.json.seen");
            assert!(seen.contains(&record.uuid));
            // Blank disks are looked at for zeros again.
            assert!(seen.contains(r#""members":[]"#), "{seen}");
        }
    }

    #[test]
    fn nothing_is_wiped_where_there_is_no_mdadm() {
        let (_tree, host, stripe) = machine();
        let wipe = || -> Result<()> { panic!("it was wiped") };
        let made = create(&host, &stripe, &config(Filesystem::Ext4), 1, &[], wipe).unwrap_err();
        assert_eq!(made.to_string(), "this system has no mdadm");
    }

    #[test]
    fn mdadm_is_not_run_where_a_node_is_another_device_now() {
        let (tree, host, _) = machine();
        tree.script("sbin/mdadm", "");
        let disk = |minor| Number { major: 252, minor };
        let stripe = Stripe::of_blank(&[("nvme0n1", disk(0)), ("nvme1n1", disk(7))]);
        let made =
            create(&host, &stripe, &config(Filesystem::Ext4), 1, &[], || Ok(())).unwrap_err();
        assert_eq!(made.to_string(), "/dev/nvme1n1 is another device now");
    }

    #[test]
    fn what_mdadm_says_is_told() {
        let (tree, host, stripe) = machine();
        tree.script("sbin/mdadm", "echo no such thing >&2; exit 1");
        let made =
            create(&host, &stripe, &config(Filesystem::Ext4), 1, &[], || Ok(())).unwrap_err();
        let said = format!("{made:#}");
        assert!(
            said.starts_with("mdadm with /dev/nvme0n1 and /dev/nvme1n1: failed"),
            "{said}"
        );
        assert!(said.ends_with("no such thing"), "{said}");
    }

    #[test]
    fn a_disk_that_mdadm_waits_for_in_vain_is_named() {
        let late = "was not done in time and was killed; /dev/nvme1n1 does not answer";
        for (in_flight, script, said) in [
            ("0", "sleep 1; exit 1", "failed (exit status: 1)"),
            ("1", "sleep 100; exit 1", late),
        ] {
            let (tree, host, stripe) = machine();
            let stat = tree.root().join("sys/block/nvme1n1/stat");
            fs::create_dir_all(stat.parent().unwrap()).unwrap();
            fs::write(&stat, format!("10 0 80 5 0 0 0 0 {in_flight} 4 5\n")).unwrap();
            tree.script("sbin/mdadm", script);
            let mut config = config(Filesystem::Ext4);
            config.device_timeout = Duration::from_millis(200);
            let start = Instant::now();
            let made = create(&host, &stripe, &config, 1, &[], || Ok(())).unwrap_err();
            let expected = format!("mdadm with /dev/nvme0n1 and /dev/nvme1n1: {said}");
            assert_eq!(format!("{made:#}"), expected);
            assert!(start.elapsed() < BY_MDADM / 2);
        }
    }

    #[test]
    fn an_array_that_runs_or_has_other_disks_is_not_stopped() {
        let (tree, host, stripe) = machine();
        let state = tree.root().join("sys/block/md127/md");
        fs::create_dir_all(&state).unwrap();
        fs::create_dir_all(tree.root().join("sys/block/md127/slaves/sdx")).unwrap();
        for (is, said) in [("clean", "it runs"), ("inactive", "it has /dev/sdx too")] {
            fs::write(state.join("array_state"), is).unwrap();
            let error = stop(&host, "md127", &stripe).unwrap_err();
            assert_eq!(format!("{error:#}"), format!("cannot stop it: {said}"));
        }
    }

    #[test]
    fn an_array_that_begins_to_run_while_it_is_to_be_stopped_is_left() {
        let (tree, host, stripe) = machine();
        let state = tree.root().join("sys/block/md127/md/array_state");
        fs::create_dir_all(state.parent().unwrap()).unwrap();
        fs::write(&state, "inactive").unwrap();
        // There is no node, so that each try fails.
        let later = std::thread::spawn(move || {
            std::thread::sleep(3 * RETRY);
            fs::write(&state, "clean").unwrap();
        });
        let error = stop(&host, "md127", &stripe).unwrap_err();
        later.join().unwrap();
        assert_eq!(format!("{error:#}"), "cannot stop it: it runs");
    }

    #[test]
    fn only_what_the_kernel_shows_as_one_disk_was_made() {
        let (tree, host, stripe) = machine();
        let hold = |disk: &str, by: &str| {
            let holder = format!("sys/block/{disk}/holders/{by}");
            fs::create_dir_all(tree.root().join(holder)).unwrap();
        };
        assert!(see_that_it_runs(&host, &stripe).is_err());
        hold("nvme0n1", "md127");
        assert!(see_that_it_runs(&host, &stripe).is_err());
        hold("nvme1n1", "md127");
        for (size, is_made) in [("0", false), ("253952", true)] {
            fs::write(tree.root().join("sys/block/md127/size"), size).unwrap();
            assert_eq!(see_that_it_runs(&host, &stripe).is_ok(), is_made, "{size}");
        }
    }

    #[test]
    fn what_was_in_an_array_does_not_show_in_the_next() {
        let tree = Tree::new(&[]);
        let path = tree.root().join("disk");
        fs::write(&path, vec![7u8; 3 << 20]).unwrap();
        let disk = File::options().read(true).write(true).open(&path).unwrap();
        wipe(&disk, 1 << 20).unwrap();
        let content = fs::read(&path).unwrap();
        let zeros = content.iter().position(|byte| *byte == 0);
        assert_eq!(zeros, Some(1 << 20));
        assert_eq!(content.iter().filter(|byte| **byte == 0).count(), 1 << 20);
        assert_eq!(content.len(), 3 << 20);
    }
}

//! A stand-in for a guest: a root file system and a `/dev` of its own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Gid, Uid, chroot, setgid, setgroups, setuid};
use serde_json::Value;

use super::loop_device::make_block_node;
use super::{
    Attach, Image, LoopDevice, Mount, Outcome, bind_socket, private_mounts, program, schema,
};

/// The user and group `condor` in a machine.
pub const CONDOR: (u32, u32) = (64, 65);
const NOBODY: u32 = 65534;

/// A run that takes longer hangs: `watch` begins its first round within a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// What is run in it sees the host's programs (read-only), processes and `/sys`, and
/// nothing else of the host: no device but those that it was given.
pub struct Machine {
    /// A tmpfs that only this test sees. `root` in it is the machine's `/`, and
    /// `beneath` the same file system without anything mounted on it.
    base: PathBuf,
    disks: RefCell<Vec<LoopDevice>>,
    mount_point: String,
    may_change: Vec<String>,
}

/// A disk of a machine.
pub struct Disk {
    pub number: (u64, u64),
    /// As the kernel calls it: `loop3`.
    pub kernel_name: String,
    pub partitions: Vec<(u64, u64)>,
    /// The file behind it.
    pub file: PathBuf,
}

impl Disk {
    /// The content of the disk, as a number that changes when it does.
    pub fn checksum(&self) -> u64 {
        Image::read(&self.file).checksum()
    }

    /// Cuts the medium off after so many bytes: reading beyond them is an I/O error.
    pub fn truncate(&self, bytes: u64) {
        let file = File::options().write(true).open(&self.file).unwrap();
        file.set_len(bytes).unwrap();
    }
}

impl Machine {
    /// With the root file system in memory, a `condor` user, and no disk.
    pub fn new() -> Machine {
        let mut machine = Machine::without_root();
        fs::create_dir(machine.path("/")).unwrap();
        mount_tmpfs(&machine.path("/"), "mode=755");
        machine.furnish();
        machine
    }

    /// With the root file system on this disk, or on its partition of that number,
    /// which counts from 1. No node for it is made.
    pub fn with_root_on(image: &Image, partition: Option<usize>) -> (Machine, Disk) {
        let mut machine = Machine::without_root();
        let how = Attach {
            partitions: partition.is_some(),
            ..Attach::default()
        };
        let disk = machine.attach(image, how);
        let number = partition.map_or(disk.number, |partition| disk.partitions[partition - 1]);
        let node = machine.base.join("root-device");
        make_block_node(&node, number).unwrap();
        fs::create_dir(machine.path("/")).unwrap();
        let nothing = MsFlags::empty();
        mount(
            Some(&node),
            &machine.path("/"),
            Some("ext4"),
            nothing,
            None::<&str>,
        )
        .expect("mount the root file system");
        machine.furnish();
        (machine, disk)
    }

    fn without_root() -> Machine {
        private_mounts();
        let base = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(&base).unwrap();
        mount_tmpfs(&base, "mode=755");
        fs::create_dir(base.join("images")).unwrap();
        Machine {
            base,
            disks: RefCell::default(),
            mount_point: "/staging".into(),
            may_change: Vec::new(),
        }
    }

    fn furnish(&mut self) {
        let beneath = self.base.join("beneath");
        fs::create_dir(&beneath).unwrap();
        bind(&self.path("/"), &beneath);

        for directory in [
            "dev", "etc", "home", "mnt", "proc", "root", "run", "sys", "tmp", "usr", "var",
            "var/lib", "var/log", "var/tmp",
        ] {
            fs::create_dir(self.path(directory)).unwrap();
        }
        symlink("../run", self.path("var/run")).unwrap();
        mount_tmpfs(&self.path("run"), "mode=755");
        self.furnish_programs();
        bind(Path::new("/proc"), &self.path("proc"));
        bind(Path::new("/sys"), &self.path("sys"));
        read_only(&self.path("sys"));
        self.furnish_dev();
        self.furnish_etc();
    }

    /// The host's programs and ours. An overlay, so that a test may take one away or
    /// put one there, and so that no device of the host is in the mount table.
    fn furnish_programs(&self) {
        let layers = ["usr-changes", "usr-work"].map(|name| self.base.join(name));
        for layer in &layers {
            fs::create_dir(layer).unwrap();
        }
        let [changes, work] = layers.each_ref().map(|layer| layer.display());
        let options = format!("lowerdir=/usr,upperdir={changes},workdir={work}");
        let (usr, nothing) = (self.path("usr"), MsFlags::empty());
        mount(
            Some("overlay"),
            &usr,
            Some("overlay"),
            nothing,
            Some(options.as_str()),
        )
        .expect("mount an overlay of /usr");
        for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
            let on_host = Path::new("/").join(name);
            match fs::read_link(&on_host) {
                Ok(target) => symlink(target, self.path(name)).unwrap(),
                Err(_) if on_host.is_dir() => {
                    fs::create_dir(self.path(name)).unwrap();
                    bind(&on_host, &self.path(name));
                    read_only(&self.path(name));
                }
                Err(_) => {}
            }
        }
        // The host may have one of its own.
        let installed = self.path("usr/sbin/vmstage");
        let _ = fs::remove_file(&installed);
        // By another process: if this one had it open for writing, a child that another
        // thread is starting would have so too, and running it fail ("text file busy").
        let copied = Command::new("cp").arg(program()).arg(installed).status();
        assert!(
            copied.unwrap().success(),
            "cannot copy the program under test"
        );
    }

    fn furnish_dev(&self) {
        mount_tmpfs(&self.path("dev"), "mode=755");
        for (name, minor) in [("null", 3), ("zero", 5), ("full", 7), ("urandom", 9)] {
            let node = self.path("dev").join(name);
            let number = makedev(1, minor);
            mknod(&node, SFlag::S_IFCHR, Mode::empty(), number).unwrap();
            fs::set_permissions(&node, Permissions::from_mode(0o666)).unwrap();
        }
        // A file, so that it can be read back.
        fs::write(self.path("dev/console"), "").unwrap();
        fs::create_dir_all(self.path("dev/disk/by-label")).unwrap();
    }

    fn furnish_etc(&mut self) {
        let (uid, gid) = CONDOR;
        let files = [
            (
                "passwd",
                format!(
                    "root:x:0:0:root:/root:/bin/sh\n\
                     condor:x:{uid}:{gid}:HTCondor:/:/bin/false\n\
                     nobody:x:{NOBODY}:{NOBODY}:nobody:/:/bin/false\n"
                ),
            ),
            (
                "group",
                format!("root:x:0:\ncondor:x:{gid}:\nnogroup:x:{NOBODY}:\n"),
            ),
            ("nsswitch.conf", "passwd: files\ngroup: files\n".into()),
        ];
        for (name, text) in files {
            fs::write(self.path("etc").join(name), text).unwrap();
        }
        symlink("../proc/self/mounts", self.path("etc/mtab")).unwrap();
        self.configure("");
    }

    /// Where on the host a path of the machine is found.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let relative = path.strip_prefix("/").unwrap_or(path);
        self.base.join("root").join(relative)
    }

    /// Writes `/etc/vmstage.toml`. What it does not say about waiting for a disk and
    /// about metadata is set to neither waiting nor asking.
    pub fn configure(&mut self, text: &str) {
        let mut text = text.to_string();
        if let Ok(parsed) = text.parse::<toml::Table>() {
            let staging = parsed.get("staging").and_then(|section| section.as_table());
            if staging.is_none() {
                text += "\n[staging]\nwait = \"0s\"\n";
            } else if staging.is_some_and(|section| !section.contains_key("wait")) {
                text = text.replacen("[staging]", "[staging]\nwait = \"0s\"", 1);
            }
            if !parsed.contains_key("metadata") {
                text += "\n[metadata]\nsources = []\n";
            }
            self.mount_point = staging
                .and_then(|section| section.get("mount_point")?.as_str())
                .unwrap_or("/staging")
                .to_string();
        }
        fs::write(self.path("etc/vmstage.toml"), text).unwrap();
    }

    /// A run of the program may change this path of the root file system, and what is
    /// below it.
    pub fn may_change(&mut self, path: &str) {
        self.may_change
            .push(path.trim_start_matches('/').to_string());
    }

    /// Attaches a disk and names it `/dev/<name>`.
    pub fn disk(&self, name: &str, image: &Image) -> Disk {
        let disk = self.attach(image, Attach::default());
        self.name(name, disk.number);
        disk
    }

    pub fn read_only_disk(&self, name: &str, image: &Image) -> Disk {
        let how = Attach {
            read_only: true,
            ..Attach::default()
        };
        let disk = self.attach(image, how);
        self.name(name, disk.number);
        disk
    }

    /// Attaches a disk of which the kernel knows the partitions, `/dev/<name>1` and on.
    pub fn partitioned_disk(&self, name: &str, image: &Image) -> Disk {
        let how = Attach {
            partitions: true,
            ..Attach::default()
        };
        let disk = self.attach(image, how);
        self.name(name, disk.number);
        for (index, number) in disk.partitions.iter().enumerate() {
            self.name(&format!("{name}{}", index + 1), *number);
        }
        disk
    }

    /// Has the kernel say other things of a disk than are true of it: what the script makes
    /// takes the place of its directory in `/sys`.
    pub fn pretend(&self, disk: &Disk, script: &str) {
        let directory = format!("/sys/block/{}", disk.kernel_name);
        self.sh(&format!(
            "mount -t tmpfs sysfs {directory}; cd {directory}; {script}"
        ));
    }

    /// Attaches a disk that has no name yet.
    pub fn attach(&self, image: &Image, how: Attach) -> Disk {
        let file = self
            .base
            .join(format!("images/{}", self.disks.borrow().len()));
        image.write(&file);
        let device = LoopDevice::attach(&file, how, &self.base).expect("attach a loop device");
        let partitions = if how.partitions {
            device.partitions(&self.base)
        } else {
            Vec::new()
        };
        let disk = Disk {
            number: device.number,
            kernel_name: device.name.clone(),
            partitions,
            file,
        };
        self.disks.borrow_mut().push(device);
        disk
    }

    /// Makes the node `/dev/<name>` of the block device with this number.
    pub fn name(&self, name: &str, number: (u64, u64)) {
        make_block_node(&self.path("dev").join(name), number).unwrap();
    }

    /// Hears what goes to `/dev/log`.
    pub fn syslog(&self) -> UnixDatagram {
        let socket = bind_socket(&self.path("dev"), "log");
        fs::set_permissions(self.path("dev/log"), Permissions::from_mode(0o666)).unwrap();
        socket
    }

    /// Runs a shell script in the machine and returns what it prints; it must succeed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        let output = self.try_sh(script);
        assert!(output.status.success(), "{script:?} failed: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn try_sh(&self, script: &str) -> Output {
        let mut command = self.command("/bin/sh", None);
        command.args(["-euc", script]).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// Puts a file system's content in place, as a used disk has it.
    #[track_caller]
    pub fn prepare(&self, device: &str, script: &str) {
        self.sh(&format!(
            "mount {device} /mnt; cd /mnt; {script}\ncd /; umount /mnt"
        ));
    }

    /// `vmstage boot` from beginning to end.
    #[track_caller]
    pub fn boot(&self) -> Outcome {
        self.run(&["boot"])
    }

    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.start(arguments).wait()
    }

    /// Runs the program as a user who may nothing.
    #[track_caller]
    pub fn run_as_nobody(&self, arguments: &[&str]) -> Outcome {
        let mut command = self.command("/usr/sbin/vmstage", Some(NOBODY));
        command.args(arguments);
        self.start_command(command).wait()
    }

    #[track_caller]
    pub fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
        let mut command = self.command("/usr/sbin/vmstage", None);
        command.args(arguments).envs(variables.iter().copied());
        self.start_command(command).wait()
    }

    /// Starts the program and does not wait for it.
    pub fn start(&self, arguments: &[&str]) -> Running<'_> {
        let mut command = self.command("/usr/sbin/vmstage", None);
        command.args(arguments);
        self.start_command(command)
    }

    /// A command that will run in the machine, with an environment as init gives it.
    pub fn command(&self, program: &str, user: Option<u32>) -> Command {
        let root = self.path("/");
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C");
        let enter = move || {
            chroot(&root)?;
            std::env::set_current_dir("/")?;
            if let Some(user) = user {
                setgroups(&[])?;
                setgid(Gid::from_raw(user))?;
                setuid(Uid::from_raw(user))?;
            }
            Ok(())
        };
        // SAFETY: system calls only, and no lock is taken.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Starts a command of [`Machine::command`] as a run of the program.
    pub fn start_command(&self, mut command: Command) -> Running<'_> {
        let arguments: Vec<String> = command
            .get_args()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect();
        let is_boot = arguments.iter().any(|argument| argument.ends_with("boot"));
        let outputs = ["stdout", "stderr"].map(|name| {
            let started = SERIAL.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.base.join(format!("{name}-{started}"))
        });
        let console = self.path("dev/console");
        if fs::symlink_metadata(&console).is_ok_and(|file| file.is_file()) {
            fs::write(&console, "").unwrap();
        }
        let before = self.root_tree();
        let started = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&outputs[0]).unwrap())
            .stderr(File::create(&outputs[1]).unwrap())
            .spawn()
            .expect("start the program");
        Running {
            machine: self,
            child,
            arguments,
            outputs,
            before,
            is_boot,
            started,
        }
    }

    /// The mount table as a process in the machine sees it.
    pub fn mounts(&self) -> Vec<Mount> {
        let root = self.base.join("root");
        let root = root.to_str().unwrap();
        let table = fs::read_to_string("/proc/thread-self/mounts").unwrap();
        let mounts = table.lines().filter_map(|line| {
            let fields: Vec<_> = line.split(' ').map(unescape).collect();
            let point = fields[1].strip_prefix(root)?;
            Some(Mount {
                device: fields[0].clone(),
                point: if point.is_empty() { "/" } else { point }.to_string(),
                filesystem: fields[2].clone(),
                options: fields[3].clone(),
            })
        });
        mounts.collect()
    }

    /// Everything on the root file system itself, whatever is mounted over it.
    pub fn root_tree(&self) -> Tree {
        Tree::of(&self.base.join("beneath"))
    }

    /// Makes the root file system read-only, as a rescue system has it.
    pub fn make_root_read_only(&self) {
        read_only(&self.path("/"));
    }

    /// Takes `/run` away, as systems from before 2011 have none.
    pub fn without_run(&self) {
        umount(&self.path("run")).unwrap();
        fs::remove_dir(self.path("run")).unwrap();
        fs::remove_file(self.path("var/run")).unwrap();
        fs::create_dir(self.path("var/run")).unwrap();
    }

    /// Whether the kernel mounts what is on this device, going by mount(8).
    pub fn kernel_mounts(&self, device: &str) -> bool {
        let mounted = self.try_sh(&format!("mount {device} /mnt && umount /mnt"));
        mounted.status.success()
    }

    fn status_file(&self) -> Option<Value> {
        let run = ["run", "var/run"].map(|run| self.path(run).join("vmstage/status.json"));
        let text = run.iter().find_map(|path| fs::read_to_string(path).ok())?;
        Some(serde_json::from_str(&text).expect("the status file is JSON"))
    }

    /// What a run may not have done to the root file system.
    fn trespasses(&self, before: &Tree, boot_code: Option<i32>) -> Vec<String> {
        let staged = matches!(boot_code, Some(0 | 5));
        let mount_point = self.mount_point.trim_start_matches('/');
        let allowed = |path: &str, after: Option<&str>, before: Option<&str>| {
            let below = |place: &str| {
                path.strip_prefix(place)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            if self.may_change.iter().any(|place| below(place)) {
                return true;
            }
            let is_made = before.is_none() && after.is_some_and(|entry| entry.starts_with("dir "));
            let leads_to_mount_point = Path::new(mount_point).starts_with(path);
            boot_code.is_some() && (below("run/vmstage") || below("var/run/vmstage"))
                || staged
                    && path == "etc/mtab"
                    && before.is_some_and(|was| was.starts_with("file "))
                || staged && is_made && leads_to_mount_point
                // What batch jobs are told, whatever became of the boot.
                || boot_code.is_some()
                    && ["etc/machinefeatures", "etc/jobfeatures", "run/motd.d"].into_iter().any(below)
                // What that was is recorded.
                || boot_code.is_some()
                    && (below("var/lib/vmstage/published") || is_made && path == "var/lib/vmstage")
                // When the machine was first booted is kept there, and never changed.
                || boot_code == Some(0) && before.is_none() && below("var/lib/vmstage")
        };
        self.root_tree().changes_since(before, allowed)
    }
}

impl Drop for Machine {
    /// A claim may look at several machines, one after the other.
    fn drop(&mut self) {
        let _ = umount2(&self.base, MntFlags::MNT_DETACH);
    }
}

static SERIAL: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// The program, running.
pub struct Running<'a> {
    machine: &'a Machine,
    child: Child,
    arguments: Vec<String>,
    outputs: [PathBuf; 2],
    before: Tree,
    is_boot: bool,
    started: Instant,
}

impl Running<'_> {
    pub fn process(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for its end, and makes sure that it left nothing on the root file system
    /// that has no business there.
    #[track_caller]
    pub fn wait(mut self) -> Outcome {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if self.started.elapsed() > PATIENCE {
                self.child.kill().unwrap();
            }
            thread::sleep(Duration::from_millis(1));
        };
        let took = self.started.elapsed();
        let [stdout, stderr] = self.outputs.each_ref().map(|path| {
            let text = fs::read(path).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        if let Some(signal) = status.signal() {
            panic!("ended by signal {signal} after {took:?}\n{stdout}{stderr}");
        }
        let machine = self.machine;
        let console = machine.path("dev/console");
        let is_file = fs::symlink_metadata(&console).is_ok_and(|file| file.is_file());
        let outcome = Outcome {
            code: status.code().unwrap(),
            stdout,
            stderr,
            console: if is_file {
                fs::read_to_string(&console).unwrap()
            } else {
                String::new()
            },
            status: machine.status_file(),
            mounts: machine.mounts(),
            took,
            mount_point: machine.mount_point.clone(),
        };
        let words: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        schema::look_at(&words, &outcome.stdout);
        let own = |status: &&Value| status["version"] == env!("CARGO_PKG_VERSION");
        if let Some(status) = outcome.status.as_ref().filter(own).filter(|_| self.is_boot) {
            schema::conforms("status", status);
        }
        let boot_code = self.is_boot.then_some(outcome.code);
        let trespasses = machine.trespasses(&self.before, boot_code);
        assert!(
            trespasses.is_empty(),
            "the root file system was changed: {trespasses:#?}\n{outcome}"
        );
        outcome
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // One that has ended already is none to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every file below a directory, on its file system only: kind, mode, owner, content.
#[derive(Clone, PartialEq, Debug)]
pub struct Tree(BTreeMap<String, String>);

impl Tree {
    pub fn of(directory: &Path) -> Tree {
        let mut entries = BTreeMap::new();
        let device = fs::symlink_metadata(directory).unwrap().dev();
        let mut waiting = vec![directory.to_path_buf()];
        while let Some(parent) = waiting.pop() {
            for entry in fs::read_dir(&parent).unwrap() {
                let path = entry.unwrap().path();
                let metadata = fs::symlink_metadata(&path).unwrap();
                if metadata.dev() != device {
                    continue;
                }
                let relative = path.strip_prefix(directory).unwrap();
                entries.insert(relative.display().to_string(), described(&path, &metadata));
                if metadata.is_dir() {
                    waiting.push(path);
                }
            }
        }
        Tree(entries)
    }

    /// Path, kind, mode and owner of each entry.
    pub fn without_content(&self) -> impl Iterator<Item = (&str, String)> {
        self.0.iter().map(|(path, entry)| {
            let parts = entry.split_once(" (").zip(entry.split_once(") "));
            let entry = match parts {
                Some(((kind, _), (_, mode))) => format!("{kind} {mode}"),
                None => entry.clone(),
            };
            (path.as_str(), entry)
        })
    }

    /// One line for each entry that came, went or changed and is not allowed to.
    fn changes_since(
        &self,
        before: &Tree,
        allowed: impl Fn(&str, Option<&str>, Option<&str>) -> bool,
    ) -> Vec<String> {
        let paths: std::collections::BTreeSet<_> = before.0.keys().chain(self.0.keys()).collect();
        let changes = paths.into_iter().filter_map(|path| {
            let now = self.0.get(path).map(String::as_str);
            let then = before.0.get(path).map(String::as_str);
            let changed = now != then && !allowed(path, now, then);
            changed.then(|| format!("/{path}: was {then:?}, is {now:?}"))
        });
        changes.collect()
    }
}

fn described(path: &Path, metadata: &fs::Metadata) -> String {
    let kind = metadata.file_type();
    let what = if kind.is_dir() {
        "dir".to_string()
    } else if kind.is_symlink() {
        format!("link to {}", fs::read_link(path).unwrap().display())
    } else if kind.is_file() {
        let content = fs::read(path).unwrap();
        format!("file ({} bytes, {:x})", content.len(), checksum(&content))
    } else if kind.is_fifo() {
        "fifo".to_string()
    } else {
        format!("device {:x}", metadata.rdev())
    };
    let mode = metadata.mode() & 0o7777;
    format!("{what} {mode:04o} {}:{}", metadata.uid(), metadata.gid())
}

fn checksum(content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

/// A field of the mount table: `\040` stands for a space.
fn unescape(field: &str) -> String {
    let bytes = field.as_bytes();
    let mut text = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let octal = (bytes[at] == b'\\').then(|| field.get(at + 1..at + 4));
        match octal.flatten().map(|digits| u8::from_str_radix(digits, 8)) {
            Some(Ok(byte)) => {
                text.push(byte);
                at += 4;
            }
            _ => {
                text.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(text).unwrap()
}

fn mount_tmpfs(on: &Path, options: &str) {
    let nothing = MsFlags::empty();
    mount(Some("tmpfs"), on, Some("tmpfs"), nothing, Some(options)).expect("mount a tmpfs");
}

fn bind(from: &Path, to: &Path) {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("bind");
}

fn read_only(mount_point: &Path) {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, mount_point, None::<&str>, flags, None::<&str>).expect("remount read-only");
}

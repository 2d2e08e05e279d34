//! Nothing outside of the image is ever written: all commands, under an overlay of `/`.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::unistd::chroot;
use std::os::unix::process::CommandExt;

use super::old::{EVERY_INIT, Image, Init, listing};
use crate::common::{copy_program, private_mounts, program, scratch_file, skip};

claims![
    no_command_writes_outside_of_the_image,
    a_write_to_this_machine_would_be_seen,
];

/// A root directory that is this machine's, but keeps what is written to it elsewhere.
pub struct Overlay {
    pub merged: std::path::PathBuf,
    written: std::path::PathBuf,
}

impl Overlay {
    /// Copies an image into it.
    pub fn take(&self, image: &Image) -> std::path::PathBuf {
        let place = self.merged.join("image");
        let mut copy = Command::new("cp");
        let copied = copy.arg("-a").arg(image.root()).arg(&place).status();
        assert!(copied.unwrap().success());
        place
    }

    pub fn new() -> Overlay {
        private_mounts();
        let base = scratch_file();
        fs::create_dir(&base).unwrap();
        mount(
            Some("tmpfs"),
            &base,
            Some("tmpfs"),
            MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
        let [merged, written, work] = ["merged", "written", "work"].map(|name| base.join(name));
        for directory in [&merged, &written, &work] {
            fs::create_dir(directory).unwrap();
        }
        let options = format!(
            "lowerdir=/,upperdir={},workdir={}",
            written.display(),
            work.display()
        );
        let mounted = mount(
            Some("overlay"),
            &merged,
            Some("overlay"),
            MsFlags::empty(),
            Some(&*options),
        );
        if let Err(e) = mounted {
            skip(&format!("no overlay of / can be mounted here: {e}"));
        }
        let proc = merged.join("proc");
        mount(
            Some("proc"),
            &proc,
            Some("proc"),
            MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
        Overlay { merged, written }
    }

    /// Runs a command in it.
    pub fn run(&self, program: &Path, arguments: &[&str]) -> String {
        let merged = self.merged.clone();
        let mut command = Command::new(program);
        command.args(arguments).current_dir("/");
        // SAFETY: system calls only.
        unsafe {
            command.pre_exec(move || {
                chroot(&merged)?;
                std::env::set_current_dir("/")
            })
        };
        let output = command.output().unwrap();
        format!("{output:?}")
    }

    /// What was written outside of the directory `/image`.
    pub fn written(&self) -> Vec<String> {
        let written = listing(&self.written);
        let is_outside = |path: &&String| path.as_str() != "/image" && !path.starts_with("/image/");
        written.keys().filter(is_outside).cloned().collect()
    }
}

fn no_command_writes_outside_of_the_image() {
    let overlay = Overlay::new();
    copy_program(&program(), &overlay.merged.join("vmstage"));
    let before = overlay.written();
    for init in EVERY_INIT {
        let old = Image::old(init);
        let image = overlay.take(&old);
        for command in [
            &["install", "--dry-run", "--replace-old"][..],
            &["install", "--replace-old"],
            &["install", "--force", "--init", "sysv"],
            &["install", "--force", "--init", "systemd"],
            &["uninstall", "--keep-files"],
            &["uninstall", "--dry-run"],
            &["uninstall"],
        ] {
            let arguments = [command, &["--root", "/image"]].concat();
            let said = overlay.run(Path::new("/vmstage"), &arguments);
            // Where nobody knows how to enable it, the files are there and the exit code is 1.
            let codes: &[i32] = match (command[0], old.init) {
                ("install", _) if command.contains(&"--init") => &[0, 1],
                ("install", Init::Busybox) => &[1],
                _ => &[0],
            };
            let is_one = |code: &i32| said.contains(&format!("unix_wait_status({})", code << 8));
            assert!(codes.iter().any(is_one), "{arguments:?}: {said}");
            assert_eq!(overlay.written(), before, "{arguments:?}: {said}");
        }
        fs::remove_dir_all(image).unwrap();
    }
}

fn a_write_to_this_machine_would_be_seen() {
    let overlay = Overlay::new();
    overlay.run(Path::new("/bin/sh"), &["-c", "echo x >/etc/vmstage-test"]);
    assert!(overlay.written().contains(&"/etc/vmstage-test".to_string()));
    assert!(!Path::new("/etc/vmstage-test").exists());
}

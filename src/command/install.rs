//! `vmstage install` and `vmstage uninstall`: the image's maintainer, anywhere.

use std::path::Path;

use anyhow::{Context, anyhow};
use log::warn;
use nix::unistd::geteuid;

use super::image::{not_looked_at, runs, wrong_configuration};
use crate::cli::{self, InitOption, InstallArgs, UninstallArgs};
use crate::config::Config;
use crate::failure::Failure;
use crate::host::regular_file::{self, MIB};
use crate::host::silent::{self, Expected};
use crate::host::{Host, mount_table};
use crate::image::enabling::Enabling;
use crate::image::init::{Init, has_no_program, missing_program};
use crate::image::install::{self, Wish};
use crate::image::root::Root;
use crate::image::step::{Step, Steps};
use crate::image::{check, files, packages, published, replace, running, uninstall};
use crate::report::condor;

/// No binary is larger.
const LARGEST_BINARY: u64 = 64 * MIB;

const OWN_PROGRAM: &str = "/proc/self/exe";

/// Puts vmstage into an image, and enables it for the next boot.
///
/// # Errors
///
/// What stands in the way, and what to do.
#[inline(never)]
pub fn install(host: &Host, arguments: &InstallArgs) -> Result<u8, Failure> {
    let work = Work::begin(host, &arguments.root, arguments.dry_run, "install")?;
    let root = &work.root;
    let config = match files::configuration(root) {
        Ok(config) => config,
        // Where the mount point is, is not known, and with it what is old.
        Err(wrong) if arguments.replace_old => return Err(wrong_configuration(root, &wrong)),
        Err(wrong) => {
            warn!("the image's configuration is wrong, and stays as it is: {wrong}");
            Config::default()
        }
    };
    let init = Init::of(root, arguments.init);
    let wish = match arguments.enable_only {
        true => None,
        false => Some(wish(arguments)?),
    };
    let done = put_into(&work, arguments, wish, &config, init);
    work.end()?;
    if !arguments.dry_run {
        let findings = check::findings(root, runs(root, host), init);
        cli::print(&check::lines(&findings))?;
    }
    let own = Init::of(root, None);
    if done.is_ok() && arguments.init.is_some() && own != init {
        work.say(&format!(
            "--init says {}, /sbin/init says {}: `vmstage check` goes by /sbin/init",
            init.name(),
            own.name()
        ))?;
    }
    done?;
    match not_looked_at(root, config.staging.mount_point.as_path()).first() {
        Some(silent) if arguments.replace_old => Err(Failure::Other(anyhow!(
            "not all of what staged the disk before may be taken out: {silent}"
        ))),
        _ => Ok(0),
    }
}

fn put_into(
    work: &Work,
    arguments: &InstallArgs,
    wish: Option<Wish>,
    config: &Config,
    init: Init,
) -> Result<(), Failure> {
    let root = &work.root;
    let mount_point = config.staging.mount_point.as_path();
    let mut steps = match wish {
        None => {
            install::may_enable(root, init)?;
            Vec::new()
        }
        Some(wish) => {
            install::may_begin(root, &wish)?;
            install::file_steps(root, init, wish.binary, mount_point)?
        }
    };
    work.say(&format!("init: {}", init.name()))?;
    if let Some(path) = missing_program(root) {
        work.say(&format!(
            "/sbin/init leads to {}, which is not there: a /usr of its own has to be mounted, for \
             what belongs there",
            path.display()
        ))?;
    }
    let has_init = !has_no_program(root);
    if !has_init && init != Init::Unknown {
        work.say(&format!(
            "there is no /sbin/init in {}: by its directories its init is {}, until there is one \
             nothing boots it, and with another one vmstage has to be installed again",
            root.path().display(),
            init.name()
        ))?;
    }
    if let (true, Some(path)) = (arguments.enable_only, files::missing_drop_in(root, init)) {
        work.say(&format!(
            "there is no {path}, so that HTCondor, if it comes into this system, does not wait for \
             the scratch disk: install without --enable-only, or the package again"
        ))?;
    }
    if steps.is_empty() && !arguments.enable_only {
        work.say("all files of vmstage are in place already")?;
    }
    let files = match arguments.dry_run && !steps.is_empty() {
        true => "would be in place, but it would not be",
        false => "are in place, but it is not",
    };
    if arguments.replace_old {
        steps.extend(replacement(work, arguments, init, mount_point)?);
    }
    let mut later = Vec::new();
    if let Enabling::Steps(enabling) = install::enabling(root, init, mount_point)? {
        later = enabling;
    }
    // What a package has enabled, its removal undoes.
    let list = match arguments.enable_only {
        true => install::list(root, files::REPLACED.as_ref(), steps.iter()),
        false => install::list(
            root,
            files::DIRECTORIES.as_ref(),
            steps.iter().chain(&later),
        ),
    };
    work.carry_out(list?.into_iter().chain(steps).collect())?;
    // Looked at anew: of what is to be changed, something has been changed.
    let enabling = install::enabling(root, init, mount_point)?;
    let said = match enabling {
        Enabling::Steps(steps) => {
            work.carry_out(steps)?;
            match has_init {
                true => "vmstage starts at the next boot".to_string(),
                false => format!("vmstage starts where {} boots this", init.name()),
            }
        }
        Enabling::ByCommands { path, number } => format!(
            "{}:{number} starts vmstage already, so that it is not enabled a second time",
            path.display()
        ),
        Enabling::NoInit if arguments.enable_only && arguments.init != Some(InitOption::None) => {
            return Err(Failure::Other(anyhow!(
                "what starts services in {} is not known, so that nothing starts vmstage: \
                 {}/rc.local.sl shows what has to be run; where it is known after all, say --init",
                root.path().display(),
                files::DOCUMENTATION
            )));
        }
        Enabling::NoInit => {
            work.say(BY_HAND)?;
            // Whoever says that there is none enables it by hand.
            if arguments.init == Some(InitOption::None) {
                return Ok(());
            }
            return Err(Failure::Other(anyhow!(
                "the files of vmstage {files} enabled: what starts services in {} is not known; \
                 --init none asks for the files alone",
                root.path().display()
            )));
        }
        Enabling::NotByUs(reason) => {
            return Err(Failure::Other(anyhow!(
                "the files of vmstage {files} enabled: {reason}"
            )));
        }
    };
    work.say(&said)
}

/// What takes out what was there before: nothing where vmstage cannot be enabled in its place.
fn replacement(
    work: &Work,
    arguments: &InstallArgs,
    init: Init,
    mount_point: &Path,
) -> Result<Vec<Step>, Failure> {
    let stays = match install::enabling(&work.root, init, mount_point)? {
        Enabling::Steps(_) | Enabling::ByCommands { .. } => None,
        // Whoever says that there is none enables it by hand.
        Enabling::NoInit if arguments.init == Some(InitOption::None) => None,
        Enabling::NoInit => Some(
            "nothing would stage it then: once the boot runs vmstage, as is said below, run the same \
             again, which takes it out; --init=none does so now",
        ),
        Enabling::NotByUs(_) => Some("vmstage cannot be enabled in its place"),
    };
    if let Some(why) = stays {
        work.say(&format!(
            "what staged the disk before stays as it is, for {why}"
        ))?;
        return Ok(Vec::new());
    }
    let replacement = replace::steps(&work.root, init, mount_point)?;
    for line in &replacement.said {
        work.say(line)?;
    }
    Ok(replacement.steps)
}

fn wish(arguments: &InstallArgs) -> Result<Wish, Failure> {
    let binary = arguments.binary.as_deref();
    let path = binary.unwrap_or(OWN_PROGRAM.as_ref());
    Ok(Wish {
        binary: regular_file::read(path, LARGEST_BINARY)
            .with_context(|| format!("cannot read the program {}", path.display()))
            .with_context(|| match binary {
                Some(_) => "nothing is installed",
                None => "nothing is installed: without /proc, say with --binary what is to be",
            })?,
        is_chosen: binary.is_some(),
        force: arguments.force,
    })
}

const BY_HAND: &str = "\
what starts services there is not known, so that nothing starts vmstage: have the script that
runs at boot (with busybox, the one in the line ::sysinit: of /etc/inittab) run, before HTCondor,
  /usr/sbin/vmstage boot
  setsid /usr/sbin/vmstage watch </dev/null >/dev/null 2>&1 &
/usr/share/doc/vmstage/rc.local.sl has these lines with what belongs around them; where it is
known after all, say --init";

/// Takes vmstage out of an image.
///
/// # Errors
///
/// What stands in the way, and what to do.
#[inline(never)]
pub fn uninstall(host: &Host, arguments: &UninstallArgs) -> Result<u8, Failure> {
    let work = Work::begin(host, &arguments.root, arguments.dry_run, "uninstall")?;
    let root = &work.root;
    let leaves_files = arguments.keep_files || arguments.force;
    if let (Some(manager), false) = (packages::owner(root)?, leaves_files) {
        return Err(Failure::Other(anyhow!(
            "{} has vmstage as a package in {}: remove that, or say --force",
            manager.name(),
            root.path().display()
        )));
    }
    let config = files::configuration(root).unwrap_or_else(|wrong| {
        warn!("the defaults are taken for the image's configuration, which is wrong: {wrong}");
        Config::default()
    });
    let runs = root.is_own() && running::is_of_init(host);
    // Before anything else: they would publish again what is taken back.
    let mut no_boot = None;
    if runs && !arguments.dry_run {
        let (watches, none) = running::quiet(host, &config)?;
        if watches > 0 {
            work.say("vmstage watch is stopped")?;
        }
        no_boot = Some(none);
    }
    let plan = match arguments.keep_files {
        true => uninstall::Plan {
            steps: published::to_take_back(root, &config),
            ..uninstall::Plan::default()
        },
        false => uninstall::plan(root, &config),
    };
    let Steps { steps, mut failed } = plan.steps;
    let drop_in = steps.first().is_some_and(Step::is_of_htcondor);
    let is_there = !steps.is_empty() || !plan.last.is_empty();
    // Another run needs what is written down.
    let not_done = work.carry_out_each(steps)?;
    if not_done.is_empty() {
        work.carry_out(plan.last)?;
    }
    failed.extend(not_done);
    failed.extend(not_looked_at(root, config.staging.mount_point.as_path()));
    for line in plan.left {
        work.say(&line)?;
    }
    work.end()?;
    drop(no_boot);
    if runs && drop_in && !arguments.dry_run {
        condor::read_again(host)?;
    }
    if runs && host.has_systemd() {
        work.say("systemd forgets the units with: systemctl daemon-reload")?;
    }
    if runs {
        work.say(&still_mounted(host, config.staging.mount_point.as_path()))?;
    }
    for why in &failed {
        work.say(&format!("failed: {why}"))?;
    }
    match failed.first() {
        None if arguments.keep_files || arguments.dry_run => Ok(0),
        None => {
            let what = if is_there {
                "vmstage is taken out of"
            } else {
                "vmstage is not in"
            };
            work.say(&format!("{what} {}", root.path().display()))?;
            Ok(0)
        }
        Some(first) => Err(Failure::Other(anyhow!(
            "not all is done ({} failed): {first}; put that right and run again, the rest will be",
            failed.len()
        ))),
    }
}

/// What goes on in a system that runs.
fn still_mounted(host: &Host, mount_point: &Path) -> String {
    let mounts = mount_table::read(host).unwrap_or_default();
    let shown = mount_point.display();
    match mount_table::on(&mounts, mount_point) {
        Some(mount) => format!(
            "{} stays mounted on {shown} until this machine goes down; nothing will mount it again",
            mount.source.display()
        ),
        None => format!("nothing is mounted on {shown}"),
    }
}

/// The work in one image.
struct Work {
    root: Root,
    is_rehearsal: bool,
}

impl Work {
    fn begin(host: &Host, root: &Path, is_rehearsal: bool, command: &str) -> Result<Work, Failure> {
        silent::expect(host, Expected::BesideTheRoot);
        let root = Root::open(root)?;
        if root.is_own() && !is_rehearsal && !geteuid().is_root() {
            return Err(Failure::Other(anyhow!(
                "{command} --root / must be run as root"
            )));
        }
        if !is_rehearsal {
            root.lock()?;
        }
        Ok(Work { root, is_rehearsal })
    }

    fn say(&self, text: &str) -> Result<(), Failure> {
        Ok(cli::print(&format!("{text}\n"))?)
    }

    /// Carries steps out, or shows what would be done.
    fn carry_out(&self, steps: Vec<Step>) -> Result<(), Failure> {
        for step in steps {
            if !self.is_rehearsal {
                step.carry_out(&self.root)
                    .context("not all is done; run again, the rest will be")?;
            }
            self.say(&step.to_string())?;
        }
        Ok(())
    }

    /// Likewise, each of them whatever became of the others; why one could not be, in sentences.
    fn carry_out_each(&self, steps: Vec<Step>) -> Result<Vec<String>, Failure> {
        let mut failed = Vec::new();
        for step in steps {
            match self.is_rehearsal {
                true => self.say(&step.to_string())?,
                false => match step.carry_out(&self.root) {
                    Ok(_) => self.say(&step.to_string())?,
                    Err(e) => failed.push(format!("{e:#}")),
                },
            }
        }
        Ok(failed)
    }

    fn end(&self) -> Result<(), Failure> {
        match self.is_rehearsal {
            true => self.say("nothing was changed: this was --dry-run"),
            false => Ok(self.root.sync()?),
        }
    }
}

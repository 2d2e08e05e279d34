//! The man pages and the shell completions, made from the command line's definition and the
//! configuration that is shipped.

pub mod settings;

use std::io;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

const FILES: &[(&str, &str)] = &[
    (
        "/etc/vmstage.toml",
        "The configuration, which may be missing: vmstage.toml(5).",
    ),
    (
        "/run/vmstage/status.json",
        "What became of this boot. Where there is no /run, it is in /var/run/vmstage; while /run \
         is full, in /var/lib/vmstage.",
    ),
    (
        "/var/lib/vmstage",
        "What has to survive a reboot: when this instance first booted, from which a lifetime \
         counts, and the deadline that was last known; what was published; an order with --keep; \
         while a file system is being made, on which disk; and which array was made of several disks.",
    ),
    (
        ".vmstage",
        "In the root directory of the scratch disk: which machine and instance staged it, first and \
         last when, and by which version. A disk without a label is known again by it.",
    ),
    (
        "/etc/machinefeatures, /etc/jobfeatures",
        "Readiness and deadline for batch jobs.",
    ),
    (
        "/etc/profile.d/vmstage.sh",
        "Sets MACHINEFEATURES and JOBFEATURES to these for login shells.",
    ),
    (
        "/run/motd.d/vmstage, /etc/update-motd.d/98-vmstage, /etc/motd",
        "The message of the day: in the first of them that the system has a use for.",
    ),
    (
        "/etc/condor/config.d/99-vmstage.config",
        "The same for HTCondor, where there is such a directory.",
    ),
    (
        "vmstage.prom",
        "The same for node_exporter, in report.textfile_directory.",
    ),
];

const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "MACHINEFEATURES, JOBFEATURES",
        "Where Machine/Job Features are: a URL or a directory. They go before what the instance's \
         metadata and the configuration name.",
    ),
    (
        "PATH",
        "Where mkfs, getent and other programs of the system are looked for, and then in /sbin, \
         /usr/sbin, /bin and /usr/bin.",
    ),
    (
        "NOTIFY_SOCKET, JOURNAL_STREAM",
        "From systemd: where to say that the machine is ready, and whether standard error is the journal.",
    ),
    (
        "VMSTAGE_DEADLINE, VMSTAGE_SECONDS_LEFT, VMSTAGE_REASON, VMSTAGE_REHEARSAL",
        "Set for the command deadline.drain: the deadline in Unix seconds, how long it is until then, \
         who gave it or why, and 1 in a rehearsal.",
    ),
];

const EXAMPLES: &[(&str, &str)] = &[
    (
        "Put it into a mounted image, and see what is still wrong there:",
        "vmstage install --root /mnt/image --replace-old\nvmstage check --root /mnt/image",
    ),
    (
        "See which disk a boot would take, and why it takes no other:",
        "vmstage probe",
    ),
    (
        "Wait in a script, for at most a minute, until the machine is ready:",
        "vmstage status --wait=60 >/dev/null && start-work",
    ),
    (
        "End this machine in half an hour; rehearse the notice of a cloud:",
        "vmstage end --in 30m --reason \"new disks in rack 7\"\nvmstage end --in 2m --rehearse spot",
    ),
    (
        "Choose a flavor:",
        "openstack flavor list --long --all -f json | vmstage plan flavor --memory 1G --cores 1 -",
    ),
];

/// Shows every key with its default, and explains it.
const SHIPPED: &str = include_str!("../packaging/vmstage.toml");

/// What each file is called, and its content.
pub fn all(command: Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut pages = Vec::new();
    for (shell, name) in [
        (Shell::Bash, "vmstage.bash"),
        (Shell::Zsh, "_vmstage"),
        (Shell::Fish, "vmstage.fish"),
    ] {
        let mut completions = Vec::new();
        clap_complete::generate(shell, &mut command.clone(), "vmstage", &mut completions);
        pages.push((name.into(), completions));
    }
    let version = command.get_version().unwrap_or_default().to_string();
    let page = man_page(command.subcommand_value_name("COMMAND"))?;
    pages.push(("vmstage.8".into(), finished(&page)));
    let page = settings::page(SHIPPED, &version)?;
    pages.push(("vmstage.toml.5".into(), finished(&page)));
    Ok(pages)
}

/// One page for all commands: each of them is short.
fn man_page(command: Command) -> io::Result<String> {
    let mut page = Vec::new();
    let man = Man::new(command.clone())
        .section("8")
        .manual("System Administration");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;

    let mut heading = Roff::new();
    heading.control("SH", ["COMMANDS"]).to_writer(&mut page)?;
    for command in command.get_subcommands() {
        write_command(command.get_name(), command, &mut page)?;
    }

    let mut end = Roff::new();
    end.control("SH", ["EXIT STATUS"]);
    let exit_codes = after_help(&command);
    as_it_is(&mut end, exit_codes.trim_start_matches("Exit codes:\n"));
    end.control("SH", ["ENVIRONMENT"]);
    for (name, what) in ENVIRONMENT {
        end.control("TP", [])
            .text([bold(*name)])
            .text([roman(*what)]);
    }
    end.control("SH", ["FILES"]);
    for (path, what) in FILES {
        end.control("TP", [])
            .text([italic(*path)])
            .text([roman(*what)]);
    }
    end.control("SH", ["EXAMPLES"]);
    settings::examples(&mut end, EXAMPLES);
    end.control("SH", ["SEE ALSO"]).text([
        bold("vmstage.toml"),
        roman("(5), "),
        bold("mount"),
        roman("(8), "),
        bold("blkid"),
        roman("(8), "),
        bold("systemctl"),
        roman("(1)"),
    ]);
    end.to_writer(&mut page)?;

    // Each of the parts defines the apostrophe anew.
    let page = String::from_utf8(page).map_err(io::Error::other)?;
    let (definition, _) = page.split_once(".TH").unwrap_or_default();
    let page = format!("{definition}{}", page.replace(definition, ""));
    Ok(page)
}

/// troff reads bytes; what is more than one goes by its number. And the title keeps the place of
/// its date, which there is none of.
fn finished(page: &str) -> Vec<u8> {
    let page = page.replacen("  \"vmstage", " \"\" \"vmstage", 1);
    let character = |character: char| match character.is_ascii() {
        true => character.to_string(),
        false => format!("\\[u{:04X}]", u32::from(character)),
    };
    page.chars().map(character).collect::<String>().into_bytes()
}

/// A command of other commands has nothing of its own to tell.
fn write_command(name: &str, command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    if command.has_subcommands() {
        return command.get_subcommands().try_for_each(|sub| {
            let name = format!("{name} {}", sub.get_name());
            write_command(&name, sub, page)
        });
    }
    let about = command.get_about().map(ToString::to_string);
    Roff::new()
        .control("SS", [format!("vmstage {name}").as_str()])
        .text([roman(about.unwrap_or_default())])
        .to_writer(page)?;

    // A section of its own in clap's eyes; here it belongs to the command above it.
    let mut options = Vec::new();
    Man::new(command.clone()).render_options_section(&mut options)?;
    let options = String::from_utf8(options).map_err(io::Error::other)?;
    page.extend(options.replace(".SH OPTIONS\n", "").bytes());

    let mut explanation = Roff::new();
    explanation.control("PP", []);
    as_it_is(&mut explanation, &after_help(command));
    explanation.to_writer(page)
}

fn after_help(command: &Command) -> String {
    command
        .get_after_help()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// Help texts have their line breaks where they are meant to be.
fn as_it_is(page: &mut Roff, text: &str) {
    page.control("nf", []);
    for line in text.lines() {
        page.text([roman(line)]);
    }
    page.control("fi", []);
}

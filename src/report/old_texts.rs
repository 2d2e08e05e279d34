//! What version 0.1.0 wrote for consumers. It recorded nothing, so that its files are known by
//! their text: each line must be one that it wrote.

const DROP_IN: &str = "# Written by vmstage(8), which overwrites it.\n";

pub(super) fn is_drop_in(text: &str) -> bool {
    text.starts_with(DROP_IN) && text.lines().all(is_drop_in_line)
}

fn is_drop_in_line(line: &str) -> bool {
    let Some((name, value)) = line.split_once(" = ") else {
        return line == DROP_IN.trim_end() || line == "# Jobs would fill the root disk.";
    };
    match name {
        "StagingReady" => ["True", "False"].contains(&value),
        "EXECUTE" => value.starts_with('/') && value.ends_with("/condor"),
        "STARTER_JOB_ENVIRONMENT" => value == "\"MACHINEFEATURES=/etc/machinefeatures\"",
        "STARTD_ATTRS" => [
            "$(STARTD_ATTRS) StagingReady",
            "$(STARTD_ATTRS) MJF_MACHINE_SHUTDOWNTIME MJF_MACHINE_GRACE_SECS",
        ]
        .contains(&value),
        "START" => [
            "False",
            "($(START)) && (time() < $(MJF_MACHINE_SHUTDOWNTIME) - $(MJF_MACHINE_GRACE_SECS))",
        ]
        .contains(&value),
        "MJF_MACHINE_SHUTDOWNTIME" | "MJF_MACHINE_GRACE_SECS" => value.parse::<u64>().is_ok(),
        _ => false,
    }
}

/// Of the message of the day: the file, the script that prints it, or the lines alone.
pub(super) fn is_motd(text: &str) -> bool {
    let script = text
        .strip_prefix("#!/bin/sh\n# Written by vmstage(8).\ncat <<'end'\n")
        .and_then(|rest| rest.strip_suffix("end\n"));
    let is_line = |line: &str| {
        let said = line.strip_prefix("vmstage: ").unwrap_or_default();
        [
            "scratch space is on /",
            "there is no scratch space: ",
            "this VM goes away at ",
        ]
        .iter()
        .any(|begin| said.starts_with(begin))
    };
    script.unwrap_or(text).lines().all(is_line)
}

pub(super) fn is_metrics(text: &str) -> bool {
    let is_line = |line: &str| {
        ["# HELP vmstage_", "# TYPE vmstage_", "vmstage_"]
            .iter()
            .any(|begin| line.starts_with(begin))
    };
    text.starts_with("# HELP vmstage_info The agent that wrote this file.\n")
        && text.lines().all(is_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &str = "\
# Written by vmstage(8), which overwrites it.
StagingReady = True
STARTD_ATTRS = $(STARTD_ATTRS) StagingReady
EXECUTE = /staging/condor
STARTER_JOB_ENVIRONMENT = \"MACHINEFEATURES=/etc/machinefeatures\"
MJF_MACHINE_SHUTDOWNTIME = 1795430460
MJF_MACHINE_GRACE_SECS = 600
STARTD_ATTRS = $(STARTD_ATTRS) MJF_MACHINE_SHUTDOWNTIME MJF_MACHINE_GRACE_SECS
START = ($(START)) && (time() < $(MJF_MACHINE_SHUTDOWNTIME) - $(MJF_MACHINE_GRACE_SECS))
";
    const FAILED: &str = "\
# Written by vmstage(8), which overwrites it.
StagingReady = False
STARTD_ATTRS = $(STARTD_ATTRS) StagingReady
STARTER_JOB_ENVIRONMENT = \"MACHINEFEATURES=/etc/machinefeatures\"
# Jobs would fill the root disk.
START = False
";

    #[test]
    fn a_drop_in_is_known_as_long_as_nobody_has_changed_a_line() {
        for text in [READY, FAILED] {
            assert!(is_drop_in(text), "{text}");
            for changed in [
                text.replace("StagingReady = ", "StagingReady = not "),
                text.replace("START = ", "START = Owner == \"me\" && "),
                text.to_string() + "NUM_CPUS = 2\n",
                text.to_string() + "# a note\n",
                text.replacen("# Written", "# Once written", 1),
            ] {
                assert!(!is_drop_in(&changed), "{changed}");
            }
        }
        assert!(!is_drop_in(""));
    }

    #[test]
    fn so_is_the_message_of_the_day() {
        let lines = "vmstage: scratch space is on /staging (20.0 GiB), 19.6 GiB of it free at boot\n\
                     vmstage: this VM goes away at 2026-11-23 11:41 UTC\n";
        let script = format!("#!/bin/sh\n# Written by vmstage(8).\ncat <<'end'\n{lines}end\n");
        assert!(is_motd(lines) && is_motd(&script));
        assert!(is_motd("vmstage: there is no scratch space: none\n"));
        let with_more = script.replace("end\n", "end\ndate\n");
        for changed in [with_more.as_str(), "vmstage: ask Anna\n", "Welcome\n"] {
            assert!(!is_motd(changed), "{changed}");
        }
    }

    #[test]
    fn and_so_are_the_metrics() {
        let text = "# HELP vmstage_info The agent that wrote this file.\n\
                    # TYPE vmstage_info gauge\nvmstage_info{version=\"0.1.0\"} 1\n";
        assert!(is_metrics(text));
        assert!(!is_metrics(
            &(text.to_string() + "role{role=\"worker\"} 1\n")
        ));
        assert!(!is_metrics(""));
    }
}

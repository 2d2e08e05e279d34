//! What init runs, as init runs it: the SysV script and the rc.local snippets under
//! dash, bash and busybox, and the units as systemd itself reads them.

#[path = "../common/mod.rs"]
mod common;
mod guest;
mod rc_local;
mod sysv;
mod units;

use rc_local::*;
use sysv::*;
use units::*;

claims!(
    start_boots_and_then_starts_watch,
    watch_is_detached_from_whoever_started_it,
    a_failed_boot_fails_the_start_and_watch_follows_the_deadline_all_the_same,
    a_wrong_configuration_fails_the_start_and_leaves_no_watch_and_no_directory,
    a_second_start_boots_again_but_starts_no_second_watch,
    a_watch_that_ends_at_once_fails_the_start,
    a_stale_or_broken_pid_file_is_replaced,
    a_foreign_process_in_the_pid_file_is_left_alone,
    stop_ends_watch_and_nothing_else,
    stopping_what_does_not_run_succeeds,
    a_watch_that_does_not_end_fails_stop_and_restart,
    restart_boots_again_and_replaces_watch,
    try_restart_restarts_only_what_runs,
    reload_sends_watch_a_hangup,
    status_has_the_exit_codes_of_lsb,
    wrong_usage_is_exit_code_2_and_does_nothing,
    without_root_only_status_works,
    a_missing_program_is_exit_code_5_and_stop_still_works,
    on_a_systemd_machine_the_units_are_asked,
    systemd_itself_can_run_the_script,
    the_program_itself_starts_reloads_and_stops,
    a_failed_boot_of_the_program_itself_is_understood,
    insserv_orders_it_before_condor,
    chkconfig_orders_it_between_sshd_and_condor,
    the_scripts_pass_shellcheck,
    rc_local_starts_watch_and_condor_when_ready,
    rc_local_starts_watch_without_condor_when_boot_failed,
    rc_local_goes_on_without_watch_and_directories_when_the_configuration_is_wrong,
    rc_local_goes_on_when_condor_does_not_start,
    systemd_finds_no_fault_with_the_units,
    boot_waits_for_local_file_systems_and_not_for_the_network,
    watch_comes_after_boot_and_waits_for_no_network,
    condor_requires_staging_and_stops_before_it_is_unmounted,
    the_mount_is_made_for_the_whole_machine,
    the_boot_unit_is_ready_when_the_program_says_so_and_stays_active,
    the_watch_unit_restarts_and_lasts_until_the_end_of_a_shutdown,
);

# vmstage: paste this into /etc/rc.d/rc.local, in place of the lines that mounted the
# scratch disk and made directories on it. Nothing below the "fi" depends on it.
#
# condor is started here and nowhere else (chkconfig condor off), so that no job runs
# on the root disk.
if /usr/sbin/vmstage boot; then
    # Follows the VM's deadline, without rc's console and terminal.
    setsid /usr/sbin/vmstage watch </dev/null >/dev/null 2>&1 &

    # What needs /staging goes here.
    /sbin/service condor start
else
    # The reason is on the console and in syslog already, and in "vmstage status".
    echo "vmstage: boot failed (exit code $?); condor is not started" >&2
fi

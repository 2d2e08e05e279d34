# vmstage: paste this into /etc/rc.d/rc.local, in place of the lines that mounted the
# scratch disk and made directories on it. Nothing below the last "fi" depends on it.
#
# condor is started here and nowhere else (chkconfig condor off), so that no job runs
# on the root disk.
vmstage=0
/usr/sbin/vmstage boot || vmstage=$?

# Follows the VM's deadline, without rc's console and terminal. Also where boot failed:
# a VM without its scratch disk has to be gone in time as well. Only with a wrong
# configuration (6) would it end at once.
if [ "$vmstage" -ne 6 ]; then
    setsid /usr/sbin/vmstage watch </dev/null >/dev/null 2>&1 &
fi

if [ "$vmstage" -eq 0 ]; then
    # What needs /staging goes here.
    /sbin/service condor start || echo "condor did not start (exit code $?)" >&2
else
    # The reason is on the console and in syslog already, and in "vmstage status".
    echo "vmstage: boot failed (exit code $vmstage); condor is not started" >&2
fi

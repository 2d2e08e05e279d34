//! What init runs, as init runs it: the SysV script and the rc.local snippets under
//! dash, bash and busybox, and the units as systemd itself reads them.

mod guest;
pub mod rc_local;
pub mod sysv;
pub mod units;

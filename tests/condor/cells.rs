//! Many sites at once: each has a configuration and a startd of its own, in a mount namespace
//! of its own, and all have one schedd. Whatever a site sets, no job may start in grace, nor
//! anywhere but on the scratch disk.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vmstage::clock::wall;
use vmstage::config::Config;
use vmstage::host::Host;
use vmstage::report::condor;
use vmstage::status::Status;

use super::pool::*;

/// The program has no threads, and what it knows of places that do not answer is one for all of them:
/// a child that is slow in one thread is a place that is left alone in every other.
static PUBLISHING: Mutex<()> = Mutex::new(());

/// What became of the boot.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Staged,
    InGrace,
    Failed,
}

const STATES: [State; 3] = [State::Staged, State::InGrace, State::Failed];

/// When a site's file is read.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Before,
    /// In the same directory.
    After,
    /// Debian's own place for it.
    Local,
}

impl Place {
    fn file(self) -> &'static str {
        match self {
            Place::Before => "config.d/50-site.config",
            Place::After => "config.d/99-zz-site.config",
            Place::Local => "condor_config.local",
        }
    }
}

/// Where a job must run.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Job {
    Nowhere,
    OnTheScratchDisk,
    WhereTheSiteSays,
}

const SCRATCH: &str = "/staging/condor/dir_";
const ELSEWHERE: &str = "/srv/elsewhere";

struct Cell {
    state: State,
    site: String,
    place: Place,
    expected: Job,
    /// What is warned of has to contain these, one each.
    warned: &'static [&'static str],
}

/// A cell whose startd runs.
struct Running {
    startd: Child,
    warnings: Vec<String>,
    start: String,
    execute: String,
}

impl Cell {
    fn new(state: State, site: &str, place: Place) -> Cell {
        Cell {
            state,
            site: site.into(),
            place,
            expected: match state {
                State::Staged => Job::OnTheScratchDisk,
                State::InGrace | State::Failed => Job::Nowhere,
            },
            warned: &[],
        }
    }

    fn status(&self) -> Status {
        match self.state {
            State::Staged => staged("/staging", Some(wall() + 7200)),
            State::InGrace => staged("/staging", Some(wall() + 300)),
            State::Failed => failed(),
        }
    }

    /// In a thread of its own: the mounts are the thread's, and of what it starts.
    fn start(&self, number: usize, steps: &Barrier) -> Running {
        let own = format!("/srv/cells/{number}");
        let directories = ["etc", "staging", "lib/condor/execute", "log/condor"];
        let more = ["lock/condor", "run/condor", "spool/condor", "elsewhere"];
        for directory in directories.into_iter().chain(more) {
            fs::create_dir_all(format!("{own}/{directory}")).unwrap();
        }
        run("cp", &["-a", "/etc/condor/.", &format!("{own}/etc")]);
        run("chown", &["-R", "condor:condor", &own]);
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        for (from, to) in [("etc", "/etc/condor"), ("staging", "/staging")] {
            let from = format!("{own}/{from}");
            mount(
                Some(from.as_str()),
                to,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .unwrap();
        }
        let local = format!(
            "LOCAL_DIR = {own}\nSTARTD_NAME = cell{number}\nUSE_SHARED_PORT = False\n\
             SEC_USE_FAMILY_SESSION = False\nUPDATE_INTERVAL = 20\n\
             NUM_SLOTS_TYPE_1 = 1\nSLOT_TYPE_1 = 100%\nSLOT_TYPE_1_PARTITIONABLE = True\n"
        );
        fs::write("/etc/condor/config.d/20-cell.config", local).unwrap();
        fs::write(Path::new("/etc/condor").join(self.place.file()), &self.site).unwrap();
        let told = {
            let _turn = PUBLISHING.lock().unwrap();
            condor::publish(&Host::this_machine(), &self.status(), &Config::default())
        };
        // Whoever fails before the others have gone on keeps them here for ever.
        steps.wait();
        steps.wait();
        // All at once would keep one another from starting.
        sleep(Duration::from_millis(400 * number as u64));
        let startd = Command::new("condor_startd")
            .arg("-f")
            .stderr(Stdio::null())
            .spawn();
        let of_startd = |name| run("condor_config_val", &["-subsystem", "STARTD", name]);
        Running {
            startd: startd.unwrap(),
            warnings: told.unwrap().warnings,
            start: of_startd("START"),
            execute: of_startd("EXECUTE"),
        }
    }

    /// One line for each place in which it is wrong.
    fn wrong(&self, running: &Running, printed: &str, starts: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        let is_right = match self.expected {
            Job::Nowhere => printed.is_empty() && ["undefined", "0"].contains(&starts),
            Job::OnTheScratchDisk => printed.starts_with(SCRATCH),
            Job::WhereTheSiteSays => printed.starts_with(ELSEWHERE),
        };
        if !is_right {
            wrong.push(format!(
                "the job: {:?} expected, not {printed:?}",
                self.expected
            ));
        }
        let warnings = &running.warnings;
        let is_said = |words: &&&str| warnings.iter().any(|warning| warning.contains(**words));
        let are_said = self.warned.iter().filter(is_said).count();
        if (are_said, warnings.len()) != (self.warned.len(), self.warned.len()) {
            wrong.push(format!(
                "warnings: {:?} expected, not {warnings:?}",
                self.warned
            ));
        }
        wrong
    }
}

/// START and EXECUTE in all the ways in which they can be set, wherever.
fn knobs() -> Vec<Cell> {
    let execute = format!("EXECUTE = {ELSEWHERE}");
    let of_slot = format!("SLOT1_EXECUTE = {ELSEWHERE}");
    let mut cells = Vec::new();
    for state in STATES {
        cells.push(Cell::new(state, "", Place::Before));
        cells.push(Cell::new(state, "START = True", Place::After));
        let of_static = "SLOT_TYPE_1_PARTITIONABLE = False\nSLOT_TYPE_1_START = True";
        cells.push(Cell::new(state, of_static, Place::Local));
        for place in [Place::Before, Place::Local] {
            for site in [
                "START = True",
                "SLOT_TYPE_1_START = True",
                "STARTD.START = True",
                execute.as_str(),
            ] {
                cells.push(Cell::new(state, site, place));
            }
            let mut of_slot = Cell::new(state, &of_slot, place);
            if state != State::Failed {
                of_slot.warned = &["SLOT1_EXECUTE is /srv/elsewhere ("];
            }
            if state == State::Staged {
                of_slot.expected = Job::WhereTheSiteSays;
            }
            cells.push(of_slot);
        }
    }
    cells
}

/// The output of a command is read last of all, and takes everything back. After a failed
/// staging no job runs for all that; in grace it does, as docs/htcondor.md says, with a warning.
fn taken_back() -> Vec<Cell> {
    let site = "LOCAL_CONFIG_FILE = /bin/cat /etc/condor/later |";
    let later = "START = True\nSTARTD.START = True\nSLOT_TYPE_1_START = True\n\
                 STARTD.SLOT_TYPE_1_START = True\nEXECUTE = /srv/elsewhere\n\
                 SLOT1_EXECUTE = /srv/elsewhere\n";
    fs::write("/etc/condor/later", later).unwrap();
    let taken_back = |state| Cell {
        expected: match state {
            State::Staged | State::InGrace => Job::WhereTheSiteSays,
            State::Failed => Job::Nowhere,
        },
        warned: match state {
            State::Staged | State::InGrace => &[
                "START is True (/bin/cat",
                "STARTD.START is True",
                "SLOT_TYPE_1_START is True",
                "STARTD.SLOT_TYPE_1_START is True",
                ": jobs run there, and not on the scratch disk",
                "SLOT1_EXECUTE is /srv/elsewhere",
            ],
            State::Failed => &[": jobs are sent here, and fail to start"; 4],
        },
        ..Cell::new(state, site, Place::Before)
    };
    STATES.map(taken_back).into()
}

/// START as a site may write it.
fn texts() -> Vec<Cell> {
    let mut cells = Vec::new();
    for state in [State::Staged, State::InGrace] {
        for (site, is_for_anna) in [
            ("START = Owner == \"anna\" // only her", true),
            ("START = Owner == \"bob\" ? True : False // him", false),
            ("START = Owner == \"bob\" || Owner == \"anna\"", true),
            ("START = Owner == \"anna\" && \\\n  True", true),
            (
                "START @=end\n  Owner == \"anna\" // her\n  && True\n@end",
                true,
            ),
            ("START = $(WHO) /* as */\nWHO = Owner =?= \"anna\"", true),
            ("START = $(START) && Owner =!= \"anna\"", false),
            ("START =", true),
            ("use POLICY: ALWAYS_RUN_JOBS", true),
        ] {
            let mut cell = Cell::new(state, site, Place::Before);
            if !is_for_anna {
                cell.expected = Job::Nowhere;
            }
            cells.push(cell);
        }
    }
    cells
}

#[test]
#[ignore = "needs a real HTCondor: tests/condor/run"]
fn whatever_a_site_sets_no_job_starts_in_grace_or_beside_the_scratch_disk() {
    fs::remove_file(DROP_IN).ok();
    fs::create_dir_all("/staging").unwrap();
    fs::create_dir_all(ELSEWHERE).unwrap();
    run("chown", &["condor:condor", ELSEWHERE]);
    let cells: Arc<Vec<Cell>> = Arc::new(
        knobs()
            .into_iter()
            .chain(texts())
            .chain(taken_back())
            .collect(),
    );
    let steps = Arc::new(Barrier::new(cells.len() + 1));
    let threads: Vec<_> = (0..cells.len())
        .map(|number| {
            let (cells, steps) = (cells.clone(), steps.clone());
            thread::spawn(move || cells[number].start(number, &steps))
        })
        .collect();
    // HTCondor is told nothing while it runs: these are all in one process namespace.
    steps.wait();
    let _pool = Pool::start_with(&[("DAEMON_LIST", "MASTER COLLECTOR NEGOTIATOR SCHEDD")]);
    steps.wait();
    let running: Vec<Running> = threads.into_iter().map(|one| one.join().unwrap()).collect();
    let known = || run("condor_status", &["-af", "Name", "Start"]);
    let is_there = |number: usize| known().contains(&format!("slot1@cell{number}@"));
    let missing = || (0..cells.len()).find(|number| !is_there(*number));
    let start = Instant::now();
    while let Some(number) = missing() {
        let log = format!("/srv/cells/{number}/log/condor/StartLog");
        assert!(
            start.elapsed() < PATIENCE,
            "no startd for {:?}; {log} ends with\n{}",
            cells[number].site,
            run("tail", &["-n", "30", &log])
        );
        sleep(Duration::from_millis(500));
    }

    let cluster = submit_to(cells.len());
    let printed = |number: usize| {
        let text = fs::read_to_string(format!("/home/anna/cell{number}"));
        let text = text.unwrap_or_default();
        text.trim().trim_start_matches("DIRECTORY=").to_string()
    };
    let all_have_run = || {
        let has_run =
            |number: usize| cells[number].expected == Job::Nowhere || !printed(number).is_empty();
        (0..cells.len()).all(has_run)
    };
    let submitted = Instant::now();
    while !all_have_run() && submitted.elapsed() < PATIENCE {
        sleep(Duration::from_millis(500));
    }
    // The others have had their turns; some more.
    sleep(Duration::from_secs(8));

    let slots = known();
    let queue = run(
        "condor_q",
        &["-allusers", &cluster, "-af", "ProcId", "NumJobStarts"],
    );
    let mut table = String::new();
    let mut wrong = 0;
    for (number, (cell, mut running)) in cells.iter().zip(running).enumerate() {
        let slot = format!("slot1@cell{number}@");
        let of_slot = slots.lines().find(|line| line.starts_with(&slot));
        let start = of_slot.and_then(|line| line.split(' ').nth(1));
        let in_queue = queue.lines().filter_map(|line| line.split_once(' '));
        let starts = in_queue.filter(|(job, _)| *job == number.to_string());
        let starts = starts.map(|(_, starts)| starts).next();
        let printed = printed(number);
        let errors = cell.wrong(&running, &printed, starts.unwrap_or("0"));
        wrong += usize::from(!errors.is_empty());
        table += &format!(
            "{:8} {:55} {:7} {:70} {:20} {:10} {:22} {}\n",
            format!("{:?}", cell.state),
            cell.site.replace('\n', "; "),
            format!("{:?}", cell.place),
            running.start.replace('\n', " "),
            running.execute,
            start.unwrap_or("-"),
            if printed.is_empty() {
                "does not run"
            } else {
                &printed
            },
            if errors.is_empty() {
                "right".into()
            } else {
                format!("WRONG {errors:?}")
            },
        );
        kill(Pid::from_raw(running.startd.id() as i32), Signal::SIGQUIT).ok();
        running.startd.wait().ok();
    }
    let head = format!(
        "{:8} {:55} {:7} {:70} {:20} {:10} {:22}\n",
        "state", "the site's", "read", "START", "EXECUTE", "the slot's", "the job",
    );
    let count = format!("{} cells, {wrong} wrong\n", cells.len());
    // Also of a test that passes.
    std::io::stderr()
        .write_all(format!("\n{head}{table}{count}").as_bytes())
        .unwrap();
    assert_eq!(wrong, 0);
}

/// One job for each cell, which says where it runs.
fn submit_to(cells: usize) -> String {
    let numbers: Vec<String> = (0..cells).map(|number| number.to_string()).collect();
    let job = format!(
        "executable = /bin/sh\ntransfer_executable = false\n\
         arguments = \"-c 'echo DIRECTORY=$_CONDOR_SCRATCH_DIR'\"\n\
         output = /home/anna/cell$(cell)\n\
         requirements = TARGET.Name == \"slot1@cell$(cell)@worker.test\"\n\
         request_disk = 1MB\nrequest_memory = 1MB\nqueue cell in ({})\n",
        numbers.join(",")
    );
    submit_file(&job)
}

//! A day of `watch` with a fast clock: what it asks of the services, and its memory.
//! The watch has a process of its own, whose memory nothing else uses, and the services
//! have another.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{self, Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::common::{need_root, private_mounts};
use crate::server::{Request, Server, Then, respond};
use nix::mount::{MsFlags, mount};
use vmstage::clock::Now;
use vmstage::config::Config;
use vmstage::host::Host;
use vmstage::http::Client;
use vmstage::logging::Notices;
use vmstage::status::Status;
use vmstage::watch::Watch;

claims![a_day_of_ticks_asks_the_service_at_most_1_2_times_a_minute_within_the_memory_of_an_hour];

/// Names the part of the day that a child process of this claim plays.
const PART: &str = "VMSTAGE_TEST_PART";
const WATCH: &str = "watch on ";

/// Does what a child process of this claim is there for, and ends it. Returns in any
/// other process.
pub fn play_a_part() {
    match std::env::var(PART).as_deref() {
        Err(_) => {}
        Ok(part) => match part.strip_prefix(WATCH) {
            Some(cloud) => {
                a_day_on(cloud);
                process::exit(0)
            }
            None => serve(part),
        },
    }
}

/// This program as a process that plays this part.
fn playing(part: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(PART, part);
    command
}

static HOST: LazyLock<Host> = LazyLock::new(Host::this_machine);

const HOUR: u64 = 3600;
const START: u64 = 1_800_000_000;

/// Every cloud has Machine/Job Features at URLs as well.
const CLOUDS: [&str; 3] = ["openstack", "nova's ec2", "ec2 itself"];

/// The services of a cloud, in a process of their own.
struct Cloud {
    process: Child,
    url: String,
}

impl Cloud {
    fn start(cloud: &str) -> Cloud {
        let mut process = playing(cloud).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        said.read_line(&mut url).unwrap();
        Cloud {
            process,
            url: url.trim().into(),
        }
    }

    /// How often it was asked for a path that begins so.
    fn asked(&self, prefix: &str) -> u64 {
        let url = format!("{}/asked{prefix}", self.url);
        let patience = Duration::from_secs(5);
        let answer = Client::new(patience, vmstage::host::resolve::addresses).get(
            &url,
            &[],
            Instant::now() + patience,
        );
        String::from_utf8(answer.unwrap().body)
            .unwrap()
            .parse()
            .unwrap()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn serve(cloud: &str) -> ! {
    let cloud = cloud.to_string();
    let paths = std::sync::Mutex::new(Vec::<String>::new());
    let answer = move |request: &Request, stream: &mut std::net::TcpStream| -> Then {
        let mut paths = paths.lock().unwrap();
        if let Some(prefix) = request.path.strip_prefix("/asked") {
            let number = paths.iter().filter(|path| path.starts_with(prefix)).count();
            return respond(stream, 200, "", number.to_string().as_bytes());
        }
        paths.push(request.path.clone());
        let document: &[u8] = br#"{"uuid": "aaaa", "meta": {"vmstage_lifetime": "30d"}}"#;
        match (request.path.as_str(), cloud.as_str()) {
            ("/openstack/latest/meta_data.json", "openstack") => respond(stream, 200, "", document),
            ("/latest/api/token", "ec2 itself") => respond(stream, 200, "", b"TOKEN"),
            ("/latest/meta-data/instance-id", "nova's ec2" | "ec2 itself") => {
                respond(stream, 200, "", b"i-1")
            }
            ("/mf/shutdowntime" | "/jf/shutdowntime_job", _) => {
                respond(stream, 200, "", b"1900000000")
            }
            ("/mf/grace_secs", _) => respond(stream, 200, "", b"900"),
            _ => respond(stream, 404, "", b"<html>404</html>"),
        }
    };
    println!("{}", Server::start(answer).url());
    loop {
        std::thread::park();
    }
}

/// The most memory that this process has had, and what of it is its own now.
fn memory_kib() -> (u64, u64) {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.unwrap().trim().trim_end_matches(" kB");
        number.parse().unwrap()
    };
    (field("VmHWM:"), field("RssAnon:"))
}

fn a_day_of_ticks_asks_the_service_at_most_1_2_times_a_minute_within_the_memory_of_an_hour() {
    need_root();
    // Each has a processor for itself, as far as there are any.
    let begin = |cloud| {
        let mut day = playing(&format!("{WATCH}{cloud}"));
        day.stdout(Stdio::piped()).stderr(Stdio::piped());
        day.spawn().unwrap()
    };
    for day in CLOUDS.map(begin) {
        let day = day.wait_with_output().unwrap();
        print!("{}", String::from_utf8_lossy(&day.stdout));
        let error = String::from_utf8_lossy(&day.stderr);
        assert!(day.status.success(), "{}: {error}", day.status);
    }
}

fn a_day_on(name: &str) {
    private_mounts();
    for place in ["/run", "/var/lib", "/etc"] {
        let none = None::<&str>;
        mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    let cloud = Cloud::start(name);
    let text = format!(
        "[metadata]\nsources = [\"openstack\", \"ec2\"]\nurl = {0:?}\nmachinefeatures = \"{0}/mf\"\njobfeatures = \"{0}/jf\"\n",
        cloud.url
    );
    let config = Config::parse(&text).unwrap();
    Status::begin(&HOST).write(&HOST).unwrap();
    let moment = |second: u64| Now {
        wall: START + second,
        uptime: Duration::from_secs(HOUR + second),
        vouched: false,
    };
    let before = memory_kib();
    let notices = Notices::default();
    let mut watch = Watch::start(&HOST, &notices, &config, moment(0));
    let mut after_an_hour = before;
    for second in 1..=24 * HOUR {
        watch.tick(moment(second));
        if second == HOUR {
            after_an_hour = memory_kib();
        }
    }
    let after_a_day = memory_kib();
    let of_ec2 = name == "ec2 itself";
    let of_features = cloud.asked("/mf/") + cloud.asked("/jf/");
    let of_service = cloud.asked("/") - of_features;
    let of_notices =
        cloud.asked("/latest/meta-data/spot/") + cloud.asked("/latest/meta-data/autoscaling/");
    let a_minute = |requests: u64| requests as f64 / (24.0 * 60.0);
    let features = a_minute(of_features);
    let (asked, notices) = match of_ec2 {
        true => (a_minute(of_service - of_notices), a_minute(of_notices)),
        false => (a_minute(of_service), 0.0),
    };
    println!(
        "{name}: {asked:.2} requests a minute, {notices:.2} for notices and {features:.2} for \
         features; the most memory before, after an hour and after a day: {} KiB, {} KiB, {} KiB; of its own \
         {} KiB, {} KiB, {} KiB",
        before.0, after_an_hour.0, after_a_day.0, before.1, after_an_hour.1, after_a_day.1
    );
    // A real EC2 is asked for notices every five seconds, and for events and tags.
    let most = if of_ec2 { 3.6 } else { 1.2 };
    assert!((0.5..=most).contains(&asked), "{asked} requests a minute");
    assert!(notices <= 25.0, "{notices} requests a minute for notices");
    // Nine keys in ten minutes.
    assert!(features <= 1.0, "{features} requests a minute for features");
    let grown = after_a_day.0 - after_an_hour.0;
    assert!(grown < 256, "{grown} KiB more than after an hour");
    // With a static binary of at most 1.5 MiB that is at most 4 MiB.
    assert!(after_a_day.1 < 2560, "{} KiB", after_a_day.1);
    let deadline = Status::read(&HOST).unwrap().unwrap().deadline.unwrap();
    assert_eq!(deadline.grace_seconds, 900);
}

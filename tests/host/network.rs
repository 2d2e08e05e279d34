//! The whole agent in a network namespace of its own, where 169.254.169.254 is real.

use std::fs;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Image, Machine, Running, bind_socket, tool};
use crate::server::{BlackHole, Request, Server, Then, respond};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};

claims!(
    the_deadline_is_asked_for_where_every_cloud_has_it,
    in_a_network_of_ipv6_alone_the_service_is_on_the_link,
    an_address_on_the_link_can_be_configured,
    where_the_service_is_locked_for_others_it_is_asked_all_the_same,
    no_thread_is_needed_to_ask,
    without_a_network_boot_is_as_ready_and_ends_in_time,
    dropped_packets_delay_neither_readiness_nor_the_end,
    another_boot_does_not_wait_for_the_network_of_the_first,
    an_htcondor_that_is_just_starting_does_not_delay_readiness,
);

const SERVICE: &str = "169.254.169.254:80";

/// A machine with a scratch disk that its configuration finds, in a network that has
/// nothing but the metadata address, which is the machine's own.
fn machine(configuration: &str) -> Machine {
    let mut machine = Machine::new();
    machine.configure(configuration);
    for published in ["/etc/machinefeatures", "/etc/jobfeatures"] {
        machine.may_change(published);
    }
    machine.disk("vdb", &Image::ext2("ephemeral0"));
    unshare(CloneFlags::CLONE_NEWNET).expect("unshare(CLONE_NEWNET)");
    machine
}

fn bring_up() {
    for words in ["link set lo up", "address add 169.254.169.254/32 dev lo"] {
        let ip = Command::new(tool("ip")).args(words.split(' ')).status();
        assert!(ip.unwrap().success(), "ip {words}");
    }
}

/// What OpenStack's service answers, for an instance that has a deadline.
fn nova(request: &Request, stream: &mut TcpStream) -> Then {
    match request.path.as_str() {
        "/openstack/latest/meta_data.json" => {
            let meta = r#""meta": {"vmstage_deadline": "4000000000"}"#;
            let body = format!(r#"{{"uuid": "aaaa", "name": "vm-1", {meta}}}"#);
            respond(stream, 200, "", body.as_bytes())
        }
        "/latest/meta-data/instance-id" => respond(stream, 200, "", b"i-1"),
        _ => respond(stream, 404, "", b"<html>"),
    }
}

fn the_deadline_is_asked_for_where_every_cloud_has_it() {
    // No url: the default one.
    let machine = machine("[metadata]\ntimeout = \"10s\"\n");
    bring_up();
    let service = Server::start_at(SERVICE, nova);
    let boot = machine.boot();
    boot.ready_on("/dev/vdb").warns_of_nothing();
    let status = boot.the_status();
    assert_eq!(status["deadline"]["at"], 4_000_000_000_u64, "{boot}");
    let origin = "vmstage_deadline in the openstack metadata";
    assert_eq!(status["deadline"]["origin"], origin, "{boot}");
    // One answer alone has said it.
    assert_eq!(status["deadline"]["unconfirmed"], true, "{boot}");
    assert_eq!(status["instance"]["name"], "vm-1", "{boot}");
    assert!(
        boot.console
            .contains("; must be gone by 2096-10-02T07:06:40Z (in "),
        "{boot}"
    );
    assert!(!service.seen().is_empty());
    assert!(boot.took < Duration::from_secs(5), "{boot}");
}

fn ip(words: &str) {
    let ip = Command::new(tool("ip")).args(words.split(' ')).output();
    let ip = ip.unwrap();
    let said = String::from_utf8_lossy(&ip.stderr);
    assert!(ip.status.success(), "ip {words}: {said}");
}

/// OpenStack's service at this port of `fe80::a9fe:a9fe` on one of two interfaces that have no
/// address of IPv4.
fn service_on_the_link(port: u16) -> Server {
    for words in [
        "link set lo up",
        "link add eth0 type veth peer name other0",
        "link set eth0 up",
        "link set other0 up",
        "link add eth1 type veth peer name other1",
        "link set eth1 up",
        "link set other1 up",
        "address add fe80::a9fe:a9fe/64 dev eth1 nodad",
    ] {
        ip(words);
    }
    let zone = if_nametoindex("eth1").unwrap();
    // Until the address is there whole.
    let address = format!("[fe80::a9fe:a9fe%{zone}]:{port}");
    Server::start_at(&address, nova)
}

fn in_a_network_of_ipv6_alone_the_service_is_on_the_link() {
    // No url and no sources: the default ones.
    let machine = machine("[metadata]\ntimeout = \"20s\"\n");
    let service = service_on_the_link(80);
    let asked = machine.run(&["metadata", "--format", "json"]);
    assert_eq!(asked.code, 0, "{asked}");
    assert!(asked.stdout.contains("4000000000"), "{asked}");
    assert!(asked.stdout.contains("i-1"), "{asked}");
    let place = "http://[fe80::a9fe:a9fe%25eth1]/openstack/latest/meta_data.json";
    assert!(asked.stdout.contains(place), "{asked}");
    // The zone is nobody's business but this machine's.
    for request in service.seen() {
        assert_eq!(request.headers["host"], "[fe80::a9fe:a9fe]");
    }
    assert!(!service.seen().is_empty());
}

fn an_address_on_the_link_can_be_configured() {
    for (number, zone) in ["%eth1", "%25eth1"].iter().enumerate() {
        let port = 8775 + number as u16;
        let machine = machine(&format!(
            "[metadata]\nsources = [\"openstack\"]\nurl = \"http://[fe80::a9fe:a9fe{zone}]:{port}\"\n"
        ));
        let service = service_on_the_link(port);
        let asked = machine.run(&["metadata"]);
        assert_eq!(asked.code, 0, "{asked}");
        let host = format!("[fe80::a9fe:a9fe]:{port}");
        assert_eq!(service.seen()[0].headers["host"], host);
    }
    let machine = machine(
        "[metadata]\nsources = [\"openstack\"]\ntimeout = \"1s\"\nurl = \"http://[fe80::1%nosuch0]\"\n",
    );
    let asked = machine.run(&["metadata"]);
    let why = "there is no network interface \"nosuch0\"";
    assert!(asked.code == 1 && asked.stdout.contains(why), "{asked}");
}

/// As systemd-imdsd does it: a rule for those who have the mark, and then one that prohibits.
fn where_the_service_is_locked_for_others_it_is_asked_all_the_same() {
    let machine = machine("[metadata]\nsources = [\"openstack\"]\ntimeout = \"2s\"\n");
    // The service is on the other end of a cable: a machine's own address is locked to nobody.
    for words in [
        "link set lo up",
        "link add eth0 type veth peer name service",
        "address add 169.254.169.1/24 dev eth0",
        "link set eth0 up",
    ] {
        ip(words);
    }
    let (ready, is_ready) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let _service = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ready.send(nix::unistd::gettid()).unwrap();
        may_go.recv().unwrap();
        ip("address add 169.254.169.254/24 dev service");
        ip("link set service up");
        let server = Server::start_at(SERVICE, |_, stream| {
            respond(stream, 200, "", br#"{"uuid": "aaaa"}"#)
        });
        ready.send(nix::unistd::gettid()).unwrap();
        let _ = may_go.recv();
        drop(server);
    });
    let other = is_ready.recv().unwrap();
    ip(&format!("link set service netns {other}"));
    go.send(()).unwrap();
    is_ready.recv().unwrap();
    let asked = machine.run(&["metadata"]);
    assert_eq!(asked.code, 0, "without a lock: {asked}");

    ip("rule add to 169.254.169.254 pref 20 prohibit");
    let refused = std::net::TcpStream::connect(SERVICE).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    ip("rule add fwmark 0x7fff0815 pref 10 lookup main");
    let asked = machine.run(&["metadata"]);
    assert_eq!(asked.code, 0, "with a lock: {asked}");
}

/// On kernels before 2.6.25 waiting for another thread spins.
fn no_thread_is_needed_to_ask() {
    // A name, as looking it up is what HTTP clients like to start a thread for.
    let machine =
        machine("[metadata]\nsources = [\"openstack\"]\nurl = \"http://metadata.test\"\n");
    bring_up();
    fs::write(machine.path("etc/hosts"), "169.254.169.254 metadata.test\n").unwrap();
    let _service = Server::start_at(SERVICE, |_, stream| {
        respond(stream, 200, "", br#"{"uuid": "aaaa"}"#)
    });
    let strace = tool("strace");
    let mut traced = machine.command(strace.to_str().unwrap(), None);
    traced.args([
        "-f",
        "-o",
        "/run/calls",
        "-e",
        "trace=clone,clone3,fork,vfork",
    ]);
    traced.args(["vmstage", "metadata"]);
    let asked = machine.start_command(traced).wait();
    assert_eq!(asked.code, 0, "{asked}");
    assert!(asked.stdout.contains("aaaa"), "{asked}");
    let calls = fs::read_to_string(machine.path("/run/calls")).unwrap();
    assert!(
        calls.contains("fork("),
        "the name is looked up in a child: {calls}"
    );
    assert!(!calls.contains("CLONE_THREAD"), "{calls}");
}

/// A boot that has just said that it is ready, and how long that took.
fn start_until_ready(machine: &Machine) -> (Running<'_>, Duration) {
    let manager = bind_socket(&machine.path("run"), "notify");
    manager.set_nonblocking(false).unwrap();
    let started = Instant::now();
    let mut boot = machine.command("/usr/sbin/vmstage", None);
    boot.arg("boot").env("NOTIFY_SOCKET", "/run/notify");
    let running = machine.start_command(boot);
    let ready = when_ready(&manager, started);
    (running, ready)
}

/// The moment at which a boot said that it is ready, and the one at which it ended.
fn timed(machine: &Machine) -> (Duration, Duration) {
    let started = Instant::now();
    let (running, ready) = start_until_ready(machine);
    running.wait().ready_on("/dev/vdb");
    let ended = started.elapsed();
    fs::remove_file(machine.path("run/notify")).unwrap();
    (ready, ended)
}

fn when_ready(manager: &UnixDatagram, started: Instant) -> Duration {
    manager
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut text = [0; 4096];
    loop {
        let length = manager.recv(&mut text).expect("never told READY=1");
        let text = String::from_utf8_lossy(&text[..length]);
        if text.lines().any(|line| line == "READY=1") {
            return started.elapsed();
        }
    }
}

/// Of five machines with metadata off.
fn usual_readiness() -> Duration {
    let mut times: Vec<Duration> = (0..5)
        .map(|_| timed(&machine("[metadata]\nsources = []\n")).0)
        .collect();
    times.sort();
    times[2]
}

const THREE_SECONDS: &str = "[metadata]\ntimeout = \"3s\"\n";

/// What is not a question of the metadata service: a busy host's scheduling.
const NOISE: Duration = Duration::from_millis(400);

fn ends_in_time_and_is_as_ready(what: &str, usual: Duration, machine: &Machine) {
    let (ready, ended) = timed(machine);
    println!(
        "{what}: ready after {ready:.1?} (metadata off: {usual:.1?}), ended after {ended:.1?}"
    );
    assert!(
        ready < usual + NOISE,
        "ready after {ready:?}, usually after {usual:?}"
    );
    let limit = ready + Duration::from_secs(3) + NOISE;
    assert!(ended < limit, "ended after {ended:?}, not before {limit:?}");
    assert!(ended > Duration::from_secs(1), "it did not ask: {ended:?}");
}

fn without_a_network_boot_is_as_ready_and_ends_in_time() {
    let usual = usual_readiness();
    let machine = machine(THREE_SECONDS);
    ends_in_time_and_is_as_ready("no network", usual, &machine);
}

fn dropped_packets_delay_neither_readiness_nor_the_end() {
    let usual = usual_readiness();
    let machine = machine(THREE_SECONDS);
    bring_up();
    let _hole = BlackHole::at(SERVICE);
    ends_in_time_and_is_as_ready("dropped packets", usual, &machine);
}

fn another_boot_does_not_wait_for_the_network_of_the_first() {
    let mut machine = machine("[metadata]\ntimeout = \"8s\"\n");
    for changed in ["/staging", "/var/lib/vmstage"] {
        machine.may_change(changed);
    }
    bring_up();
    let _hole = BlackHole::at(SERVICE);
    let first = machine.start(&["boot"]);
    std::thread::sleep(Duration::from_secs(1));
    let (ready, _) = timed(&machine);
    assert!(ready < Duration::from_secs(2), "ready after {ready:?}");
    first.wait().ready_on("/dev/vdb");
}

/// It can be told only when it has a handler for the signal, which this one never has.
fn an_htcondor_that_is_just_starting_does_not_delay_readiness() {
    let usual = usual_readiness();
    let mut machine = machine("[metadata]\nsources = []\n");
    machine.may_change("/etc/condor/config.d");
    machine.sh("mkdir -p /etc/condor/config.d && cp /bin/sleep /tmp/condor_master");
    let mut starting = machine.command("/tmp/condor_master", None);
    let mut starting = starting.arg("60").spawn().unwrap();
    let (running, ready) = start_until_ready(&machine);
    let drop_in = fs::read_to_string(machine.path("etc/condor/config.d/99-vmstage.config"));
    let ended = running.wait().took;
    starting.kill().unwrap();
    starting.wait().unwrap();
    println!("ready after {ready:.1?}, ended after {ended:.1?}");
    assert!(ready < usual + NOISE, "ready after {ready:?}");
    assert!(
        ended > Duration::from_secs(5),
        "nobody was waited for: {ended:?}"
    );
    // It is there before the service manager starts who reads it.
    let drop_in = drop_in.unwrap();
    assert!(
        drop_in.contains("\nEXECUTE = /staging/condor\n"),
        "{drop_in}"
    );
}

//! The properties of a flavor, and which of them need hosts that not every request may take.

use serde_json::Value;

use super::input::{Place, plain};

/// A flavor's extra specs: keys and values.
pub(super) type Properties = Vec<(String, String)>;

/// An object, or, from older clients, `a='b', c='d'`.
///
/// # Errors
///
/// That it is neither.
pub(super) fn read(place: &Place) -> anyhow::Result<Properties> {
    match place.value() {
        Value::Object(object) => Ok(object
            .iter()
            .map(|(key, value)| {
                let value = value.as_str().map_or_else(|| plain(value), String::from);
                (key.clone(), value)
            })
            .collect()),
        Value::String(text) => from_text(text)
            .ok_or_else(|| place.wrong("an object, or a text such as key='value', other='value',")),
        _ => Err(place.wrong("an object, or a text such as key='value', other='value',")),
    }
}

/// Quotes within a value are not escaped by those who write it, so that a value may look like
/// the next entry. Where there are none it is clear what is one. Else entries are sorted by their
/// keys, and one that is not was part of a value.
fn from_text(text: &str) -> Option<Properties> {
    let plain = split(text, |_, _| true);
    let has_quotes = |all: &Properties| all.iter().any(|(_, value)| value.contains('\''));
    match plain {
        Some(plain) if !has_quotes(&plain) => Some(plain),
        _ => split(text, |key, next| next > key),
    }
}

/// Where `follows` says so of a key and the next, there is an end of an entry.
fn split(text: &str, follows: fn(&str, &str) -> bool) -> Option<Properties> {
    let mut properties = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once("='")?;
        let starts_an_entry = |rest: &str| {
            let next = rest.split_once("='").map(|(next, _)| next);
            next.is_some_and(|next| follows(key, next) && !next.contains(['\'', ' ', ',']))
        };
        let mut ends = after.match_indices("', ").map(|(at, _)| at);
        let value = match ends.find(|at| starts_an_entry(&after[at + 3..])) {
            Some(end) => &after[..end],
            None => after.strip_suffix('\'')?,
        };
        properties.push((key.to_string(), value.to_string()));
        let after = &after[value.len() + 1..];
        rest = after.strip_prefix(", ").unwrap_or(after);
    }
    Some(properties)
}

/// Whether a property makes Nova look for hosts of a kind that has to be asked for: GPUs and
/// other devices, traits, dedicated processors, large pages, aggregates of hosts, bare metal.
/// By Nova's reference of extra specs, and by the words that sites use in keys of their own.
pub(super) fn is_a_need((key, value): &(String, String)) -> bool {
    if is_turned_off(value) {
        return false;
    }
    let (key, value) = (key.to_ascii_lowercase(), value.to_ascii_lowercase());
    // `resources:VGPU`, and of Placement's groups `resources2:VGPU`, `trait_X:HW_CPU_X86_AVX2`.
    let (scope, name) = key.split_once(':').unwrap_or(("", &key));
    let group = scope.find('_').filter(|_| !scope.starts_with("pci_"));
    let kind = match group {
        Some(at) if matches!(&scope[..at], "resources" | "trait") => &scope[..at],
        _ => scope.trim_end_matches(|c: char| c.is_ascii_digit()),
    };
    match kind {
        "resources" => !matches!(name, "vcpu" | "memory_mb" | "disk_gb"),
        "trait" | "pci_passthrough" | "aggregate_instance_extra_specs" | "capabilities" => true,
        "accel" => true,
        "hw" | "os" if is_a_need_of_hardware(name, &value) => true,
        _ => is_a_need_of_a_site(&key, name, &value),
    }
}

/// Of the scopes `hw` and `os`.
fn is_a_need_of_hardware(name: &str, value: &str) -> bool {
    match name {
        "secure_boot" => value == "required",
        "pmem" | "tpm_version" | "tpm_model" | "cpu_realtime" => true,
        "mem_encryption" | "mem_encryption_model" => true,
        "cpu_policy" => matches!(value, "dedicated" | "mixed"),
        "cpu_thread_policy" => matches!(value, "require" | "isolate"),
        // Without a unit it is KiB, and 4 KiB have all hosts.
        "mem_page_size" => match value.trim_end_matches(|c: char| c.is_ascii_alphabetic()) {
            "" => value == "large",
            number => number != "4" || value.contains(['m', 'g', 't']),
        },
        _ => false,
    }
}

/// Whether one of these words is in the key or the value; `nogpu` says the opposite, and what is
/// written for people says nothing.
fn is_a_need_of_a_site(key: &str, name: &str, value: &str) -> bool {
    const WORDS: [&str; 4] = ["gpu", "dedicated", "baremetal", "ironic"];
    const NEGATIONS: [&str; 3] = ["no", "non", "without"];
    if matches!(name, "description" | "comment" | "note" | "notes") {
        return false;
    }
    let value = match value.contains(char::is_whitespace) {
        true => "",
        false => value,
    };
    let mut is_need = false;
    for text in [key, value] {
        for (at, _) in WORDS
            .iter()
            .filter_map(|word| text.match_indices(word).next())
        {
            let before = text[..at].trim_end_matches(['-', '_', '.']);
            if NEGATIONS.iter().any(|no| before.ends_with(no)) {
                return false;
            }
            is_need = true;
        }
    }
    is_need
}

fn is_turned_off(value: &str) -> bool {
    const WORDS: [&str; 9] = [
        "",
        "0",
        "no",
        "off",
        "none",
        "false",
        "disabled",
        "forbidden",
        "shared",
    ];
    WORDS.iter().any(|word| value.eq_ignore_ascii_case(word))
}

/// A property that the request asks for: `KEY`, whatever turns it on, or `KEY=VALUE`.
pub(super) struct Asked<'a>(pub(super) &'a str);

impl Asked<'_> {
    pub(super) fn is(&self, (key, value): &(String, String)) -> bool {
        self.0 == key && !is_turned_off(value)
            || self
                .0
                .strip_prefix(key.as_str())
                .and_then(|rest| rest.strip_prefix('='))
                == Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn property(key: &str, value: &str) -> (String, String) {
        (key.to_string(), value.to_string())
    }

    #[test]
    fn older_clients_write_properties_as_text() {
        let two = vec![
            property("hw:cpu_policy", "shared"),
            property("note", "it's, so to speak, a='b"),
        ];
        let text = "hw:cpu_policy='shared', note='it's, so to speak, a='b'";
        assert_eq!(from_text(text), Some(two));
        assert_eq!(from_text(""), Some(Vec::new()));
        assert_eq!(from_text("empty=''"), Some(vec![property("empty", "")]));
        let unsorted = vec![property("z", "1h"), property("a", "anna")];
        assert_eq!(from_text("z='1h', a='anna'"), Some(unsorted));
        let (note, odd) = ("it's 'quoted', k='v'\nand more", property("p", "'"));
        let text = format!("note='{note}', p='''");
        assert_eq!(from_text(&text), Some(vec![property("note", note), odd]));
        for broken in ["a", "a=b", "a='b", "a='b', c"] {
            assert_eq!(from_text(broken), None, "{broken}");
        }
    }

    #[test]
    fn gpus_traits_devices_aggregates_and_dedicated_hosts_are_needs() {
        for (key, value, expected) in [
            ("resources:VGPU", "1", true),
            ("resources1:VGPU", "1", true),
            ("resources:CUSTOM_BAREMETAL_GOLD", "1", true),
            ("resources:VCPU", "0", false),
            ("resources:PCPU", "2", true),
            ("resources_ACC:CUSTOM_FPGA", "1", true),
            ("resources_ACC:VCPU", "1", false),
            ("trait_X:HW_CPU_X86_AVX", "required", true),
            ("accel:device_profile", "a100", true),
            ("gpu:model", "a100", true),
            ("dedicated:host", "true", true),
            ("hw:cpu_policy", "mixed", true),
            ("hw:mem_encryption", "true", true),
            ("hw:numa_nodes", "2", false),
            ("hypervisor_type", "ironic", true),
            ("trait:HW_CPU_X86_AVX512F", "required", true),
            ("trait2:CUSTOM_X", "forbidden", false),
            ("pci_passthrough:alias", "a100:1", true),
            ("aggregate_instance_extra_specs:pool", "fast", true),
            ("aggregate_instance_extra_specs:ssd", "false", false),
            ("capabilities:cpu_info:features", "avx", true),
            ("hw:cpu_policy", "dedicated", true),
            ("hw:cpu_policy", "shared", false),
            ("gpu", "true", true),
            ("hw_rng:allowed", "True", false),
            ("quota:disk_read_iops_sec", "500", false),
            ("scs:name-v2", "SCS-2V-4-20", false),
            ("hw:pmem", "6GB,16GB", true),
            ("hw:pmem", "", false),
            ("hw:tpm_version", "2.0", true),
            ("hw:tpm_model", "tpm-crb", true),
            ("os:secure_boot", "required", true),
            ("os:secure_boot", "disabled", false),
            ("hw:mem_page_size", "large", true),
            ("hw:mem_page_size", "1GB", true),
            ("hw:mem_page_size", "2048", true),
            ("hw:mem_page_size", "4MiB", true),
            ("hw:mem_page_size", "small", false),
            ("hw:mem_page_size", "any", false),
            ("hw:mem_page_size", "4", false),
            ("hw:mem_page_size", "4KiB", false),
            ("hw:cpu_realtime", "yes", true),
            ("hw:cpu_realtime", "no", false),
            ("hw:cpu_realtime_mask", "^0-1", false),
            ("hw:cpu_thread_policy", "require", true),
            ("hw:cpu_thread_policy", "isolate", true),
            ("hw:cpu_thread_policy", "prefer", false),
            ("hw:emulator_threads_policy", "share", false),
            ("hw:mem_encryption", "False", false),
            ("hw:watchdog_action", "reset", false),
            ("hw:hide_hypervisor_id", "true", false),
            ("gpu", "none", false),
            ("gpu", "off", false),
            ("gpu", "nogpu", false),
            ("vgpu_type", "nvidia-35", true),
            ("hw:vgpu", "1", true),
            ("hosts", "nogpu", false),
            ("hosts", "no-gpu", false),
            ("hosts", "without_gpu", false),
            ("hosts", "gpu", true),
            ("nogpu", "true", false),
            ("description", "hosts with a gpu", false),
            ("description", "gpu", false),
            ("site:comment", "dedicated", false),
            ("what", "not on dedicated hosts", false),
        ] {
            assert_eq!(is_a_need(&property(key, value)), expected, "{key}={value}");
        }
    }

    #[test]
    fn a_property_is_asked_for_with_its_value_or_without() {
        let has = property("resources:VGPU", "1");
        for (asked, expected) in [
            ("resources:VGPU", true),
            ("resources:VGPU=1", true),
            ("resources:VGPU=2", false),
            ("resources:VGPU=", false),
            ("resources:", false),
            ("resources:VGPUS", false),
        ] {
            assert_eq!(Asked(asked).is(&has), expected, "{asked}");
        }
    }
}

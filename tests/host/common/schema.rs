//! What the program prints for other programs, against the schemas in `docs`. Each run of a
//! [`super::Machine`] and each plan is looked at, so that a field is in its schema or a test fails.

use std::fs;

use boon::{Compiler, Schemas};
use serde_json::Value;

/// What has a schema, by command.
pub const COMMANDS: [&str; 6] = ["check", "metadata", "plan", "probe", "seal", "status"];

/// What is wrong with this document of a command's.
pub fn fault(command: &str, document: &Value) -> Option<String> {
    let sources = env!("CARGO_MANIFEST_DIR");
    let file = format!("{sources}/docs/{command}.schema.json");
    let schema = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
    let place = format!("file:///{command}.schema.json");
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    let schema = serde_json::from_str(&schema).unwrap_or_else(|e| panic!("{file}: {e}"));
    compiler.add_resource(&place, schema).unwrap();
    let schema = compiler.compile(&place, &mut schemas);
    let schema = schema.unwrap_or_else(|e| panic!("{file}: {e:#}"));
    let fault = schemas.validate(document, schema).err()?;
    Some(format!("docs/{command}.schema.json: {fault:#}"))
}

#[track_caller]
pub fn conforms(command: &str, document: &Value) {
    if let Some(fault) = fault(command, document) {
        panic!("{fault}\n{document:#}");
    }
}

/// Looks at the output of a run with `--format json`; at no other.
#[track_caller]
pub fn look_at(arguments: &[&str], stdout: &str) {
    let is_json = arguments.windows(2).any(|two| two == ["--format", "json"]);
    let command = COMMANDS.iter().find(|name| arguments.contains(name));
    if let Some(command) = command.filter(|_| is_json && !stdout.is_empty()) {
        let document = serde_json::from_str(stdout);
        conforms(
            command,
            &document.unwrap_or_else(|e| panic!("{e}: {stdout}")),
        );
    }
}

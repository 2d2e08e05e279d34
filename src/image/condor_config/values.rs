//! What names of HTCondor's configuration are set to.

use super::line::in_brackets;
use super::{Configuration, Setting};

/// Macros in one value, those in their values among them.
const MOST_MACROS: usize = 100;
const LONGEST_VALUE: usize = 4096;

impl Configuration {
    /// What a name is set to, with the values of all macros in it.
    ///
    /// # Errors
    ///
    /// Why that cannot be told.
    pub(crate) fn value(&self, name: &str) -> Result<String, String> {
        let place = self.last(name, self.settings.len())?;
        let place = place.ok_or_else(|| format!("{name} is not set in its files"))?;
        self.value_at(place)
    }

    /// Likewise, of one setting by its place in the list.
    ///
    /// # Errors
    ///
    /// Those of [`Configuration::value`].
    pub(crate) fn value_at(&self, place: usize) -> Result<String, String> {
        self.expand(&self.settings[place].value, Some(place), &mut 0)
    }

    /// Where a name is set last, before a place in the list.
    pub(super) fn last(&self, name: &str, before: usize) -> Result<Option<usize>, String> {
        let named = |setting: &Setting| setting.name == name;
        let place = self.settings[..before].iter().rposition(named);
        match place.map(|place| &self.settings[place]) {
            Some(setting) if !setting.is_certain => Err(format!(
                "whether {name} is set at {}, a condition decides",
                setting.place
            )),
            _ => Ok(place),
        }
    }

    /// Puts in the values of macros. One that stands in its own value is that of before.
    pub(super) fn expand(
        &self,
        text: &str,
        of: Option<usize>,
        macros: &mut usize,
    ) -> Result<String, String> {
        let mut whole = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('$') {
            whole += before;
            let function = behind.trim_start_matches(|c: char| c.is_ascii_alphabetic() || c == '_');
            let Some((inner, after)) = behind.strip_prefix('(').and_then(in_brackets) else {
                if function.starts_with(['(', '$']) {
                    return Err(format!("${behind} is not worked out here"));
                }
                whole.push('$');
                rest = behind;
                continue;
            };
            *macros += 1;
            if *macros > MOST_MACROS || whole.len() > LONGEST_VALUE {
                return Err("there are too many macros in it".into());
            }
            let (name, default) = match inner.split_once(':') {
                Some((name, default)) => (name, Some(default)),
                None => (inner, None),
            };
            let name = name.trim().to_ascii_uppercase();
            let own = of.filter(|own| self.settings[*own].name == name);
            let before = own.unwrap_or(self.settings.len());
            whole += &match (self.last(&name, before)?, default) {
                (Some(place), _) => {
                    self.expand(&self.settings[place].value, Some(place), macros)?
                }
                (None, Some(default)) => self.expand(default, of, macros)?,
                (None, None) if own.is_some() => String::new(),
                (None, None) => return Err(format!("$({name}) is not set in its files")),
            };
            rest = after;
        }
        Ok(whole + rest)
    }
}

//! What is put into the words of a script: the values of its variables, as far as it says them,
//! and what commands print.

use super::lexer::{UNKNOWN, VARIABLE, VARIABLE_END};
use super::{MOST_VARIABLES, Parser, Simple};

// What goes beyond these is not understood.
const MOST_VALUES: usize = 32;
const LONGEST_VALUE: usize = 4096;

impl Simple {
    /// What other shells are given, whose output is put into its words: `(date)`.
    pub(crate) fn substituted(&self) -> impl Iterator<Item = &str> {
        let words = self.words.iter();
        words.flat_map(|word| word.split(UNKNOWN).skip(1))
    }
}

impl Parser<'_> {
    pub(super) fn assign(&mut self, name: &str, value: &str, runs: Option<bool>) {
        let values = self.expanded(value);
        let count = self.variables.len();
        let known = self.variables.iter_mut().find(|(known, _)| known == name);
        match known {
            Some((_, known)) if runs == Some(true) => *known = values,
            Some((_, known)) if known.len() < MOST_VALUES => known.extend(values),
            None if count < MOST_VARIABLES => self.variables.push((name.into(), values)),
            _ => {}
        }
    }

    /// A word with the values of the variables in it, one for each combination.
    pub(super) fn expanded(&mut self, word: &str) -> Vec<String> {
        let mut values = vec![String::new()];
        let mut rest = word;
        while let Some((text, after)) = rest.split_once(VARIABLE) {
            if values.iter().any(|value| value.len() > LONGEST_VALUE) {
                self.is_known = false;
                return vec![UNKNOWN.into()];
            }
            let (name, after) = after.split_once(VARIABLE_END).unwrap_or((after, ""));
            rest = after;
            let mut loops = self
                .levels
                .iter()
                .rev()
                .filter_map(|level| level.variable.as_ref());
            let of_loop = loops.find(|(known, _)| known == name);
            self.is_known &= of_loop.is_some();
            let known = of_loop.or_else(|| self.variables.iter().find(|(known, _)| known == name));
            let unknown = [UNKNOWN.to_string()];
            let new = known.map_or(&unknown[..], |(_, values)| values);
            let new = match values.len() * new.len() > MOST_VALUES {
                true => &unknown[..],
                false => new,
            };
            let each = |value: &String| {
                let begin = format!("{value}{text}");
                new.iter().map(move |new| begin.clone() + new)
            };
            values = values.iter().flat_map(each).collect();
        }
        self.is_known &= !rest.contains(UNKNOWN);
        values.iter_mut().for_each(|value| value.push_str(rest));
        values
    }
}

//! A script's functions, and which are called.

use super::lexer::Token;
use super::{Parser, Simple, Statement};
use crate::order::sort_by;

impl Parser<'_> {
    /// `()` after a name defines a function, `(` alone opens a subshell.
    pub(super) fn is_next(&self, operator: &str) -> bool {
        let next = self.tokens.get(self.at);
        matches!(next, Some((_, Token::Operator(next))) if *next == operator)
    }

    pub(super) fn is_in_function(&self) -> bool {
        self.levels.iter().any(|level| level.function.is_some())
    }
}

impl Statement {
    /// The statements as they run: without the commands of functions that nobody calls. What a
    /// function does is certain where a call of it is. A call has no line that could be taken out.
    pub(super) fn settled(
        mut statements: Vec<Statement>,
        mut functions: Vec<String>,
        is_whole: bool,
    ) -> Vec<Statement> {
        sort_by(&mut functions, String::cmp);
        functions.dedup();
        let commands = || statements.iter().flat_map(|statement| &statement.commands);
        let is_named = |name: &String| commands().any(|command| command.words.contains(name));
        let (named, unused): (Vec<String>, Vec<String>) = functions.into_iter().partition(is_named);
        let certain = certainly_called(&statements, &named);
        for at in 0..statements.len() {
            let is_asked_for = statements.get(at + 1).is_some_and(|s| s.asks_for_exit_code);
            let statement = &mut statements[at];
            let is_call = |command: &Simple| {
                let name = command.words.first();
                name.is_some_and(|name| named.contains(name))
            };
            statement.is_simple &= is_whole && !is_asked_for;
            statement.is_simple &= !statement.commands.iter().any(is_call);
            let is_of = |command: &Simple, functions: &[String]| {
                let function = command.function.as_ref();
                function.is_some_and(|function| functions.contains(function))
            };
            statement
                .commands
                .retain(|command| !is_of(command, &unused));
            for command in &mut statement.commands {
                let is_certain = command.function.is_none() || is_of(command, &certain);
                command.runs = command.runs.filter(|runs| !runs || is_certain);
            }
        }
        statements
    }
}

/// Those that run whatever happens: called by a command that does, which may be in another such
/// function.
fn certainly_called(statements: &[Statement], functions: &[String]) -> Vec<String> {
    let mut certain: Vec<String> = Vec::new();
    loop {
        let before = certain.len();
        for command in statements.iter().flat_map(|statement| &statement.commands) {
            let (Some(true), Some(name)) = (command.runs, command.words.first()) else {
                continue;
            };
            let caller = command.function.as_ref();
            let runs = caller.is_none_or(|caller| certain.contains(caller));
            if runs && functions.contains(name) && !certain.contains(name) {
                certain.push(name.clone());
            }
        }
        if certain.len() == before {
            return certain;
        }
    }
}

//! The simple commands of a shell script: which of them run, and whose lines are whose. As much
//! of sh(1) is understood as scripts of `rc.local`'s kind are written in; nothing is run.

mod functions;
mod lexer;
mod variables;

use std::mem::take;
use std::ops::RangeInclusive;

use lexer::{Token, UNKNOWN, assignment, is_errexit};

/// Whole lines that belong together: up to the end of a line at which nothing is open.
pub(crate) struct Statement {
    /// Counted from 1.
    pub lines: RangeInclusive<usize>,
    pub commands: Vec<Simple>,
    /// Nothing but simple commands, one after the other or for each word of a list, in a script
    /// that was understood to its end. Nobody asks how they ended.
    pub is_simple: bool,
    asks_for_exit_code: bool,
}

/// A simple command.
pub(crate) struct Simple {
    pub line: usize,
    /// Without quotes. A word with the variable of a loop is there once for each value.
    pub words: Vec<String>,
    /// Where it runs, if the script says so; relative to `/` at first.
    pub directory: String,
    /// None if that depends on what is not known.
    pub runs: Option<bool>,
    /// The words of the command whose output it reads.
    pub piped_from: Vec<String>,
    function: Option<String>,
}

/// What a command comes to, success or failure, where that is known.
pub(crate) type Outcome<'a> = &'a dyn Fn(&Simple) -> Option<bool>;

/// The statements of a script. What is below an `exit`, and in a function that nobody calls, is
/// left out.
pub(crate) fn statements(script: &str, outcome: Outcome) -> Vec<Statement> {
    let (tokens, is_whole) = lexer::tokens(script);
    let mut parser = Parser {
        outcome,
        tokens,
        at: 0,
        levels: Vec::new(),
        variables: Vec::new(),
        directory: "/".into(),
        has_ended: false,
        ends_by_failure: script.lines().next().is_some_and(|line| {
            line.starts_with("#!") && line.split(' ').skip(1).any(|word| is_errexit(word, '-'))
        }),
        words: Vec::new(),
        line: 1,
        before: "",
        before_pipe: "",
        is_negated: false,
        is_known: true,
        value: None,
        function: None,
        functions: Vec::new(),
        ending: Vec::new(),
        statement: Statement::new(),
        first_line: None,
        statements: Vec::new(),
    };
    parser.parse();
    let is_whole = is_whole && parser.levels.is_empty();
    Statement::settled(parser.statements, parser.functions, is_whole)
}

impl Statement {
    fn new() -> Statement {
        Statement {
            lines: 0..=0,
            commands: Vec::new(),
            is_simple: true,
            asks_for_exit_code: false,
        }
    }
}

/// A compound command that is open.
struct Level {
    kind: Kind,
    /// Whether the commands at this place of it run.
    runs: Option<bool>,
    /// Of an `if`: whether what is after the branches before this one runs.
    otherwise: Option<bool>,
    /// A loop's variable with its values.
    variable: Option<(String, Vec<String>)>,
    function: Option<String>,
    /// Where the commands before it ran.
    directory: String,
    expects_pattern: bool,
    /// A loop whose condition always holds, and that nothing leaves.
    is_endless: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    If,
    For,
    While,
    Until,
    Case,
    Braces,
    Subshell,
}

struct Parser<'a> {
    outcome: Outcome<'a>,
    tokens: Vec<(usize, Token)>,
    at: usize,
    levels: Vec<Level>,
    variables: Vec<(String, Vec<String>)>,
    directory: String,
    /// After an `exit` that always runs, a failure with `set -e`, or a loop without end.
    has_ended: bool,
    /// `set -e`
    ends_by_failure: bool,
    /// Of the command that is being read, and its line.
    words: Vec<String>,
    line: usize,
    /// The operator before that command.
    before: &'static str,
    /// That before the first command of a pipe.
    before_pipe: &'static str,
    is_negated: bool,
    /// No word of the statement depends on a variable of elsewhere.
    is_known: bool,
    /// What the commands that are joined by operators have come to.
    value: Option<bool>,
    /// The name of one that is about to be defined.
    function: Option<String>,
    /// Those that are defined.
    functions: Vec<String>,
    /// Those of them that end the script.
    ending: Vec<String>,
    statement: Statement,
    /// The line on which it begins.
    first_line: Option<usize>,
    statements: Vec<Statement>,
}

impl Parser<'_> {
    fn parse(&mut self) {
        while let Some((line, token)) = self.tokens.get_mut(self.at) {
            let line = *line;
            let token = take(token);
            self.at += 1;
            if !matches!(token, Token::Operator("\n")) {
                self.first_line.get_or_insert(line);
            }
            match token {
                Token::Word(text) => self.word(line, text),
                Token::Operator(operator) => self.operator(line, operator),
                Token::Redirection => {
                    self.statement.is_simple = false;
                    // Where to.
                    if matches!(self.tokens.get(self.at), Some((_, Token::Word(_)))) {
                        self.at += 1;
                    }
                }
            }
        }
        self.end_command("\n");
        self.end_statement(self.line);
    }

    fn next_word(&mut self) -> Option<String> {
        let Some((_, Token::Word(text))) = self.tokens.get_mut(self.at) else {
            return None;
        };
        self.at += 1;
        Some(take(text))
    }

    fn word(&mut self, line: usize, text: String) {
        if let Some(level) = self.levels.last_mut()
            && level.expects_pattern
        {
            match text.as_str() {
                "esac" => self.close(),
                // A first pattern that fits everything is no condition.
                "*" => level.runs = level.otherwise,
                _ => (level.runs, level.otherwise) = (None, None),
            }
            return;
        }
        if !self.words.is_empty() {
            self.words.push(text);
            return;
        }
        self.line = line;
        match text.as_str() {
            "!" => self.is_negated = !self.is_negated,
            "if" => self.open(Kind::If, Some(true)),
            "then" | "elif" | "else" => {
                let value = self.value;
                if let Some(level) = self.levels.last_mut() {
                    level.runs = level.otherwise;
                    if text == "then" {
                        level.runs = both(level.otherwise, value);
                        level.otherwise = both(level.otherwise, value.map(|value| !value));
                    }
                }
            }
            "while" => self.open(Kind::While, Some(true)),
            "until" => self.open(Kind::Until, Some(true)),
            "for" | "select" => self.open_for(),
            "do" => {
                if let Some(level) = self.levels.last_mut()
                    && matches!(level.kind, Kind::While | Kind::Until)
                {
                    let goes_on = self.value == Some(level.kind == Kind::While);
                    level.is_endless = goes_on && level.runs == Some(true);
                    level.runs = None;
                }
            }
            "{" => self.open(Kind::Braces, Some(true)),
            "case" => {
                self.open(Kind::Case, Some(true));
                while self.next_word().is_some_and(|word| word != "in") {}
                self.expect_pattern(true);
            }
            "function" => self.function = self.next_word(),
            "fi" | "done" | "esac" | "}" => self.close(),
            _ => self.words.push(text),
        }
    }

    fn operator(&mut self, line: usize, operator: &'static str) {
        if self
            .levels
            .last()
            .is_some_and(|level| level.expects_pattern)
        {
            if operator == ")" {
                self.expect_pattern(false);
            }
            return;
        }
        let is_condition = self.words.first().is_some_and(|word| word == "[[");
        if is_condition && operator != "\n" && !self.words.iter().any(|word| word == "]]") {
            self.words.push(operator.into());
            return;
        }
        match operator {
            "(" if self.words.is_empty() && !self.is_next(")") => {
                self.open(Kind::Subshell, Some(true));
            }
            "(" => {
                self.statement.is_simple = false;
                let end = |(_, token): &(usize, Token)| matches!(token, Token::Operator(")"));
                let end = self.tokens[self.at..].iter().position(end);
                // Else it is an array, with its values.
                if end == Some(0) && self.function.is_none() {
                    self.function = self.words.pop();
                }
                self.at = end.map_or(self.tokens.len(), |end| self.at + end + 1);
            }
            ")" => {
                self.end_command(";");
                self.close();
            }
            ";;" => {
                self.end_command(";");
                self.expect_pattern(true);
            }
            "\n" if self.words.is_empty() && ["&&", "||", "|"].contains(&self.before) => {}
            _ => {
                self.end_command(operator);
                if operator == "\n" && self.levels.is_empty() && self.function.is_none() {
                    self.end_statement(line);
                }
            }
        }
    }

    fn expect_pattern(&mut self, expects: bool) {
        if let Some(level) = self.levels.last_mut()
            && level.kind == Kind::Case
        {
            level.expects_pattern = expects;
        }
    }

    fn open(&mut self, kind: Kind, runs: Option<bool>) {
        let function = self.function.take();
        if self.functions.len() < MOST_VARIABLES {
            self.functions.extend(function.clone());
        }
        // A function joins what it is after. Within it all is as if it were called.
        let runs = match function {
            Some(_) => runs,
            None => both(runs, self.is_reached()),
        };
        self.statement.is_simple &= kind == Kind::For && self.levels.is_empty();
        self.statement.is_simple &= !["&&", "||", "|"].contains(&self.before);
        self.levels.push(Level {
            kind,
            runs,
            otherwise: runs,
            variable: None,
            function,
            directory: self.directory.clone(),
            expects_pattern: false,
            is_endless: false,
        });
        self.before = "";
        self.is_negated = false;
        if self.levels.len() > MOST_LEVELS {
            self.at = self.tokens.len();
        }
    }

    fn open_for(&mut self) {
        let Some(name) = self.next_word() else {
            return self.open(Kind::For, None);
        };
        let mut values = Vec::new();
        if self.next_word().is_some_and(|word| word == "in") {
            while let Some(word) = self.next_word() {
                values.extend(self.expanded(&word));
            }
        } else {
            self.is_known = false;
        }
        let is_list = !values.is_empty() && !values.iter().any(|value| value.contains(UNKNOWN));
        self.open(Kind::For, is_list.then_some(true));
        if let Some(level) = self.levels.last_mut() {
            level.variable = Some((name, values));
        }
    }

    fn close(&mut self) {
        self.end_command(";");
        if let Some(level) = self.levels.pop() {
            let is_joined = self.is_next("&") || self.is_next("|");
            self.has_ended |= level.is_endless && self.levels.is_empty() && !is_joined;
            if level.kind == Kind::Subshell || level.function.is_some() {
                self.directory = level.directory;
            }
        }
        self.value = None;
    }

    /// Whether what comes next in a list of commands is reached.
    fn is_reached(&self) -> Option<bool> {
        match self.before {
            "&&" => self.value,
            "||" => self.value.map(|value| !value),
            _ => Some(true),
        }
    }

    fn end_command(&mut self, operator: &'static str) {
        let words = take(&mut self.words);
        let is_joined = |operator| ["&&", "||", "|", "&"].contains(&operator);
        self.statement.is_simple &= !is_joined(operator) && !is_joined(self.before);
        self.statement.is_simple &= !self.is_negated;
        if !words.is_empty() {
            self.command(&words, operator);
        }
        self.before = operator;
        // What is negated is the exit code of a whole pipe.
        self.is_negated &= operator == "|";
    }

    fn command(&mut self, raw: &[String], operator: &'static str) {
        let asks = |word: &String| word.contains(lexer::EXIT_CODE);
        self.statement.asks_for_exit_code |= raw.iter().any(asks);
        let assignments = raw
            .iter()
            .take_while(|word| assignment(word).is_some())
            .count();
        let levels = self.levels.iter().map(|level| level.runs);
        let runs = levels.fold(self.is_reached(), both);
        for word in raw {
            if let Some((name, value)) = assignment(word)
                && (assignments == raw.len() || ["export", "readonly"].contains(&raw[0].as_str()))
            {
                self.statement.is_simple = false;
                self.assign(name, value, runs.filter(|_| !self.is_in_function()));
            }
        }
        let mut words = Vec::new();
        // Where there is nothing else, they may run something: `x=$(…)`.
        let from = if assignments < raw.len() {
            assignments
        } else {
            0
        };
        for word in &raw[from..] {
            words.extend(self.expanded(word));
        }
        self.statement.is_simple &= assignments == 0 && self.is_known;
        let mut functions = self.levels.iter().rev();
        let is_reader = self.before == "|";
        let writer = self.statement.commands.last().filter(|_| is_reader);
        let command = Simple {
            piped_from: writer.map_or(Vec::new(), |writer| writer.words.clone()),
            line: self.line,
            words,
            directory: self.directory.clone(),
            runs,
            function: functions.find_map(|level| level.function.clone()),
        };
        if !is_reader {
            self.before_pipe = self.before;
        }
        let is_piped = is_reader || operator == "|";
        let own = (self.outcome)(&command).filter(|_| operator != "|" && assignments < raw.len());
        let has_failed = own == Some(false) && !self.is_negated && self.ends_by_failure;
        let own = own.map(|own| own != self.is_negated);
        self.value = match (self.before_pipe, self.value) {
            ("&&", Some(false)) => Some(false),
            ("||", Some(true)) => Some(true),
            ("&&" | "||", None) => None,
            _ => own,
        };
        let name = command.words.first().map_or("", String::as_str);
        let option = command.words.get(1).map_or("", String::as_str);
        match name {
            "cd" | "pushd" if option.starts_with('/') => self.directory = option.into(),
            // Home, back or up: not there any more.
            "cd" | "pushd" | "popd" if ["", "-"].contains(&option) || option.contains("..") => {
                self.directory = "/".into();
            }
            "cd" | "pushd" => {
                self.directory = format!("{}/{option}", self.directory.trim_end_matches('/'));
            }
            "set" if is_errexit(option, '-') => self.ends_by_failure = true,
            "set" if is_errexit(option, '+') => self.ends_by_failure = false,
            "break" if runs != Some(false) => {
                self.levels
                    .iter_mut()
                    .for_each(|level| level.is_endless = false);
            }
            _ => {}
        }
        let is_asked = ["&&", "||"].contains(&operator) || !self.levels.is_empty();
        let is_end = name == "exit" || self.ending.iter().any(|ending| ending == name);
        let ends = is_end || name == "exec" && command.words.len() > 1;
        let ends = ends && !is_piped || has_failed && !is_asked;
        let returns = ends || name == "return" && !is_piped;
        if !self.has_ended {
            self.statement.commands.push(command);
        }
        let function = self
            .levels
            .iter()
            .rposition(|level| level.function.is_some());
        let inner = &self.levels[function.map_or(0, |at| at + 1)..];
        let is_here = operator != "&" && inner.iter().all(|level| level.kind != Kind::Subshell);
        match function {
            _ if !is_here || runs != Some(true) => {}
            Some(at) if returns => {
                let level = &mut self.levels[at];
                level.runs = Some(false);
                let ends = ends && level.kind != Kind::Subshell;
                self.ending.extend(level.function.clone().filter(|_| ends));
            }
            Some(_) => {}
            None => self.has_ended |= ends,
        }
    }

    fn end_statement(&mut self, line: usize) {
        let mut done = std::mem::replace(&mut self.statement, Statement::new());
        let first = self.first_line.take();
        self.is_known = true;
        self.before = "";
        if !done.commands.is_empty() {
            done.lines = first.unwrap_or(line)..=line;
            self.statements.push(done);
        }
    }
}

// What goes beyond these is not understood: a script can be made to have no end.
const MOST_VARIABLES: usize = 256;
const MOST_LEVELS: usize = 64;

/// Of two conditions that both have to hold.
fn both(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

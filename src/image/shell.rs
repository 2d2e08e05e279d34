//! The simple commands of a shell script: which of them run, and whose lines are whose. As much
//! of sh(1) is understood as scripts of `rc.local`'s kind are written in; nothing is run.

mod lexer;

use std::mem::take;
use std::ops::RangeInclusive;

use lexer::{Token, UNKNOWN, VARIABLE, VARIABLE_END, assignment};

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
        words: Vec::new(),
        line: 1,
        before: "",
        is_negated: false,
        is_known: true,
        value: None,
        function: None,
        functions: Vec::new(),
        statement: Statement::new(),
        first_line: None,
        statements: Vec::new(),
    };
    parser.parse();
    let is_whole = is_whole && parser.levels.is_empty();
    let mut statements = parser.statements;
    let mut functions = parser.functions;
    for command in statements.iter().flat_map(|statement| &statement.commands) {
        for (name, is_called) in &mut functions {
            *is_called |= command.words.contains(name);
        }
    }
    let is_unused = |name: &String| functions.contains(&(name.clone(), false));
    for at in 0..statements.len() {
        let is_asked_for = statements.get(at + 1).is_some_and(|s| s.asks_for_exit_code);
        let statement = &mut statements[at];
        statement.is_simple &= is_whole && !is_asked_for;
        statement.commands.retain(|command| {
            let function = command.function.as_ref();
            !function.is_some_and(is_unused)
        });
    }
    statements
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
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    If,
    For,
    While,
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
    /// After an `exit` that always runs.
    has_ended: bool,
    /// Of the command that is being read, and its line.
    words: Vec<String>,
    line: usize,
    /// The operator before that command.
    before: &'static str,
    is_negated: bool,
    /// No word of the statement depends on a variable of elsewhere.
    is_known: bool,
    /// What the commands that are joined by operators have come to.
    value: Option<bool>,
    /// The name of one that is about to be defined.
    function: Option<String>,
    /// Those that are defined, and whether anything calls them.
    functions: Vec<(String, bool)>,
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
            if text == "esac" {
                self.close();
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
            "while" | "until" => self.open(Kind::While, Some(true)),
            "for" | "select" => self.open_for(),
            "do" => {
                if let Some(level) = self.levels.last_mut()
                    && level.kind == Kind::While
                {
                    level.runs = None;
                }
            }
            "{" => self.open(Kind::Braces, Some(true)),
            "case" => {
                self.open(Kind::Case, None);
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
            "(" if self.words.is_empty() && self.function.is_none() => {
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
            let new = function.iter().map(|name| (name.clone(), false));
            self.functions.extend(new);
        }
        // It joins what it is after, and runs if it is called.
        let runs = match function {
            Some(_) => None,
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
        if let Some(level) = self.levels.pop()
            && level.kind == Kind::Subshell
        {
            self.directory = level.directory;
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
        self.is_negated = false;
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
                self.assign(name, value, runs);
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
        let command = Simple {
            line: self.line,
            words,
            directory: self.directory.clone(),
            runs,
            function: functions.find_map(|level| level.function.clone()),
        };
        let is_piped = self.before == "|" || operator == "|";
        let own = (self.outcome)(&command).filter(|_| !is_piped && assignments < raw.len());
        let own = own.map(|own| own != self.is_negated);
        self.value = match (self.before, self.value) {
            ("&&", Some(false)) => Some(false),
            ("||", Some(true)) => Some(true),
            ("&&" | "||", None) => None,
            _ => own,
        };
        let name = command.words.first().map_or("", String::as_str);
        if let ("cd" | "pushd", Some(to)) = (name, command.words.get(1)) {
            self.directory = match to.starts_with('/') {
                true => to.clone(),
                false => format!("{}/{to}", self.directory.trim_end_matches('/')),
            };
        }
        let is_for_good = |level: &Level| level.kind == Kind::Braces && level.function.is_none();
        let is_joined = is_piped || operator == "&" || ["&&", "||"].contains(&self.before);
        let ends = name == "exit" || name == "exec" && command.words.len() > 1;
        if !self.has_ended {
            self.statement.commands.push(command);
        }
        self.has_ended |= ends && !is_joined && self.levels.iter().all(is_for_good);
    }

    fn assign(&mut self, name: &str, value: &str, runs: Option<bool>) {
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
    fn expanded(&mut self, word: &str) -> Vec<String> {
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
const MOST_VALUES: usize = 32;
const LONGEST_VALUE: usize = 4096;
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

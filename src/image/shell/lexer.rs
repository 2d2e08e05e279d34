//! The words and operators of a shell script.

use std::iter::Peekable;
use std::str::Chars;

/// Around the name of a variable, in a word.
pub(super) const VARIABLE: char = '\u{1}';
pub(super) const VARIABLE_END: char = '\u{2}';
/// Before what only a running shell knows.
pub(super) const UNKNOWN: char = '\u{3}';
/// `$?`
pub(super) const EXIT_CODE: &str = "\u{3}?";

#[derive(Default)]
pub(super) enum Token {
    /// Without quotes, and with marks where a variable or a command is put in.
    Word(String),
    /// Also the end of a line.
    Operator(&'static str),
    /// Where to is the word after it.
    #[default]
    Redirection,
}

/// All of a script, each with its line, and whether it was whole: no quote is open at its end,
/// and no document.
pub(super) fn tokens(script: &str) -> (Vec<(usize, Token)>, bool) {
    let mut lexer = Lexer {
        chars: script.chars().peekable(),
        line: 1,
        word: None,
        word_line: 1,
        is_end_of_document: false,
        documents: Vec::new(),
        is_whole: true,
        tokens: Vec::new(),
    };
    lexer.read();
    (lexer.tokens, lexer.is_whole)
}

/// `NAME=value`
pub(super) fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let is_name = !name.is_empty() && name.chars().all(is_of_a_name);
    (is_name && !name.starts_with(|c: char| c.is_ascii_digit())).then_some((name, value))
}

/// Whether a word of `set` has a script end at the first failure, or no longer.
pub(super) fn is_errexit(word: &str, sign: char) -> bool {
    let options = word.strip_prefix(sign);
    options.is_some_and(|options| !options.starts_with('-') && options.contains('e'))
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

struct Lexer<'a> {
    chars: Peekable<Chars<'a>>,
    line: usize,
    word: Option<String>,
    word_line: usize,
    /// Whether the next word is that which ends a document.
    is_end_of_document: bool,
    /// The words that end the documents which begin on the next line.
    documents: Vec<String>,
    is_whole: bool,
    tokens: Vec<(usize, Token)>,
}

const OPERATORS: [&str; 9] = ["&&", "||", ";;", ";", "&", "|", "(", ")", "\n"];

impl Lexer<'_> {
    fn read(&mut self) {
        while let Some(c) = self.chars.peek().copied() {
            match c {
                ' ' | '\t' | '\r' => {
                    self.end_word();
                    self.chars.next();
                }
                '#' if self.word.is_none() => while self.chars.next_if(|c| *c != '\n').is_some() {},
                '<' | '>' => self.redirection(),
                ';' | '&' | '|' | '(' | ')' | '\n' => self.operator(),
                '\\' => {
                    self.chars.next();
                    match self.next() {
                        Some('\n') | None => {}
                        Some(c) => self.put(c),
                    }
                }
                '\'' => {
                    self.chars.next();
                    let text = self.until('\'');
                    self.put_all(&text);
                }
                '"' => self.double_quotes(),
                '$' | '`' => self.expansion(),
                c => {
                    self.chars.next();
                    self.put(c);
                }
            }
        }
        self.end_word();
        self.is_whole &= self.documents.is_empty();
    }

    /// The next character, its end of a line counted.
    fn next(&mut self) -> Option<char> {
        let c = self.chars.next()?;
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn put(&mut self, c: char) {
        if self.word.is_none() {
            self.word_line = self.line;
        }
        self.word.get_or_insert_default().push(c);
    }

    fn put_all(&mut self, text: &str) {
        self.word.get_or_insert_default().push_str(text);
    }

    /// Up to a character that is taken as well.
    fn until(&mut self, end: char) -> String {
        if self.word.is_none() {
            self.word_line = self.line;
        }
        let mut text = String::new();
        loop {
            match self.next() {
                Some(c) if c == end => return text,
                Some(c) => text.push(c),
                None => {
                    self.is_whole = false;
                    return text;
                }
            }
        }
    }

    fn double_quotes(&mut self) {
        self.chars.next();
        self.put_all("");
        loop {
            match self.chars.peek().copied() {
                Some('"') => {
                    self.chars.next();
                    return;
                }
                Some('$' | '`') => self.expansion(),
                Some('\\') => {
                    self.chars.next();
                    match self.next() {
                        Some('\n') | None => {}
                        Some(c) => self.put(c),
                    }
                }
                Some(_) => {
                    let c = self.next().unwrap_or_default();
                    self.put(c);
                }
                None => {
                    self.is_whole = false;
                    return;
                }
            }
        }
    }

    /// `$NAME`, `${NAME}`, and what is not known: `$?`, `$(date)`.
    fn expansion(&mut self) {
        let is_command = self.chars.next() == Some('`');
        let begin = self.chars.peek().copied().unwrap_or(' ');
        let text = if is_command {
            self.until('`')
        } else if begin == '(' {
            self.parentheses()
        } else if begin == '{' {
            self.chars.next();
            self.until('}')
        } else if is_of_a_name(begin) {
            let mut name = String::new();
            while let Some(c) = self.chars.next_if(|c| is_of_a_name(*c)) {
                name.push(c);
            }
            name
        } else if "?#@*!-$".contains(begin) {
            self.chars.next();
            begin.into()
        } else {
            return self.put('$');
        };
        let is_name = !is_command && begin != '(' && text.chars().all(is_of_a_name);
        if is_name && !text.starts_with(|c: char| c.is_ascii_digit()) {
            self.put(VARIABLE);
            self.put_all(&text);
            self.put(VARIABLE_END);
        } else {
            self.put(UNKNOWN);
            self.put_all(&text);
        }
    }

    fn parentheses(&mut self) -> String {
        let mut text = String::new();
        let mut depth = 0;
        while let Some(c) = self.next() {
            text.push(c);
            depth += i32::from(c == '(') - i32::from(c == ')');
            if depth == 0 {
                return text;
            }
        }
        self.is_whole = false;
        text
    }

    fn redirection(&mut self) {
        // The number of a descriptor.
        let is_number = |word: &String| word.bytes().all(|byte| byte.is_ascii_digit());
        if self.word.as_ref().is_some_and(is_number) {
            self.word = None;
        }
        self.end_word();
        let mut sign = String::new();
        while let Some(c) = self.chars.next_if(|c| "<>&|".contains(*c)) {
            sign.push(c);
        }
        if sign == "<<" {
            self.chars.next_if_eq(&'-');
            self.is_end_of_document = true;
        }
        self.tokens.push((self.line, Token::Redirection));
    }

    fn operator(&mut self) {
        self.end_word();
        let Some(first) = self.chars.next() else {
            return;
        };
        let mut text = String::from(first);
        if ";&|".contains(first) {
            text.extend(self.chars.next_if_eq(&first));
        }
        if text == "&" && self.chars.next_if_eq(&'>').is_some() {
            self.chars.next_if_eq(&'>');
            self.tokens.push((self.line, Token::Redirection));
            return;
        }
        let known = OPERATORS.iter().find(|operator| **operator == text);
        let token = Token::Operator(known.copied().unwrap_or(";"));
        self.tokens.push((self.line, token));
        if first == '\n' {
            self.line += 1;
            self.skip_documents();
        }
    }

    fn skip_documents(&mut self) {
        while let (Some(end), Some(_)) = (self.documents.first(), self.chars.peek()) {
            let end = end.clone();
            let mut line = String::new();
            while let Some(c) = self.next().filter(|c| *c != '\n') {
                line.push(c);
            }
            if line.trim() == end {
                self.documents.remove(0);
            }
        }
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else {
            return;
        };
        if std::mem::take(&mut self.is_end_of_document) {
            // Else it is a shift in arithmetic.
            let is_end =
                word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '!');
            self.documents.extend(is_end.then(|| word.clone()));
        }
        self.tokens.push((self.word_line, Token::Word(word)));
    }
}

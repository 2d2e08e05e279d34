//! The EC2 metadata service: identity, and what ends an instance (EC2 User Guide, "Use instance
//! metadata", "Spot Instance interruption notices", "Scheduled events for your instances"; EC2
//! Auto Scaling User Guide, "Retrieve the target lifecycle state through instance metadata").
//!
//! A session token is asked for first (IMDSv2). Where there is none to be had (Nova answers 404,
//! a plain HTTP server 501) everything is asked for without one.

mod parts;
pub mod said;

use std::time::{Duration, Instant};

use parts::{LIFECYCLE, NOTICES, PLANS, Part, SPOT, Turn};

use super::portion::Portion;
use super::{Answer, Instance, NoAnswer};
use crate::deadline::first_boot;
use crate::deadline::ledger::About;
use crate::deadline::limit::{Limit, When};
use crate::http::{Cause, Client, Failure};
use crate::text;

/// A session lasts as long as it may: six hours.
const TOKEN_SECONDS: &str = "21600";

/// An id that the service gave.
struct Id {
    text: String,
    /// So many answers in succession had it.
    answers: u32,
}

impl Id {
    /// It is not asked for again.
    fn is_confirmed(&self) -> bool {
        self.answers >= 2
    }
}

/// What was said of the instance's end since it was asked about last.
#[derive(Default)]
struct Round {
    limits: Vec<Limit>,
    /// The keys of which something was said.
    keys: Vec<String>,
    /// Something that was asked for was not said.
    is_partial: bool,
    /// Who this is was said anew.
    has_id: bool,
    /// A part of the service asks to be left alone for so long.
    retry_after: Option<Duration>,
}

pub(crate) struct Session {
    base: String,
    token: Token,
    /// It gave a token once: this is EC2 itself, which gives notices, and not Nova.
    is_ec2: bool,
    id: Option<Id>,
    turns: [Turn; NOTICES.len()],
    availability_zone: Value,
    flavor: Value,
    request: Value,
    round: Round,
    /// The one of the plans that is asked for first: a slow service may not get to all.
    first_plan: usize,
    /// The keys of the events that were there last: they may have vanished.
    events: Vec<String>,
    /// When the last response was given, by the service's clock, in Unix seconds; None where
    /// it did not say.
    date: Option<u64>,
}

enum Token {
    NotAskedFor,
    /// There are none here.
    Refused,
    /// Something else came, so that it is asked for again in the next round.
    Missed,
    Held(String),
}

/// One that does not change, and that an instance need not have.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    NotHad,
    /// There is none, or this one.
    Had(Option<String>),
}

impl Session {
    pub(crate) fn new(base: &str) -> Session {
        Session {
            base: base.to_string(),
            token: Token::NotAskedFor,
            is_ec2: false,
            id: None,
            turns: [Turn::default(); NOTICES.len()],
            availability_zone: Value::NotHad,
            flavor: Value::NotHad,
            request: Value::NotHad,
            round: Round::default(),
            first_plan: 0,
            events: Vec::new(),
            date: None,
        }
    }

    /// The service is at this base URL.
    pub(crate) fn move_to(&mut self, base: &str) {
        if self.base != base {
            self.base = base.to_string();
        }
    }

    /// Whether this is EC2 itself, which gives tokens and notices, and not Nova.
    pub(crate) fn gives_tokens(&self) -> bool {
        self.is_ec2
    }

    /// Asks who this is, and for everything that can end it.
    ///
    /// # Errors
    ///
    /// That the service does not say who this is, or fails to say whether it is to end.
    pub(crate) fn ask(&mut self, client: &Client, portion: Portion) -> Result<Answer, NoAnswer> {
        let until = portion.until;
        // A refusal may have been one of the moment, unless the service answers without.
        match self.token {
            Token::Missed => self.token = Token::NotAskedFor,
            Token::Refused if self.id.is_none() => self.token = Token::NotAskedFor,
            _ => {}
        }
        let mut warnings = Vec::new();
        self.begin_round();
        match self.ask_for_id(client, until, &mut warnings) {
            Ok(()) => {
                self.ask_for_an_end(client, until)?;
                self.ask_for_the_rest(client, portion, &mut warnings);
                if self.is_ec2 {
                    self.ask_for_plans(client, portion, &mut warnings);
                }
            }
            // Two minutes before its end who this is matters less than the end.
            Err(failure) if self.is_ec2 && is_of_one_value(&failure) => {
                warnings.push(text::printable(&failure.to_string()));
                let _ = self.ask_for_an_end(client, until);
                self.round.is_partial = true;
                let mut limits = self.round.limits.iter();
                if !limits.any(|limit| matches!(limit.when, When::At(_))) {
                    return Err(failure);
                }
            }
            Err(failure) => return Err(failure),
        }
        Ok(self.answer(warnings))
    }

    /// Asks for nothing but the notices that leave minutes, each for at most `budget`. One that
    /// fails neither costs the other nor slows it down.
    ///
    /// # Errors
    ///
    /// That none can be had.
    pub(crate) fn ask_for_notices(
        &mut self,
        client: &Client,
        budget: Duration,
    ) -> Result<Answer, NoAnswer> {
        self.begin_round();
        self.round.is_partial = true;
        let mut warnings = Vec::new();
        let mut failures = Vec::new();
        for (index, part) in NOTICES.iter().enumerate() {
            let start = Instant::now();
            if !self.turns[index].comes(start) {
                continue;
            }
            match self.ask_for_part(part, client, start + budget) {
                Ok(more) => {
                    self.turns[index] = Turn::default();
                    warnings.extend(more);
                }
                Err(failure) => {
                    self.turns[index].fail(&failure, Instant::now());
                    failures.push(failure);
                }
            }
        }
        if failures.len() == NOTICES.len() {
            // The whole service is left alone then.
            for turn in &mut self.turns {
                (turn.left_out, turn.left_alone) = (0, None);
            }
            let longest = failures.into_iter().max_by_key(NoAnswer::retry_after);
            return Err(longest.expect("there are notices"));
        }
        self.round.retry_after = failures.iter().filter_map(NoAnswer::retry_after).max();
        let failed = failures.iter();
        warnings.extend(failed.map(|failure| text::printable(&failure.to_string())));
        Ok(self.answer(warnings))
    }

    /// Nothing of the last one is said again.
    fn begin_round(&mut self) {
        self.round = Round::default();
        self.date = None;
    }

    fn answer(&mut self, warnings: Vec<String>) -> Answer {
        let round = std::mem::take(&mut self.round);
        if let Some(id) = self.id.as_mut().filter(|_| round.has_id) {
            id.answers = id.answers.saturating_add(1);
        }
        let is_said = |id: &&Id| round.has_id || id.is_confirmed();
        Answer {
            instance: Instance {
                id: self.id.as_ref().filter(is_said).map(|id| id.text.clone()),
                availability_zone: self.availability_zone.text(),
                flavor: self.flavor.text(),
                request: self.request.text(),
                ..Instance::default()
            },
            limits: round.limits,
            about: match round.is_partial {
                true => About::Keys(round.keys),
                false => About::Everything,
            },
            date: self.date,
            warnings,
            retry_after: round.retry_after,
            ..Answer::default()
        }
    }

    /// One answer may be another instance's, so that the next round asks again.
    fn ask_for_id(
        &mut self,
        client: &Client,
        until: Instant,
        warnings: &mut Vec<String>,
    ) -> Result<(), NoAnswer> {
        if self.id.as_ref().is_some_and(Id::is_confirmed) {
            return Ok(());
        }
        let text = match self.required(client, "instance-id", until) {
            Ok(text) => text,
            // Nobody says it again now; the rest counts all the same.
            Err(failure) if self.id.is_some() && is_of_one_value(&failure) => {
                warnings.push(text::printable(&failure.to_string()));
                return Ok(());
            }
            Err(failure) => return Err(failure),
        };
        if let Err(reason) = first_boot::usable_id(&text) {
            return Err(self.unusable("instance-id", reason));
        }
        self.round.has_id = true;
        if self.id.as_ref().is_none_or(|id| id.text != text) {
            self.id = Some(Id { text, answers: 0 });
        }
        Ok(())
    }

    fn ask_for_the_rest(&mut self, client: &Client, portion: Portion, warnings: &mut Vec<String>) {
        let until = portion.until;
        if self.availability_zone == Value::NotHad && portion.has_room_for(1) {
            let path = "placement/availability-zone";
            self.availability_zone = had(self.optional(client, path, until), warnings);
        }
        if self.flavor == Value::NotHad && portion.has_room_for(1) {
            self.flavor = had(self.optional(client, "instance-type", until), warnings);
        }
        // Nova has no tags here.
        if self.is_ec2 && self.request == Value::NotHad && portion.has_room_for(1) {
            let path = "tags/instance/vmstage_request";
            self.request = had(self.optional(client, path, until), warnings);
        }
    }

    /// A notice that the service refuses to give takes none back, and costs nothing else.
    fn ask_for_an_end(&mut self, client: &Client, until: Instant) -> Result<(), NoAnswer> {
        match self.ask_for_part(&SPOT, client, until) {
            Err(failure) if is_refused(&failure) => {
                let reason = text::printable(&failure.to_string());
                self.note(&SPOT, vec![said::unusable_spot(reason)]);
                Ok(())
            }
            asked => asked.map(drop),
        }
    }

    /// What not every instance has, or what is known long ahead: its failure costs nothing else,
    /// and where the service is slow the next round goes on with it.
    fn ask_for_plans(&mut self, client: &Client, portion: Portion, warnings: &mut Vec<String>) {
        let first = self.first_plan;
        let plans = (first..first + PLANS.len()).map(|at| at % PLANS.len());
        for plan in [None].into_iter().chain(plans.map(Some)) {
            if !portion.has_room_for(1) {
                self.round.is_partial = true;
                self.first_plan = plan.unwrap_or(first);
                return;
            }
            let part = plan.map_or(&LIFECYCLE, |plan| &PLANS[plan]);
            match self.ask_for_part(part, client, portion.until) {
                Ok(more) => warnings.extend(more),
                Err(failure) => {
                    warnings.push(text::printable(&failure.to_string()));
                    self.round.is_partial = true;
                    if !is_of_one_value(&failure) {
                        return;
                    }
                }
            }
        }
    }

    /// Says what there is to warn of.
    fn ask_for_part(
        &mut self,
        part: &Part,
        client: &Client,
        until: Instant,
    ) -> Result<Vec<String>, NoAnswer> {
        let body = self.value(client, part.path, until)?;
        let said = body.map(|body| (part.read)(&body)).unwrap_or_default();
        self.note(part, said.limits);
        Ok(said.warnings)
    }

    /// What says nothing (HTML in the place of events) takes none back.
    fn note(&mut self, part: &Part, limits: Vec<Limit>) {
        let is_garbage = !limits.is_empty() && !limits.iter().any(Limit::is_usable);
        let keys = limits.iter().map(|limit| limit.origin.key.clone());
        self.round.keys.push(part.key.to_string());
        self.round.keys.extend(keys.clone());
        if part.key == said::EVENTS && !is_garbage {
            self.round.keys.append(&mut self.events);
            self.events = keys.collect();
        }
        // Nor may it stand for all that was said before.
        self.round.is_partial |= is_garbage;
        self.round.limits.extend(limits);
    }

    fn renew_token(&mut self, client: &Client, until: Instant) -> Result<(), NoAnswer> {
        self.token = self.new_token(client, until)?;
        self.is_ec2 |= matches!(self.token, Token::Held(_));
        Ok(())
    }

    fn new_token(&self, client: &Client, until: Instant) -> Result<Token, NoAnswer> {
        let url = format!("{}/latest/api/token", self.base);
        let lifetime = ("X-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS);
        let body = match client.put(&url, &[lifetime], b"", until) {
            Ok(response) => response.body,
            Err(failure) => match failure.cause {
                // 501: a server that knows no PUT at all.
                Cause::Status(400..=407 | 409..=428 | 430..=499 | 501, _) => {
                    return Ok(Token::Refused);
                }
                // A server that is none of EC2's, or that fails at this alone.
                Cause::Status(300..=399 | 500, _) | Cause::Unusable(_) => return Ok(Token::Missed),
                _ => return Err(NoAnswer::Http(failure)),
            },
        };
        // HTML and JSON are none, also without a space.
        let may_have = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'{');
        let is_token =
            |token: &String| (1..=1024).contains(&token.len()) && token.bytes().all(may_have);
        // It goes into a header, and never into a message.
        let token = String::from_utf8(body).ok().filter(is_token);
        Ok(token.map_or(Token::Missed, Token::Held))
    }

    /// None where there is no such value.
    fn value(
        &mut self,
        client: &Client,
        path: &str,
        until: Instant,
    ) -> Result<Option<Vec<u8>>, NoAnswer> {
        /// One may have expired, and the next be refused for a moment only.
        const MOST_TOKENS: u32 = 2;
        let url = self.url(path);
        let mut tokens = 0;
        if matches!(self.token, Token::NotAskedFor) {
            self.renew_token(client, until)?;
            tokens += 1;
        }
        loop {
            let header = match &self.token {
                Token::Held(token) => Some(("X-aws-ec2-metadata-token", token.as_str())),
                Token::NotAskedFor | Token::Refused | Token::Missed => None,
            };
            let answer = client.get(&url, header.as_slice(), until);
            self.date = answer
                .as_ref()
                .map_or_else(|e| e.date, |answer| answer.date);
            match answer {
                Ok(response) => return Ok(Some(response.body)),
                Err(failure) => match failure.cause {
                    Cause::Status(404, _) => return Ok(None),
                    Cause::Status(401, _) if tokens < MOST_TOKENS => {
                        self.renew_token(client, until)?;
                        tokens += 1;
                    }
                    _ => return Err(NoAnswer::Http(failure)),
                },
            }
        }
    }

    fn optional(
        &mut self,
        client: &Client,
        path: &str,
        until: Instant,
    ) -> Result<Option<String>, NoAnswer> {
        match self.value(client, path, until)? {
            Some(body) => said::one_line(&body)
                .map(Some)
                .ok_or_else(|| self.unusable(path, "the answer is not one line of text".into())),
            None => Ok(None),
        }
    }

    fn required(
        &mut self,
        client: &Client,
        path: &str,
        until: Instant,
    ) -> Result<String, NoAnswer> {
        let value = self.optional(client, path, until)?;
        value.ok_or_else(|| NoAnswer::Http(Failure::new(&self.url(path), Cause::Status(404, None))))
    }

    fn url(&self, path: &str) -> String {
        format!("{}/latest/meta-data/{path}", self.base)
    }

    fn unusable(&self, path: &str, why: String) -> NoAnswer {
        NoAnswer::Http(Failure::new(&self.url(path), Cause::Unusable(why)))
    }
}

impl Value {
    fn text(&self) -> Option<String> {
        match self {
            Value::Had(text) => text.clone(),
            Value::NotHad => None,
        }
    }
}

/// What the service refuses it is not asked for again, and what it failed to say it is.
fn had(said: Result<Option<String>, NoAnswer>, warnings: &mut Vec<String>) -> Value {
    said.map_or_else(
        |failure| {
            warnings.push(text::printable(&failure.to_string()));
            match is_refused(&failure) {
                true => Value::Had(None),
                false => Value::NotHad,
            }
        },
        Value::Had,
    )
}

/// Whether the service will not say this, and may say other things.
fn is_refused(failure: &NoAnswer) -> bool {
    match cause(failure) {
        Some(Cause::Status(code, _)) => {
            (400..500).contains(code) && !matches!(code, 401 | 408 | 429)
        }
        _ => false,
    }
}

/// Whether the service is there, and may say other things now.
fn is_of_one_value(failure: &NoAnswer) -> bool {
    match cause(failure) {
        Some(Cause::Status(code, _)) => !matches!(code, 401 | 408 | 429),
        Some(Cause::Unusable(_)) => true,
        _ => false,
    }
}

fn cause(failure: &NoAnswer) -> Option<&Cause> {
    match failure {
        NoAnswer::Http(failure) => Some(&failure.cause),
        NoAnswer::Local(_) => None,
    }
}

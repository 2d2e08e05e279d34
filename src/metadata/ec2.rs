//! The EC2 metadata service: identity, and the notice that a spot instance is ended.
//!
//! A session token is asked for first (IMDSv2). Where that is refused (Nova answers
//! 404) everything is asked for without one.

use std::time::Instant;

use serde::Deserialize;

use super::Instance;
use super::{Answer, NoAnswer};
use crate::deadline::first_boot;
use crate::deadline::limit::{Limit, When};
use crate::deadline::origin::{LimitSource, Origin};
use crate::http::{Cause, Client, Failure};
use crate::text;

/// A session lasts as long as it may: six hours.
const TOKEN_SECONDS: &str = "21600";

pub(crate) struct Session<'a> {
    base: &'a str,
    token: Token,
    /// There was one once.
    gave_token: bool,
    /// In this round, after the service would not answer without one.
    wanted_token: bool,
    id: Option<String>,
    availability_zone: Value,
    flavor: Value,
}

/// One that does not change, and that an instance need not have.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    NotHad,
    /// There is none, or this one.
    Had(Option<String>),
}

enum Token {
    NotAskedFor,
    Refused,
    Held(String),
}

impl<'a> Session<'a> {
    pub(crate) fn new(base: &'a str) -> Session<'a> {
        Session {
            base,
            token: Token::NotAskedFor,
            gave_token: false,
            wanted_token: false,
            id: None,
            availability_zone: Value::NotHad,
            flavor: Value::NotHad,
        }
    }

    /// Whether this is EC2 itself, which gives tokens and spot notices, and not Nova.
    pub(crate) fn gives_tokens(&self) -> bool {
        self.gave_token
    }

    /// A refusal holds for one round, for it may have been one of the moment, unless the
    /// service answers without a token, as Nova's does.
    pub(crate) fn begin_round(&mut self) {
        self.wanted_token = false;
        if matches!(self.token, Token::Refused) && self.id.is_none() {
            self.token = Token::NotAskedFor;
        }
    }

    pub(crate) fn ask(&mut self, client: &Client, until: Instant) -> Result<Answer, NoAnswer> {
        let mut warnings = Vec::new();
        // Two minutes before its end who this is matters less than the end.
        let limit = match self.ask_for_id(client, until) {
            Ok(()) => {
                self.ask_for_the_rest(client, until, &mut warnings);
                self.noticed(client, until)?
            }
            Err(failure) if self.gives_tokens() && is_of_one_value(&failure) => {
                warnings.push(text::printable(&failure.to_string()));
                let notice = self.spot_notice(client, until).ok().flatten();
                let end = notice.filter(|notice| matches!(notice.when, When::At(_)));
                Some(end.ok_or(failure)?)
            }
            Err(failure) => return Err(failure),
        };
        Ok(Answer {
            instance: Instance {
                id: self.id.clone(),
                availability_zone: self.availability_zone.text(),
                flavor: self.flavor.text(),
                ..Instance::default()
            },
            limits: limit.into_iter().collect(),
            warnings,
            ..Answer::default()
        })
    }

    fn ask_for_id(&mut self, client: &Client, until: Instant) -> Result<(), NoAnswer> {
        if self.id.is_none() {
            let id = self.required(client, "instance-id", until)?;
            if let Err(reason) = first_boot::usable_id(&id) {
                return Err(self.unusable("instance-id", reason));
            }
            self.id = Some(id);
        }
        Ok(())
    }

    fn ask_for_the_rest(&mut self, client: &Client, until: Instant, warnings: &mut Vec<String>) {
        if self.availability_zone == Value::NotHad {
            let path = "placement/availability-zone";
            self.availability_zone = had(self.optional(client, path, until), warnings);
        }
        if self.flavor == Value::NotHad {
            self.flavor = had(self.optional(client, "instance-type", until), warnings);
        }
    }

    /// A notice that the service refuses to give takes none back, and costs nothing else.
    fn noticed(&mut self, client: &Client, until: Instant) -> Result<Option<Limit>, NoAnswer> {
        match self.spot_notice(client, until) {
            Err(failure) if is_refused(&failure) => {
                let reason = text::printable(&failure.to_string());
                Ok(Some(unusable_spot_limit(reason)))
            }
            notice => notice,
        }
    }

    /// The end of a spot instance, announced two minutes ahead; None is the rule.
    pub(crate) fn spot_notice(
        &mut self,
        client: &Client,
        until: Instant,
    ) -> Result<Option<Limit>, NoAnswer> {
        let notice = self.value(client, SPOT, until)?;
        Ok(notice.map(|text| spot_limit(&text)))
    }

    fn renew_token(&mut self, client: &Client, until: Instant) -> Result<(), NoAnswer> {
        self.token = self.new_token(client, until)?;
        self.gave_token |= matches!(self.token, Token::Held(_));
        Ok(())
    }

    fn new_token(&self, client: &Client, until: Instant) -> Result<Token, NoAnswer> {
        let url = format!("{}/latest/api/token", self.base);
        let lifetime = ("X-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS);
        let body = match client.put(&url, &[lifetime], b"", until) {
            Ok(response) => response.body,
            Err(Failure {
                cause: Cause::Status(400..=407 | 409..=428 | 430..=499, _),
                ..
            }) => return Ok(Token::Refused),
            Err(failure) => return Err(NoAnswer::Http(failure)),
        };
        // It goes into a header, and never into a message.
        match String::from_utf8(body) {
            Ok(token)
                if (1..=1024).contains(&token.len())
                    && token.bytes().all(|b| b.is_ascii_graphic()) =>
            {
                Ok(Token::Held(token))
            }
            _ => Err(NoAnswer::Http(Failure::new(
                &url,
                Cause::Unusable("the answer is not a session token".into()),
            ))),
        }
    }

    /// None where there is no such value.
    fn value(
        &mut self,
        client: &Client,
        path: &str,
        until: Instant,
    ) -> Result<Option<Vec<u8>>, NoAnswer> {
        let url = self.url(path);
        if matches!(self.token, Token::NotAskedFor) {
            self.renew_token(client, until)?;
        }
        let mut renewed = false;
        loop {
            let header = match &self.token {
                Token::Held(token) => Some(("X-aws-ec2-metadata-token", token.as_str())),
                Token::NotAskedFor | Token::Refused => None,
            };
            match client.get(&url, header.as_slice(), until) {
                Ok(response) => return Ok(Some(response.body)),
                Err(failure) => match failure.cause {
                    Cause::Status(404, _) => return Ok(None),
                    // The token has expired.
                    Cause::Status(401, _) if header.is_some() && !renewed => {
                        self.renew_token(client, until)?;
                        renewed = true;
                    }
                    Cause::Status(401, _) if header.is_none() && !self.wanted_token => {
                        self.wanted_token = true;
                        self.renew_token(client, until)?;
                        renewed = true;
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
            Some(body) => one_line(&body)
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

pub(super) const SPOT: &str = "spot/instance-action";

fn one_line(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let one = !text.is_empty() && text.len() <= 255 && !text.contains(char::is_control);
    one.then(|| text.to_string())
}

/// Reads a spot notice: `{"action": "terminate", "time": "2026-11-23T10:41:00Z"}`.
pub fn spot_limit(text: &[u8]) -> Limit {
    #[derive(Deserialize)]
    struct Notice {
        action: String,
        time: String,
    }
    match serde_json::from_slice::<Notice>(text) {
        Ok(notice) => Limit::notice(
            spot_origin().with_detail(text::excerpt(&notice.action)),
            When::from_instant(&notice.time),
        ),
        Err(e) => unusable_spot_limit(format!("it is not a spot notice: {e}")),
    }
}

fn unusable_spot_limit(reason: String) -> Limit {
    Limit::notice(spot_origin(), When::Unusable(reason))
}

fn spot_origin() -> Origin {
    Origin::new(LimitSource::Ec2, SPOT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spot_notice_is_a_limit() {
        let notice = br#"{"action": "terminate", "time": "2026-11-23T10:41:00Z"}"#;
        let limit = spot_limit(notice);
        assert_eq!(limit.when, When::At(1_795_430_460));
        assert_eq!(
            limit.origin.to_string(),
            "spot/instance-action (terminate) in the ec2 metadata"
        );
    }

    #[test]
    fn what_is_not_a_spot_notice_is_no_limit() {
        for text in ["", "<html>", "{}", r#"{"action": "stop", "time": 5}"#, "[]"] {
            let limit = spot_limit(text.as_bytes());
            assert!(
                matches!(limit.when, When::Unusable(_)),
                "{text:?} gave {limit:?}"
            );
        }
    }

    #[test]
    fn a_value_is_one_line_of_text() {
        assert_eq!(one_line(b"m1.large\n").as_deref(), Some("m1.large"));
        for wrong in [&b""[..], b"\n", b"a\nb", b"\xff", &[b'x'; 256]] {
            assert_eq!(one_line(wrong), None, "{wrong:?}");
        }
    }
}

//! curl, as a person calls it.

use std::process::Command;

use serde_json::Value;

/// What came back.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    head: String,
    pub(super) body: String,
}

impl Reply {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head of an answer: {text}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// `HTTP/1.1` or `HTTP/2`.
    pub(super) fn version(&self) -> &str {
        self.head.split(' ').next().unwrap_or_default()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The word that ends the type of a problem document.
    #[track_caller]
    pub(super) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let kind = self.json()["type"].as_str().expect("a type").to_owned();
        kind.strip_prefix("urn:busway:problem:").expect("of busway").to_owned()
    }

    /// Head and body.
    pub(super) fn text(&self) -> String {
        format!("{}\n{}", self.head, self.body)
    }
}

/// The answer; or why curl got none.
pub(super) fn try_curl(arguments: &[&str]) -> Result<Reply, String> {
    let mut curl = Command::new("curl");
    curl.args(["--no-progress-meter", "--include", "--max-time", "50", "--noproxy", "*"]).args(arguments);
    let output = curl.output().expect("curl is installed (`cargo xtask test` does that)");
    if output.status.success() {
        Ok(Reply::parse(&String::from_utf8_lossy(&output.stdout)))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[track_caller]
pub(super) fn curl(arguments: &[&str]) -> Reply {
    try_curl(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

//! The formats in which events come.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use crate::edge::problem::{Problem, Refusal};

/// What the body of a request is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// A `CloudEvent` as JSON.
    Structured,
    /// `CloudEvents` as a JSON array.
    Batched,
    /// JSON, one value a line.
    Lines,
    /// The data of one event, of this type as far as it is said.
    Other(Option<Box<str>>),
}

impl Media {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut given = headers.get_all(CONTENT_TYPE).iter();
        let Some(value) = given.next() else { return Ok(Self::Other(None)) };
        let refuse = |detail: &str| Err(Problem::new(Refusal::MediaType, detail));
        if given.next().is_some() {
            return refuse("there are two headers `Content-Type`; send one");
        }
        let Ok(text) = value.to_str() else { return refuse("the header `Content-Type` is no text") };
        let essence = essence(text);
        let plain = match &*essence {
            "application/cloudevents+json" => Self::Structured,
            "application/cloudevents-batch+json" => Self::Batched,
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Self::Lines,
            other if other.starts_with("application/cloudevents") => {
                return refuse(
                    "CloudEvents are taken as application/cloudevents+json, as application/cloudevents-batch+json, or \
                     with `ce-` headers beside the data",
                );
            }
            // What curl says of any data, and a form says of what is no event: nothing.
            "application/x-www-form-urlencoded" | "" => return Ok(Self::Other(None)),
            _ => return Ok(Self::Other(Some(text.trim().into()))),
        };
        match charset(text) {
            Some(charset) if !charset.eq_ignore_ascii_case("utf-8") => {
                refuse("JSON is UTF-8; take the other `charset` away")
            }
            _ => Ok(plain),
        }
    }
}

/// A media type without its parameters, in lower case.
pub(super) fn essence(media: &str) -> String {
    media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether values of a media type are JSON.
pub(in crate::edge) fn is_json(media: &str) -> bool {
    let essence = essence(media);
    essence.split_once('/').is_some_and(|(_, kind)| kind == "json" || kind.ends_with("+json"))
}

fn charset(media: &str) -> Option<&str> {
    let parameters = media.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let mut charsets = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    charsets.next().map(|(_, value)| value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn of(text: &'static str) -> Result<Media, Problem> {
        Media::of(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(text))]))
    }

    #[test]
    fn formats_are_told_by_their_type_and_nothing_else() {
        assert_eq!(Media::of(&HeaderMap::new()).expect("nothing said"), Media::Other(None));
        assert_eq!(of("Application/CloudEvents+JSON; charset=UTF-8").expect("structured"), Media::Structured);
        assert_eq!(of("application/cloudevents-batch+json").expect("batched"), Media::Batched);
        assert_eq!(of("application/x-ndjson").expect("lines"), Media::Lines);
        assert_eq!(of("application/x-www-form-urlencoded").expect("curl"), Media::Other(None));
        assert_eq!(of("Text/Plain; a=b").expect("data"), Media::Other(Some("Text/Plain; a=b".into())));
        for bad in ["application/cloudevents+xml", "application/cloudevents", "application/x-ndjson; charset=latin1"] {
            assert_eq!(of(bad).expect_err(bad).status(), 415, "{bad}");
        }
    }

    #[test]
    fn json_has_several_names() {
        for json in ["application/json", "text/json; charset=utf-8", "application/geo+JSON"] {
            assert!(is_json(json), "{json}");
        }
        for other in ["text/plain", "json", "application/jsonp", ""] {
            assert!(!is_json(other), "{other}");
        }
    }
}

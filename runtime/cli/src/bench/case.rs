//! The names of benchmark cases.
//!
//! Role: names are stable, scripts read them: `{memory|disk}-raw-{reused|per-event}-{size}[-x{services}]`,
//! `memory-typed-{small|middle|large}`, `http-publish-{events of a request}`, two that stand alone, and those of the suite
//! `backlog`. Nothing is measured here.

use std::fmt;
use std::str::FromStr;

/// Where the queues live during a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Memory,
    Disk,
}

/// One throughput case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Throughput {
    pub(crate) place: Place,
    pub(crate) per_event: bool,
    pub(crate) bytes: usize,
    /// Services, each on a topic of its own.
    pub(crate) services: usize,
}

/// One case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Throughput(Throughput),
    /// Typed events beside raw ones with the same data.
    Typed(Typed),
    /// Requests to the gateway with so many events each.
    HttpPublish(usize),
    /// A healthy service alone, then beside spinning, allocating and flooding ones.
    NoisyNeighbour,
    /// A thousand services from copies of one component.
    ThousandServices,
    /// One of the suite `backlog`.
    Scale(Scale),
}

/// How the bus on disk behaves when there is much of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Ten million events that wait for a service.
    Backlog,
    /// A thousand subscriptions on one topic.
    SharedTopic,
    /// A thousand subscriptions that lag, each on a topic of its own that is rare.
    RareTopics,
    /// A hundred thousand topics beside one.
    ManyTopics,
    /// A million delayed events.
    Delayed,
}

/// How large the typed events of a case are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// Five fields.
    Small,
    /// Fifty fields.
    Middle,
    /// A list of ten thousand lines.
    Large,
}

const TYPED: [(&str, Typed); 3] = [
    ("memory-typed-small", Typed::Small),
    ("memory-typed-middle", Typed::Middle),
    ("memory-typed-large", Typed::Large),
];

const SCALES: [(&str, Scale); 5] = [
    ("backlog", Scale::Backlog),
    ("shared-topic-x1000", Scale::SharedTopic),
    ("rare-topics-x1000", Scale::RareTopics),
    ("topics-100000", Scale::ManyTopics),
    ("delayed", Scale::Delayed),
];

const SIZES: [(&str, usize); 4] = [("16B", 16), ("100B", 100), ("1KiB", 1024), ("64KiB", 64 * 1024)];

/// Events of a request.
const HTTP: [usize; 2] = [10, 1];

impl Case {
    /// The cases of the suite `backlog`, which take minutes and gigabytes.
    pub(crate) fn backlog() -> Vec<Self> {
        SCALES.iter().map(|(_, scale)| Self::Scale(*scale)).collect()
    }

    /// Every other case, in the order in which they are measured.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for place in [Place::Memory, Place::Disk] {
            for per_event in [false, true] {
                for (_, bytes) in SIZES {
                    all.push(Self::Throughput(Throughput { place, per_event, bytes, services: 1 }));
                }
            }
            all.push(Self::Throughput(Throughput { place, per_event: false, bytes: 100, services: 100 }));
        }
        all.extend(TYPED.map(|(_, typed)| Self::Typed(typed)));
        all.extend(HTTP.map(Self::HttpPublish));
        all.extend([Self::NoisyNeighbour, Self::ThousandServices]);
        all
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Throughput { place, per_event, bytes, services } = match self {
            Self::NoisyNeighbour => return f.write_str("noisy-neighbour"),
            Self::ThousandServices => return f.write_str("thousand-services"),
            Self::HttpPublish(events) => return write!(f, "http-publish-{events}"),
            Self::Typed(typed) => {
                let name = TYPED.iter().find(|(_, known)| known == typed).map_or("?", |(name, _)| name);
                return f.write_str(name);
            }
            Self::Scale(scale) => {
                let name = SCALES.iter().find(|(_, known)| known == scale).map_or("?", |(name, _)| name);
                return f.write_str(name);
            }
            Self::Throughput(throughput) => throughput,
        };
        let place = match place {
            Place::Memory => "memory",
            Place::Disk => "disk",
        };
        let instances = if *per_event { "per-event" } else { "reused" };
        let size = SIZES.iter().find(|(_, b)| b == bytes).map_or("?", |(name, _)| name);
        write!(f, "{place}-raw-{instances}-{size}")?;
        if *services > 1 {
            write!(f, "-x{services}")?;
        }
        Ok(())
    }
}

impl FromStr for Case {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = || Self::all().into_iter().chain(Self::backlog());
        known().find(|case| case.to_string() == text).ok_or_else(|| {
            let names: Vec<String> = known().map(|case| case.to_string()).collect();
            format!("there is no case `{text}`; the cases are:\n  {}", names.join("\n  "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        for case in Case::all().into_iter().chain(Case::backlog()) {
            assert_eq!(case.to_string().parse(), Ok(case));
        }
        assert!("memory-raw-reused-7B".parse::<Case>().is_err());
    }

    #[test]
    fn the_names_that_scripts_know_are_there() {
        let names: Vec<String> = Case::all().iter().map(ToString::to_string).collect();
        for name in [
            "memory-raw-reused-100B",
            "disk-raw-per-event-64KiB",
            "memory-raw-reused-100B-x100",
            "memory-typed-small",
            "http-publish-10",
            "http-publish-1",
        ] {
            assert!(names.iter().any(|n| n == name), "{name}");
        }
    }
}

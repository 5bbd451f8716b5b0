//! A page of metrics, fetched as Prometheus does, and held to its format: OpenMetrics 1.0, as far as it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::PATIENCE;
use super::serving::Serving;

/// What a server answers by HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// With the line of the status, in small letters.
    pub(crate) head: String,
    pub(crate) body: String,
}

/// A connection to the address that the welcome names for metrics.
pub(crate) fn connect(serving: &Serving) -> TcpStream {
    let (_, rest) = serving.welcome.split_once("Metrics: http://").expect("it names the address");
    let (address, _) = rest.split_once("/metrics\n").expect("it names the page");
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
    stream
}

/// Asks for something and takes the whole answer.
#[track_caller]
pub(crate) fn ask(mut stream: impl Read + Write, what: &str) -> Answer {
    let request = format!("{what} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers and closes");
    let (head, body) = answer.split_once("\r\n\r\n").expect("it speaks HTTP");
    let head = head.to_lowercase();
    let status = head.strip_prefix("http/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    Answer { status: status.expect("it has a status"), head, body: body.to_owned() }
}

/// The numbers of a page, by name and labels as they stand there.
#[derive(Debug)]
pub(crate) struct Page(BTreeMap<String, f64>);

impl Page {
    #[track_caller]
    pub(crate) fn fetch(serving: &Serving) -> Self {
        Page::of(ask(connect(serving), "GET /metrics"))
    }

    #[track_caller]
    pub(crate) fn fetch_at(socket: &Path) -> Self {
        Page::of(ask(UnixStream::connect(socket).expect("it listens"), "GET /metrics"))
    }

    #[track_caller]
    fn of(answer: Answer) -> Self {
        assert_eq!(answer.status, 200, "{answer:?}");
        let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert!(answer.head.lines().any(|line| line == kind), "{answer:?}");
        Page::read(&answer.body)
    }

    /// The number of that name and those labels.
    #[track_caller]
    pub(crate) fn get(&self, sample: &str) -> f64 {
        *self.0.get(sample).unwrap_or_else(|| panic!("no {sample} in {:#?}", self.0.keys()))
    }

    #[track_caller]
    fn read(text: &str) -> Self {
        let text = text.strip_suffix("# EOF\n").expect("the page is whole");
        let (mut samples, mut families) = (BTreeMap::new(), BTreeSet::new());
        let (mut name, mut kind) = ("", "");
        for line in text.lines() {
            match line.strip_prefix("# ").map(|words| words.splitn(3, ' ').collect::<Vec<_>>()).as_deref() {
                Some(["HELP", of, help]) => {
                    assert!(families.insert(*of), "{of} comes twice");
                    assert!(help.ends_with('.') && !help.contains('\\'), "{line}");
                    (name, kind) = (of, "");
                }
                Some(["TYPE", of, is]) => {
                    assert_eq!(*of, name, "{line}");
                    kind = is;
                }
                Some(["UNIT", of, unit]) => {
                    assert!(*of == name && of.ends_with(&format!("_{unit}")), "{line}");
                }
                Some(_) => panic!("no such comment: {line}"),
                None => {
                    let (sample, value) = sample(line);
                    let is = sample.split('{').next().and_then(|all| all.strip_prefix(name));
                    let suffixes = match kind {
                        "counter" => &["_total"][..],
                        "gauge" => &[""],
                        "histogram" => &["_bucket", "_sum", "_count"],
                        _ => panic!("a sample of {kind:?}: {line}"),
                    };
                    assert!(is.is_some_and(|is| suffixes.contains(&is)), "not in its family {name}: {line}");
                    assert!(samples.insert(sample.to_owned(), value).is_none(), "twice: {line}");
                }
            }
        }
        let page = Page(samples);
        page.check_histograms();
        page
    }

    /// Each has buckets that grow up to its count.
    #[track_caller]
    fn check_histograms(&self) {
        let mut histograms: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for (sample, &value) in &self.0 {
            let Some((labels, bound)) = sample.strip_suffix("\"}").and_then(|all| all.split_once(",le=\""))
            else {
                continue;
            };
            let count = labels.replacen("_bucket{", "_count{", 1) + "}";
            histograms.entry(count).or_default().push((bound.parse().expect("a bound"), value));
        }
        for (count, mut buckets) in histograms {
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(buckets.is_sorted_by(|one, other| one.1 <= other.1), "{count}: {buckets:?}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, self.get(&count))), "{count}");
        }
    }
}

/// A line's name with its labels, and its value.
#[track_caller]
fn sample(line: &str) -> (&str, f64) {
    let (sample, value) = line.rsplit_once(' ').expect("a value");
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let (name, labels) = match sample.split_once('{') {
        None => (sample, ""),
        Some((name, labels)) => (name, labels.strip_suffix('}').expect("labels end")),
    };
    assert!(is_name(name), "{line}");
    let mut rest = labels;
    while !rest.is_empty() {
        let (label, value) = rest.split_once("=\"").expect("a label has a value");
        assert!(is_name(label), "{line}");
        let mut chars = value.char_indices();
        let end = loop {
            match chars.next().expect("a value ends") {
                (at, '"') => break at,
                (_, '\\') => assert!(matches!(chars.next(), Some((_, '\\' | '"' | 'n'))), "{line}"),
                _ => {}
            }
        };
        rest = &value[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (sample, value.parse().expect("a number"))
}

//! How serving ended.
//!
//! Role: words what became of the server and of each image, and gives the exit code.
//!
//! Invariant: whatever is not safe in an image is told, by the image's name, and then the exit code is 1.
//!
//! Absent on purpose: ending it.

use std::path::PathBuf;

use quod_export::nbd::Summary;

use super::say;
use crate::open::without_number;
use crate::output;

/// A line about the end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Good(String),
    Bad(String),
}

/// What there is to say; `closed` are all images, and what closing them gave.
pub(super) fn judge(
    served: anyhow::Result<Summary>,
    closed: Vec<(PathBuf, quod::Result<()>)>,
    read_only: bool,
) -> Vec<Line> {
    let mut lines = Vec::new();
    let has_served = served.is_ok();
    match served {
        Err(error) => lines.push(Line::Bad(without_number(&format!("{error:#}")).to_owned())),
        Ok(Summary { cut: 0, .. }) => {}
        Ok(summary) => {
            let names: Vec<_> = closed.iter().map(|(file, _)| file.display().to_string()).collect();
            lines.push(Line::Bad(format!(
                "{} clients were cut off with requests in flight: any part of their unacknowledged writes may be in {}",
                summary.cut,
                names.join(", ")
            )));
        }
    }
    for (file, closed) in closed {
        let name = file.display();
        match closed {
            Err(error) => lines.push(Line::Bad(format!(
                "{name} was not closed in order: {error}\nWhat clients wrote since their last flush that succeeded may be lost. \
                 Without a backing file the image is marked, and is checked when it is next opened for writing; over one, \
                 `quod check -r leaks` gives back what room is left over."
            ))),
            Ok(()) if !has_served => {}
            Ok(()) if read_only => lines.push(Line::Good(format!("Closed {name}."))),
            Ok(()) => {
                lines.push(Line::Good(format!("Closed {name}: everything written is in it, and it is clean.")))
            }
        }
    }
    lines
}

/// Says it; gives the exit code.
pub(super) fn tell(lines: Vec<Line>) -> u8 {
    let mut code = 0;
    for line in lines {
        match line {
            Line::Good(line) => say(&line),
            Line::Bad(line) => {
                output::complain(&line);
                code = 1;
            }
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_images_the_one_that_was_not_closed_is_named() {
        let failed = quod::Error::io("the file cannot be flushed", std::io::Error::from_raw_os_error(5));
        let closed = vec![("a.qed".into(), Ok(())), ("b.qed".into(), Err(failed)), ("c.qed".into(), Ok(()))];
        let lines = judge(Ok(Summary::default()), closed, false);
        assert!(matches!(&lines[0], Line::Good(line) if line.starts_with("Closed a.qed: ")), "{lines:?}");
        assert!(matches!(&lines[1], Line::Bad(line) if line.starts_with("b.qed was not closed in order: ")));
        assert!(matches!(&lines[2], Line::Good(line) if line.starts_with("Closed c.qed: ")), "{lines:?}");
        assert_eq!(tell(lines), 1);
    }
}

//! The console of a job: its sections, and of its lines those that are looked at.
//!
//! A console may have millions of lines. What the page gets of it is an outline, cut into chunks of
//! [`CHUNK`] lines; a chunk is filled when it is looked at. Without a script it is a link to the
//! page with that chunk filled.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::console::{Console, Outcome, Outline, Section, SectionKind, ShownLine};

use super::ansi::{self, Line, Span};

/// Lines that are loaded together.
pub(super) const CHUNK: u64 = 500;
/// A console of so many lines is in the page as a whole.
const SMALL: u64 = 2000;
/// The most that one page lets people scroll through: browsers can draw no higher box.
const MOST: u64 = 1_000_000;
/// Lines that a search shows.
const MOST_FOUND: usize = 500;
/// Bytes of the longest text that is searched for.
const LONGEST_SEARCH: usize = 1000;

/// The part of a page.
pub(super) struct View {
    /// Lines there are.
    pub(super) lines: u64,
    /// The first line of the page's part.
    pub(super) base: u64,
    /// The line to show first, if it is not the first.
    pub(super) focus: Option<u64>,
    pub(super) items: Vec<Item>,
    /// Where the parts before and after this one begin.
    pub(super) earlier: Option<u64>,
    pub(super) later: Option<u64>,
    pub(super) found: Option<Search>,
}

pub(super) enum Item {
    Lines(Chunk),
    Section(Fold),
}

/// A section that folds.
pub(super) struct Fold {
    pub(super) first: u64,
    pub(super) tone: &'static str,
    pub(super) mark: &'static str,
    /// What the mark means.
    pub(super) word: &'static str,
    pub(super) title: Vec<Span>,
    /// The line that is the title itself.
    pub(super) number: Option<u64>,
    pub(super) took: Option<String>,
    pub(super) open: bool,
    pub(super) chunks: Vec<Chunk>,
}

/// Lines that are loaded together; none yet, or all.
pub(super) struct Chunk {
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) rows: Vec<Row>,
}

pub(super) struct Row {
    /// From 1, as people count.
    pub(super) number: u64,
    pub(super) line: Line,
}

pub(super) struct Search {
    pub(super) text: String,
    pub(super) count: u64,
    pub(super) rows: Vec<(u64, String)>,
}

/// What to show.
#[derive(Clone, Debug, Default)]
pub(super) struct Wish {
    /// A line, from 1.
    pub(super) line: Option<u64>,
    pub(super) search: String,
}

impl Chunk {
    /// The last of its lines, from 1.
    pub(super) fn last(&self) -> u64 {
        self.first + self.count
    }
}

/// The lines there are to show: one without an end only once nothing follows.
pub(super) fn shown_lines(outline: &Outline, over: bool) -> u64 {
    outline.lines + u64::from(over && outline.has_rest)
}

/// The console as a page has it at first.
pub(super) async fn view(console: &Arc<Console>, over: bool, wish: &Wish) -> io::Result<View> {
    let outline = Arc::clone(console).outline().await?;
    let lines = shown_lines(&outline, over);
    let focus = match wish.line {
        Some(line) => line.saturating_sub(1).min(lines.saturating_sub(1)),
        None if over => first_failure(&outline),
        None => lines.saturating_sub(1),
    };
    let base = base_of(focus, lines);
    let window = base..lines.min(base + MOST);
    let mut items = items(&outline, window.clone(), over, focus);
    fill_titles(console, &mut items).await?;
    let wanted = if lines <= SMALL {
        0..lines
    } else {
        focus.saturating_sub(CHUNK)..focus + CHUNK / 2
    };
    fill(console, &mut items, wanted).await?;
    Ok(View {
        lines,
        base,
        focus: (wish.line.is_some() || focus > 0).then_some(focus + 1),
        items,
        earlier: (base > 0).then(|| base.saturating_sub(MOST / 2) + 1),
        later: (window.end < lines).then_some(window.end + 1),
        found: search(console, &wish.search).await?,
    })
}

/// What a page that knows the lines up to `since` does not know yet.
pub(super) async fn growth(
    console: &Arc<Console>,
    outline: &Outline,
    over: bool,
    base: u64,
    since: u64,
) -> io::Result<Vec<Item>> {
    let lines = shown_lines(outline, over);
    let window = base..lines.min(base.saturating_add(2 * MOST));
    let mut items = items(outline, window, over, lines);
    items.retain_mut(|item| match item {
        Item::Lines(chunk) => chunk.last() > since,
        Item::Section(fold) => {
            let end = fold.chunks.last().map_or(fold.first + 1, Chunk::last);
            // Its outcome may have come with its last line.
            let touched = end >= since;
            fold.chunks.retain(|chunk| chunk.last() > since);
            touched
        }
    });
    fill_titles(console, &mut items).await?;
    Ok(items)
}

/// The lines of one chunk.
pub(super) async fn rows(console: &Arc<Console>, from: u64, count: u64) -> io::Result<Vec<Row>> {
    let lines = Arc::clone(console).lines(from, count.min(CHUNK)).await?;
    Ok(number(from, &lines))
}

fn number(from: u64, lines: &[ShownLine]) -> Vec<Row> {
    let numbers = from + 1..;
    let rows = numbers.zip(lines);
    rows.map(|(number, line)| Row {
        number,
        line: ansi::line(line),
    })
    .collect()
}

/// Where the part of the page begins: such that what is to be seen has room on both sides.
fn base_of(focus: u64, lines: u64) -> u64 {
    if lines <= MOST {
        return 0;
    }
    let half = MOST / 2;
    (focus / half).saturating_sub(1) * half
}

/// The end of the first task that failed, or the beginning.
fn first_failure(outline: &Outline) -> u64 {
    let failed = outline.sections.iter().find(|section| is_bad(section));
    failed.map_or(0, |section| section.first + section.lines - 1)
}

fn is_bad(section: &Section) -> bool {
    matches!(section.outcome, Some(Outcome::Failed | Outcome::Cancelled))
}

/// Sections and what is between them, cut into chunks, none filled.
fn items(outline: &Outline, window: Range<u64>, over: bool, focus: u64) -> Vec<Item> {
    let failed = outline.sections.iter().any(is_bad);
    let mut items = Vec::new();
    let mut at = window.start;
    for section in &outline.sections {
        let (begin, end) = (section.first, section.first + section.lines);
        if end <= window.start || begin >= window.end {
            continue;
        }
        items.extend(chunks(at..begin).into_iter().map(Item::Lines));
        let active = !over && !section.closed;
        let (mark, word, tone) = match section.outcome {
            Some(Outcome::Passed) => ("\u{2713}", "passed", "good"),
            Some(Outcome::Failed) => ("\u{2717}", "failed", "bad"),
            Some(Outcome::Cancelled) => ("\u{2298}", "cancelled", "bad"),
            None if active => ("\u{25cf}", "running", "busy"),
            None => ("", "", ""),
        };
        let is_task = matches!(section.kind, SectionKind::Task | SectionKind::CancelTask);
        let inner = begin + u64::from(is_task);
        let open =
            active || is_bad(section) || (is_task && !failed) || (begin..end).contains(&focus);
        items.push(Item::Section(Fold {
            first: begin,
            tone,
            mark,
            word,
            title: match section.kind {
                SectionKind::Prepare => text("Preparing"),
                SectionKind::Publish => text("Publishing artifacts"),
                SectionKind::Task | SectionKind::CancelTask => Vec::new(),
            },
            number: is_task.then_some(begin + 1),
            took: section
                .duration()
                .map(|took| crate::cli::duration(i64::from(took))),
            open,
            chunks: chunks(inner.max(window.start)..end.min(window.end)),
        }));
        at = end;
    }
    items.extend(chunks(at..window.end).into_iter().map(Item::Lines));
    items
}

fn text(text: &str) -> Vec<Span> {
    vec![Span {
        class: String::new(),
        text: text.to_owned(),
    }]
}

fn chunks(mut lines: Range<u64>) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    while lines.start < lines.end {
        let count = CHUNK.min(lines.end - lines.start);
        chunks.push(Chunk {
            first: lines.start,
            count,
            rows: Vec::new(),
        });
        lines.start += count;
    }
    chunks
}

/// Reads the commands that tasks begin with.
async fn fill_titles(console: &Arc<Console>, items: &mut [Item]) -> io::Result<()> {
    for item in items {
        if let Item::Section(fold) = item
            && fold.number.is_some()
            && let Some(line) = Arc::clone(console).lines(fold.first, 1).await?.first()
        {
            fold.title = ansi::line(line).spans;
        }
    }
    Ok(())
}

/// Fills the chunks that hold any of these lines.
async fn fill(console: &Arc<Console>, items: &mut [Item], wanted: Range<u64>) -> io::Result<()> {
    let chunks = items.iter_mut().flat_map(|item| match item {
        Item::Lines(chunk) => std::slice::from_mut(chunk),
        Item::Section(fold) => fold.chunks.as_mut_slice(),
    });
    for chunk in chunks {
        if chunk.first < wanted.end && chunk.last() > wanted.start {
            chunk.rows = rows(console, chunk.first, chunk.count).await?;
        }
    }
    Ok(())
}

async fn search(console: &Arc<Console>, asked: &str) -> io::Result<Option<Search>> {
    let text = &asked[..asked.floor_char_boundary(LONGEST_SEARCH)];
    if text.is_empty() {
        return Ok(None);
    }
    let found = Arc::clone(console).search(text, MOST_FOUND).await?;
    let rows = found.lines.iter();
    Ok(Some(Search {
        text: text.to_owned(),
        count: found.count,
        rows: rows
            .map(|(number, line)| (number + 1, ansi::plain(line)))
            .collect(),
    }))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures_util::stream;
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::console::Consoles;

    async fn console(folder: &std::path::Path, text: String) -> Arc<Console> {
        let console = Consoles::new(folder.to_path_buf()).of(1);
        let body = stream::iter([Ok::<_, Infallible>(Bytes::from(text))]);
        console.append(None, body).await.unwrap();
        console
    }

    fn shape(items: &[Item]) -> Vec<String> {
        let chunk = |one: &Chunk| {
            format!(
                "{}+{}{}",
                one.first,
                one.count,
                if one.rows.is_empty() { "" } else { "!" }
            )
        };
        let items = items.iter();
        items
            .map(|item| match item {
                Item::Lines(one) => chunk(one),
                Item::Section(fold) => {
                    let chunks: Vec<_> = fold.chunks.iter().map(chunk).collect();
                    let open = if fold.open { "open" } else { "shut" };
                    format!("{}{} {open} {}", fold.first, fold.mark, chunks.join(" "))
                }
            })
            .collect()
    }

    fn job(lines: u64, end: &str) -> String {
        let mut text = String::from(
            "##|00:00:00.000 begin\npr|00:00:00.000 fetch\n!!|00:00:01.000 [go] Task: make\n",
        );
        for line in 0..lines {
            text.push_str(&format!("&1|00:00:01.000 line {line}\n"));
        }
        text.push_str(end);
        text
    }

    #[tokio::test]
    async fn a_small_console_is_whole_and_a_large_one_is_filled_where_it_matters() {
        let folder = tempfile::tempdir().unwrap();
        let small = console(
            folder.path(),
            job(3, "?0|00:00:02.500 ok\nj0|00:00:03.000 done\nno end"),
        )
        .await;
        let got = view(&small, true, &Wish::default()).await.unwrap();
        assert_eq!(
            shape(&got.items),
            ["0+1!", "1 shut 1+1!", "2\u{2713} open 3+4!", "7+2!"]
        );
        let Item::Section(task) = &got.items[2] else {
            panic!()
        };
        assert_eq!(
            (
                task.title[0].text.as_str(),
                task.number,
                task.took.as_deref()
            ),
            ("[go] Task: make", Some(3), Some("1.500 s"))
        );
        // While it runs, the last line is not whole yet.
        let got = view(&small, false, &Wish::default()).await.unwrap();
        assert_eq!((got.lines, got.focus), (8, Some(8)));

        let folder = tempfile::tempdir().unwrap();
        let large = console(
            folder.path(),
            job(3000, "?1|00:00:02.500 bad\nj1|00:00:03.000 done\n"),
        )
        .await;
        let got = view(&large, true, &Wish::default()).await.unwrap();
        assert_eq!((got.lines, got.focus), (3005, Some(3004)));
        let shown = shape(&got.items);
        assert_eq!(
            shown[2],
            "2\u{2717} open 3+500 503+500 1003+500 1503+500 2003+500 2503+500! 3003+1!"
        );
        let wish = Wish {
            line: Some(2),
            search: "LINE 29".to_owned(),
        };
        let got = view(&large, true, &wish).await.unwrap();
        let found = got.found.unwrap();
        assert_eq!(
            (found.count, found.rows[0].clone()),
            (111, (33, "line 29".to_owned()))
        );
        assert_eq!(shape(&got.items)[..2], ["0+1!", "1 open 1+1!"]);
    }

    #[tokio::test]
    async fn a_page_gets_what_it_does_not_know() {
        let folder = tempfile::tempdir().unwrap();
        let console = console(
            folder.path(),
            job(700, "?0|00:00:02.500 ok\nar|00:00:03.000 send\n"),
        )
        .await;
        let outline = Arc::clone(&console).outline().await.unwrap();
        let got = growth(&console, &outline, false, 0, 600).await.unwrap();
        assert_eq!(
            shape(&got),
            ["2\u{2713} open 503+201", "704\u{25cf} open 704+1"]
        );
        let got = growth(&console, &outline, true, 0, 704).await.unwrap();
        assert_eq!(shape(&got), ["2\u{2713} open ", "704 shut 704+1"]);
    }

    #[test]
    fn more_than_a_browser_can_draw_is_shown_in_parts() {
        let outline = |lines| Outline {
            lines,
            ..Outline::default()
        };
        assert_eq!(base_of(999_999, 1_000_000), 0);
        assert_eq!(base_of(0, 3_000_000), 0);
        assert_eq!(base_of(2_999_999, 3_000_000), 2_000_000);
        assert_eq!(base_of(1_600_000, 3_000_000), 1_000_000);
        let got = items(&outline(3_000_000), 1_000_000..2_000_000, true, 1_600_000);
        assert_eq!(got.len() as u64, MOST / CHUNK);
        assert_eq!(shape(&got)[0], "1000000+500");
    }
}

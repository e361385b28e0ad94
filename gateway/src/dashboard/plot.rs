//! Plots, drawn on the server. Each says in words what it shows, for those who do not see it.

use maud::{Markup, html};

use super::Minute;

const WIDTH: u64 = 720;
const HEIGHT: u64 = 120;
/// A plot of bars: its width, and the height of a bar with its words.
const ACROSS: u64 = 280;
const ROW: u64 = 36;
/// Bars in a plot; what is left over makes one more.
const BARS: usize = 7;
/// The longest name beside a bar, in characters.
const NAME: usize = 34;

/// Bars of permitted and refused decisions by minute.
pub(super) fn minutes(minutes: &[Minute]) -> Markup {
    let sum = |of: fn(&Minute) -> u64| minutes.iter().map(of).fold(0_u64, u64::saturating_add);
    let (permitted, refused) = (sum(|minute| minute.permitted), sum(|minute| minute.refused));
    let most = minutes.iter().map(|minute| minute.permitted.saturating_add(minute.refused)).max().unwrap_or(0);
    let count = u64::try_from(minutes.len()).unwrap_or(u64::MAX).max(1);
    let step = WIDTH.checked_div(count).unwrap_or(WIDTH).max(1);
    let tall = |value: u64| value.saturating_mul(HEIGHT).checked_div(most.max(1)).unwrap_or(0);
    let words = format!(
        "Decisions in the last {count} minutes: {permitted} permitted, {refused} refused, at most {most} a minute."
    );
    html! {
        figure.wide {
            h3 #plot-minutes { "Decisions by minute" }
            div.axis { span { (most) " a minute" } span { span.key.permitted { "permitted" } " " span.key.refused { "refused" } } }
            svg.minutes viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-labelledby="minutes-title minutes-words" preserveAspectRatio="none" {
                title #minutes-title { "Decisions by minute" }
                desc #minutes-words { (words) }
                @for quarter in 1..4_u64 {
                    @let y = HEIGHT.saturating_mul(quarter).checked_div(4).unwrap_or(0);
                    line x1="0" x2=(WIDTH) y1=(y) y2=(y) {}
                }
                @for (index, minute) in (0_u64..).zip(minutes) {
                    @let (permitted, refused) = (tall(minute.permitted), tall(minute.refused));
                    @let x = index.saturating_mul(step);
                    @let width = step.saturating_sub(2).max(1);
                    rect.permitted x=(x) y=(HEIGHT.saturating_sub(permitted)) width=(width) height=(permitted) {}
                    rect.refused x=(x) y=(HEIGHT.saturating_sub(permitted).saturating_sub(refused)) width=(width) height=(refused) {}
                }
            }
            div.axis { span { (count) " minutes ago" } span { "now" } }
            figcaption { (words) }
        }
    }
}

/// What a plot of bars shows.
pub(super) struct Bars<'a> {
    /// Names its parts; of letters.
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    /// What is counted.
    pub(super) of: &'a str,
    /// The colour of the bars: a class of the style sheet.
    pub(super) class: &'a str,
    /// What is said where nothing is counted.
    pub(super) nothing: &'a str,
}

/// A bar for each name, the longest first, the least of them taken together.
pub(super) fn ranked(bars: &Bars<'_>, totals: &[(String, u64)]) -> Markup {
    let mut sorted = totals.to_vec();
    sorted.sort_by(|(a, x), (b, y)| y.cmp(x).then_with(|| a.cmp(b)));
    let rest = sorted.split_off(BARS.min(sorted.len()));
    if !rest.is_empty() {
        let sum = rest.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
        sorted.push((format!("{} others", rest.len()), sum));
    }
    drawn(bars, &sorted, None)
}

/// How durations spread: counts between bounds in seconds, from the first that holds any to the last.
pub(super) fn spread(bars: &Bars<'_>, spread: &[(f64, u64)]) -> Markup {
    let first = spread.iter().position(|(_, count)| *count > 0).unwrap_or(0);
    let past = spread.iter().rposition(|(_, count)| *count > 0).map_or(0, |last| last.saturating_add(1));
    let named: Vec<_> = spread
        .iter()
        .take(past)
        .skip(first)
        .map(|(bound, count)| (if bound.is_finite() { span(*bound) } else { "longer".to_owned() }, *count))
        .collect();
    let within = |of_a_thousand| quantile(spread, of_a_thousand).map_or_else(|| "longer than 10 s".to_owned(), span);
    let words = format!("Half {}, 99 of 100 {}.", within(500), within(990));
    drawn(bars, &named, Some(&words))
}

fn span(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("within {} ms", (seconds * 10_000.0).round() / 10.0)
    } else {
        format!("within {seconds} s")
    }
}

/// The bound within which so many of a thousand lie, if it is finite.
fn quantile(spread: &[(f64, u64)], of_a_thousand: u64) -> Option<f64> {
    let all = spread.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
    let wanted = all.saturating_mul(of_a_thousand).div_ceil(1000);
    let mut so_far = 0_u64;
    let reached = spread.iter().find(|(_, count)| {
        so_far = so_far.saturating_add(*count);
        so_far >= wanted
    });
    reached.map(|(bound, _)| *bound).filter(|bound| bound.is_finite())
}

fn drawn(bars: &Bars<'_>, rows: &[(String, u64)], besides: Option<&str>) -> Markup {
    let Bars { id, title, of, class, nothing } = *bars;
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    let all = rows.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
    let each: Vec<_> = rows.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let words = format!("{all} {of}: {}.", each.join(", "));
    let height = ROW.saturating_mul(u64::try_from(rows.len()).unwrap_or(u64::MAX));
    html! {
        figure {
            h3 { (title) }
            @if rows.is_empty() { p.none { (nothing) } }
            @else {
                svg.bars viewBox=(format!("0 0 {ACROSS} {height}")) role="img" aria-labelledby=(format!("{id}-title {id}-words")) {
                    title id=(format!("{id}-title")) { (title) }
                    desc id=(format!("{id}-words")) { (words) }
                    @for (index, (name, count)) in (0_u64..).zip(rows) {
                        @let y = index.saturating_mul(ROW);
                        @let width = count.saturating_mul(ACROSS).checked_div(most).unwrap_or(0).max(u64::from(*count > 0).saturating_mul(2));
                        text x="0" y=(y.saturating_add(14)) { (short(name)) }
                        text.count x=(ACROSS) y=(y.saturating_add(14)) { (count) }
                        rect.track x="0" y=(y.saturating_add(20)) width=(ACROSS) height="8" rx="2" {}
                        rect class=(class) x="0" y=(y.saturating_add(20)) width=(width) height="8" rx="2" {}
                    }
                }
                figcaption { (all) " " (of) "." @if let Some(besides) = besides { " " (besides) } }
            }
        }
    }
}

fn short(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    name.chars().take(NAME.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARS_OF: Bars<'_> =
        Bars { id: "reasons", title: "Reasons", of: "refusals", class: "refused", nothing: "Nothing was refused." };

    #[test]
    fn the_longest_bar_comes_first_and_the_least_are_taken_together() {
        let totals: Vec<_> = (1..=9).map(|n| (format!("reason-{n}"), n)).collect();
        let plot = ranked(&BARS_OF, &totals).into_string();
        assert!(plot.contains("45 refusals: reason-9 9, reason-8 8, "), "{plot}");
        assert!(plot.contains("reason-3 3, 2 others 3."), "{plot}");
        assert!(ranked(&BARS_OF, &[]).into_string().contains("Nothing was refused."));
    }

    #[test]
    fn durations_are_shown_between_the_first_and_the_last_that_any_had() {
        let plot = spread(&BARS_OF, &[(0.001, 0), (0.0025, 98), (0.005, 1), (0.01, 1), (f64::INFINITY, 0)]);
        let plot = plot.into_string();
        assert!(plot.contains("within 2.5 ms 98, within 5 ms 1, within 10 ms 1."), "{plot}");
        assert!(plot.contains("Half within 2.5 ms, 99 of 100 within 5 ms."), "{plot}");
        let slow = spread(&BARS_OF, &[(10.0, 1), (f64::INFINITY, 9)]).into_string();
        assert!(slow.contains("Half longer than 10 s") && slow.contains("longer 9"), "{slow}");
    }

    #[test]
    fn a_long_name_is_cut() {
        assert_eq!(short(&"é".repeat(50)).chars().count(), NAME);
        assert_eq!(short("short"), "short");
    }
}

//! The last hour as a plot: bars, drawn on the server.

use maud::{Markup, html};

use super::Minute;

const WIDTH: u64 = 720;
const HEIGHT: u64 = 120;

/// Bars of permitted and refused decisions by minute, with what it shows in words for those who do not see it.
pub(super) fn minutes(minutes: &[Minute]) -> Markup {
    let sum = |of: fn(&Minute) -> u64| minutes.iter().map(of).fold(0_u64, u64::saturating_add);
    let (permitted, refused) = (sum(|minute| minute.permitted), sum(|minute| minute.refused));
    let most = minutes.iter().map(|minute| minute.permitted.saturating_add(minute.refused)).max().unwrap_or(0).max(1);
    let count = u64::try_from(minutes.len()).unwrap_or(u64::MAX).max(1);
    let step = WIDTH.checked_div(count).unwrap_or(WIDTH).max(1);
    let tall = |value: u64| value.saturating_mul(HEIGHT).checked_div(most).unwrap_or(0);
    let words = format!(
        "Decisions in the last {count} minutes: {permitted} permitted, {refused} refused, at most {most} a minute."
    );
    html! {
        figure {
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(words) preserveAspectRatio="none" {
                @for (index, minute) in (0_u64..).zip(minutes) {
                    @let (permitted, refused) = (tall(minute.permitted), tall(minute.refused));
                    @let x = index.saturating_mul(step);
                    @let width = step.saturating_sub(2).max(1);
                    rect.permitted x=(x) y=(HEIGHT.saturating_sub(permitted)) width=(width) height=(permitted) {}
                    rect.refused x=(x) y=(HEIGHT.saturating_sub(permitted).saturating_sub(refused)) width=(width) height=(refused) {}
                }
            }
            figcaption { (words) " " span.key.permitted { "permitted" } " " span.key.refused { "refused" } }
        }
    }
}
